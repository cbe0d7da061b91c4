// The panel of formulas.
import { around, draw, short } from "./chart.js";
import { EXAMPLES } from "./examples.js";
import { $, Asker, Form, copy, element, rows } from "./page.js";

const DEFAULTS = { e: "100/(x+1)", "x.x": "5", m: "forward", o: "1", h: "0.001", p: "64", n: "", v: "x", t: "10", w: "wide" };
const ORDERS = { forward: ["1", "2", "3", "4"], backward: ["1", "2", "3", "4"], central: ["2", "4", "6", "8"] };

export function formula(save) {
  const panel = $("formula");
  let last = null;
  let typing;
  let stepText = DEFAULTS.h;
  const kept = {}; // points of variables that come and go while a formula is typed
  const form = new Form(panel, changed);
  const asker = new Asker("/api/formula", busy, show, refuse);

  function busy(on) {
    form.results.setAttribute("aria-busy", on);
  }

  function changed(target) {
    if (target && target.id === "formula-auto") automatic();
    if (target && target.id === "formula-h") stepText = target.value;
    if (target && target.id === "formula-m") orders(true);
    clearTimeout(typing);
    // Half a formula is another formula: that is not compiled on each key.
    if (target && target.id === "formula-e") {
      busy(true);
      typing = setTimeout(ask, 250);
    } else ask();
  }

  function automatic() {
    const auto = $("formula-auto").checked;
    $("formula-h").disabled = auto || $("formula-m").value === "adaptive";
    $("formula-h").value = auto ? "" : stepText;
  }

  function orders(fresh) {
    const list = ORDERS[$("formula-m").value] || [];
    const before = $("formula-o").value;
    $("formula-o").replaceChildren(...list.map((o) => element("option", {}, o)));
    $("formula-o").disabled = !list.length;
    if (list.length) $("formula-o").value = !fresh && list.includes(before) ? before : list[0];
    $("formula-auto").disabled = $("formula-m").value === "adaptive";
    automatic();
  }

  function ask() {
    save();
    asker.ask(form.fields());
  }

  // An input for each variable, in their order; those that stay keep what was typed.
  function points(names) {
    const place = $("formula-point");
    const there = [...place.querySelectorAll("input")].map((input) => input.dataset.name);
    for (const input of place.querySelectorAll("input")) kept[input.dataset.name] = input.value;
    if (there.join() === names.join()) return false;
    place.replaceChildren();
    for (const name of names) {
      const id = `formula-x-${name}`;
      const input = element("input", { id, "data-field": `x.${name}`, "data-name": name, spellcheck: "false" });
      input.value = kept[name] === undefined ? "1" : kept[name];
      place.append(element("div", { class: "field" }, element("label", { for: id }, element("i", {}, name)), input));
      form.prepare(input);
    }
    $("formula-drawn").hidden = names.length < 2;
    const drawn = $("formula-v").value;
    $("formula-v").replaceChildren(...names.map((name) => element("option", {}, name)));
    $("formula-v").value = names.includes(drawn) ? drawn : names[0];
    return names.some((name) => kept[name] !== undefined && kept[name] !== "1");
  }

  function refuse(answer) {
    if (answer.variables) points(answer.variables);
    form.problems(answer.messages);
    if (answer.messages.e) $("formula-read").textContent = "";
    if (last) form.stale(last.about);
    else $("formula-gradient").replaceChildren();
  }

  function show(answer) {
    // A variable that is typed again has the place it had before: the answer is for another one.
    const asked = points(answer.variables);
    if (asked && answer.rows.some((r) => Number(r.point) !== Number(kept[r.name]) && r.point === "1" && kept[r.name] !== undefined)) {
      ask();
      return;
    }
    last = answer;
    form.problems({});
    form.stale("");
    $("formula-read").textContent = `Read as ${answer.read}`;
    const one = answer.rows.length === 1;
    const inner = answer.rows.map((r) => r.estimate).join(", ");
    $("formula-gradient").replaceChildren(
      element("span", { class: "small" }, one ? `df/d${answer.rows[0].name} ≈ ` : "gradient ≈ "),
      one ? inner : `(${inner})`,
    );
    $("formula-spent").textContent = `${answer.method}, ${answer.evaluations} evaluations with those for the error bar, f = ${answer.value}${one && answer.rows[0].full ? `; in full ${answer.rows[0].full}` : ""}`;
    rows($("formula-rows"), answer.rows.map((r) => ({
      cells: [`df/d${r.name}`, r.estimate, r.exact, r.error, bar(r), r.step],
    })));
    $("formula-notes").replaceChildren(...answer.notes.map((n) => element("li", {}, n)));
    $("formula-answer").textContent = answer.answer;
    rows($("formula-table"), answer.table.map((l) => ({ cells: [l.h, l.estimate, l.error, l.lost], best: l.best })));
    $("formula-snippet").textContent = answer.snippet;
    picture();
  }

  function bar(r) {
    const made = element("span", {}, r.bar.startsWith("un") ? r.bar : `± ${r.bar}`);
    if (r.within !== null) made.append(element("span", { class: r.within ? "good" : "bad" }, r.within ? " ✓ holds" : " ✗ missed"));
    return made;
  }

  function move(value) {
    stepText = String(Number(value.toPrecision(3)));
    if ($("formula-m").value === "adaptive") {
      $("formula-m").value = "central";
      orders(true);
    }
    $("formula-auto").checked = false;
    automatic();
    ask();
  }

  function picture() {
    if (!last || panel.hidden) return;
    drawCurve(last.curve, last.shown);
    drawVee(last.vee);
  }

  function drawCurve(c, name) {
    const domain = [c.x[0], c.x[c.x.length - 1]];
    const line = (slope) => domain.map((x) => [x, c.value + slope * (x - c.at)]);
    const [back, ahead] = [-1, 1].map((s) => c.points.find((p) => p.offset === s));
    // The secant goes through the two points that are subtracted; with more of them, or none, it
    // is a line of the estimated slope.
    const base = c.points.length === 2 && back && ahead ? back : { x: c.at, y: c.value };
    const secant = domain.map((x) => [x, base.y + c.slope * (x - base.x)]);
    const lines = [{ kind: "curve", points: c.x.map((x, k) => [x, c.y[k]]), name: "f" }, { kind: "secant", points: secant, name: `secant, slope ${short(c.slope)}` }];
    if (c.tangent !== null) lines.push({ kind: "tangent", points: line(c.tangent), name: `tangent, slope ${short(c.tangent)}` });
    const middle = c.x.map((x, k) => c.y[k]).filter((y) => y !== null).sort((a, b) => a - b);
    const [low, high] = [middle[Math.floor(middle.length * 0.04)], middle[Math.ceil(middle.length * 0.96) - 1]];
    const seen = middle.filter((y) => y >= low - 1.5 * (high - low) && y <= high + 1.5 * (high - low));
    const dots = c.points.filter((p) => p.y !== null).map((p) => ({ x: p.x, y: p.y }));
    if (!c.points.some((p) => p.offset === 0)) dots.push({ x: c.at, y: c.value });
    draw($("formula-chart"), {
      label: `The function over ${name} from ${short(domain[0])} to ${short(domain[1])}, a secant of slope ${short(c.slope)}${c.tangent === null ? "" : ` and a tangent of slope ${short(c.tangent)}`}`,
      x: { domain, name },
      y: { domain: around([...seen, c.value, ...dots.map((d) => d.y)]), name: "f" },
      lines,
      dots,
    });
  }

  function drawVee(v) {
    const known = v.h.map((h, k) => [h, v.error[k] === null ? null : Math.max(v.error[k], v.floor)]);
    const shown = known.map((p) => p[1]).filter((e) => e !== null);
    const at = v.at === null ? null : Math.max(v.at, v.floor);
    const all = at === null ? shown : [...shown, at];
    const low = all.length ? Math.min(...all) : 1e-16;
    const high = all.length ? Math.max(...all) : 1;
    const range = [v.h[0], v.h[v.h.length - 1]];
    draw($("formula-vee"), {
      label: `Error against step, from h = ${short(range[0])} to ${short(range[1])}`,
      x: { domain: [range[0] * 0.8, range[1] * 1.25], log: true, name: "step h" },
      y: { domain: [low / 3, Math.max(high * 3, low * 30)], log: true, name: "error" },
      lines: [{ kind: "vee", points: known, name: shown.length ? `error of ${v.method}` : "no error is known: there is no exact derivative" }],
      dots: known.filter((p) => p[1] !== null).map(([x, y]) => ({ x, y, kind: "small-dot" })),
      handle: {
        at: v.step, y: at === null ? low : at, range, label: "Step h",
        text: `h = ${short(v.step)}, error ${v.at === null ? "unknown" : short(v.at)}`,
        now: () => Number($("formula-h").value) || v.step,
        move,
      },
    });
  }

  function load(given) {
    const fields = { ...DEFAULTS, "x.x": undefined, ...given, auto: undefined };
    const names = Object.keys(given).filter((k) => k.startsWith("x.")).map((k) => k.slice(2)).sort();
    for (const key of Object.keys(kept)) delete kept[key];
    $("formula-point").replaceChildren();
    for (const name of names) kept[name] = given[`x.${name}`];
    points(names);
    if (given.h === undefined && given.e !== undefined) fields.h = "";
    stepText = fields.h || DEFAULTS.h;
    $("formula-m").value = fields.m;
    if (!$("formula-m").value) $("formula-m").value = DEFAULTS.m;
    orders(true);
    $("formula-auto").checked = !fields.h;
    form.fill(fields);
    if (!$("formula-o").value && !$("formula-o").disabled) orders(true);
    automatic();
    if (fields.h) $("formula-h").value = fields.h;
  }

  panel.addEventListener("click", (event) => {
    const what = event.target.dataset.do;
    if (what === "python" && last) copy(last.snippet, "Python program");
    if (what === "copy" && last) copy(last.copy, "Results");
    if (what === "reset") {
      load(DEFAULTS);
      ask();
    }
  });
  for (const example of EXAMPLES) {
    const button = element("button", { type: "button", title: example.about }, example.name);
    button.addEventListener("click", () => {
      load(example.state);
      ask();
    });
    panel.querySelector(".examples").append(button);
  }
  load(DEFAULTS);
  return { fields: () => form.fields(), load: (given) => load(Object.keys(given).length ? given : DEFAULTS), ask, picture };
}
