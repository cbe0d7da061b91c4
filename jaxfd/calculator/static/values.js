// The panel of typed values.
import { around, draw } from "./chart.js";
import { $, Asker, Form, copy, element, rows } from "./page.js";

const DEFAULTS = { f0: "16.6667", f1: "16.6638", h: "0.001", x: "5", fb: "", exact: "no" };

export function values(save) {
  const panel = $("values");
  let last = null;
  const form = new Form(panel, ask);
  const asker = new Asker("/api/values", (busy) => form.results.setAttribute("aria-busy", busy), show, refuse);

  function ask() {
    save();
    asker.ask(form.fields());
  }

  function refuse(answer) {
    form.problems(answer.messages);
    if (last) form.stale(`${last.differences[0].formula}`);
  }

  function show(answer) {
    last = answer;
    form.problems({});
    form.stale("");
    const several = answer.differences.length > 1;
    $("values-gradient").replaceChildren(
      ...answer.differences.flatMap((d, k) => [
        ...(k ? [element("br")] : []),
        d.gradient,
        ...(several ? [element("span", { class: "small" }, ` ${d.name}`)] : []),
      ]),
    );
    $("values-formulas").replaceChildren(
      ...answer.differences.flatMap((d) => {
        const list = element("dl");
        const line = (name, text) => list.append(element("dt", {}, name), element("dd", {}, text));
        line("Numerator", d.numerator);
        line("Denominator", d.denominator);
        line("h", answer.step);
        line(d.symbols, d.formula);
        if (d.low !== d.high) line("Between", `${d.low} and ${d.high}`);
        const head = several ? [element("h3", {}, d.name)] : [];
        return [...head, list, element("p", { class: "hint" }, d.survived)];
      }),
    );
    rows($("values-rows"), answer.rows.map((r) => ({ cells: [r.point, r.at, r.f, r.estimate && `${r.estimate} (${r.kind})`] })));
    picture();
  }

  function picture() {
    if (!last || panel.hidden) return;
    const points = last.points;
    const base = points.find((p) => p.name === "x");
    const domain = around(points.map((p) => p.x), 0.4);
    const line = domain.map((x) => [x, base.y + last.slope * (x - base.x)]);
    draw($("values-chart"), {
      label: `A line of slope ${last.gradient} through ${points.map((p) => `(${p.x}, ${p.y})`).join(" and ")}`,
      x: { domain, name: "x" },
      y: { domain: around([...line.map((p) => p[1]), ...points.map((p) => p.y)]), name: "f" },
      lines: [{ kind: "secant", points: line, name: `slope ${last.gradient}` }],
      dots: points.map((p) => ({ x: p.x, y: p.y, name: p.name.replace("-", "−"), slope: last.slope })),
    });
  }

  panel.addEventListener("click", (event) => {
    const what = event.target.dataset.do;
    if (what === "copy" && last) copy(last.copy, "Results");
    if (what === "reset") {
      form.fill(DEFAULTS);
      ask();
    }
  });
  form.fill(DEFAULTS);
  return { fields: () => form.fields(), load: (given) => form.fill({ ...DEFAULTS, ...given }), ask, picture };
}
