// The page of a function of one's own: a slider for each entry, sensitivities, error against step.
import { draw, node, short } from "./chart.js";
import { $, Asker, Form, copy, element, rows } from "./page.js";
import { theme } from "./theme.js";

const STEPS = 200; // of a slider
let start = {};
let form;
let last = null;
let sweep = null;

const busy = (on) => form.results.setAttribute("aria-busy", on || sensitivity.running || vee.running);
const sensitivity = new Asker("/api/sensitivity", busy, show, refuse);
const vee = new Asker("/api/sweep", busy, showSweep, refuse);

function save() {
  const state = new URLSearchParams(form.fields());
  history.replaceState(null, "", `#${state}`);
}

function ask() {
  save();
  sensitivity.ask(form.fields());
  vee.ask(form.fields());
}

function refuse(answer) {
  form.problems(answer.messages);
  if (last) form.stale(`a value of ${last.value}`);
  else $("model-value").replaceChildren();
}

function show(answer) {
  last = answer;
  form.problems({});
  form.stale("");
  $("model-value").textContent = answer.value;
  $("model-spent").textContent = `${answer.evaluations} evaluations`;
  const most = Math.max(1e-300, ...answer.rows.map((r) => Math.abs(r.weight)));
  const bar = (text) => (text.startsWith("un") ? text : `± ${text}`);
  rows($("model-rows"), answer.rows.map((r) => ({ cells: [r.name, r.derivative, bar(r.bar), r.elasticity, bar(r.elasticity_bar), drawn(r.weight / most)] })));
}

function drawn(share) {
  const width = 60 * Math.abs(share);
  return node("svg", { viewBox: "0 0 124 14", width: 124, height: 14, "aria-hidden": "true", class: "bar" },
    node("line", { x1: 62, x2: 62, y1: 0, y2: 14 }),
    node("rect", { x: share < 0 ? 62 - width : 62, y: 3, width, height: 8 }));
}

function showSweep(answer) {
  sweep = answer;
  picture();
}

function picture() {
  if (!sweep) return;
  const known = sweep.h.map((h, k) => [h, sweep.error[k]]).filter(([h, e]) => h > 0 && e > 0);
  $("model-sweep-note").textContent = `Against ${sweep.derivative} ± ${sweep.uncertainty}, which the adaptive method found; errors below that bar mean nothing. ${sweep.evaluations} evaluations.`;
  if (!known.length) {
    $("model-vee").replaceChildren("No error is seen at any step.");
    return;
  }
  const errors = known.map((p) => p[1]);
  const steps = known.map((p) => p[0]);
  draw($("model-vee"), {
    label: `Error against step for ${sweep.shown}. ${sweep.marks.map((m) => `${m.name} ${short(m.h)}, error ${short(m.error)}`).join("; ")}`,
    x: { domain: [Math.min(...steps) * 0.8, Math.max(...steps) * 1.25], log: true, name: `step of ${sweep.shown}` },
    y: { domain: [Math.min(...errors) / 3, Math.max(...errors) * 3], log: true, name: "error" },
    lines: [{ kind: "vee", points: known, name: "error of a central difference" }],
    dots: [...known.map(([x, y]) => ({ x, y, kind: "small-dot" })), ...sweep.marks.map((m, k) => ({ x: m.h, y: m.error, name: m.name, below: k > 0 }))],
  });
}

function slider(name, value) {
  const id = `model-x-${name}`;
  const reach = Math.abs(value) || 1;
  const number = element("input", { id, "data-field": `x.${name}`, inputmode: "decimal", spellcheck: "false" });
  const range = element("input", { type: "range", min: value - reach, max: value + reach, step: (2 * reach) / STEPS, "aria-label": `${name}, slider` });
  number.value = String(value);
  range.value = value;
  range.addEventListener("input", () => (number.value = String(Number(Number(range.value).toPrecision(12)))));
  number.addEventListener("input", () => Number.isFinite(Number(number.value)) && (range.value = number.value));
  return element("div", { class: "field" }, element("label", { for: id }, name), element("div", { class: "slider" }, number, range));
}

function fill(values) {
  form.fill(values);
  for (const input of form.inputs()) input.dispatchEvent(new Event("input")); // not bubbling: the sliders follow
}

function restore() {
  const values = {};
  for (const [name, text] of new URLSearchParams(location.hash.slice(1))) values[name] = text;
  fill(values);
  ask();
}

async function begin() {
  theme();
  const response = await fetch("/api/model", { method: "POST", body: "{}" });
  const about = await response.json();
  $("name").textContent = about.name;
  for (const [name, value] of Object.entries(about.entries)) {
    start[`x.${name}`] = String(value);
    $("model-point").append(slider(name, value));
    $("model-v").append(element("option", {}, name));
  }
  start.v = Object.keys(about.entries)[0];
  form = new Form($("model"), (target) => {
    if (target && target.id === "model-v") {
      save();
      vee.ask(form.fields());
    } else ask();
  });
  document.addEventListener("click", (event) => {
    const what = event.target.dataset.do;
    if (what === "link") copy(location.href, "Link");
    if (what === "reset") {
      fill(start);
      ask();
    }
  });
  new ResizeObserver(() => requestAnimationFrame(picture)).observe($("main"));
  window.addEventListener("hashchange", restore);
  restore();
}

begin();
