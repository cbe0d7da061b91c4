// The panel of one neuron.
import { around, draw } from "./chart.js";
import { $, Asker, Form, element, rows } from "./page.js";

const DEFAULTS = { x1: "1", x2: "-0.5", w1: "0.4", w2: "0.3", b: "0", t: "0.9", a: "tanh", h: "0.001", r: "0.1" };
const MOST = 400; // losses drawn

export function neuron(save) {
  const panel = $("neuron");
  let last = null;
  let start = null;
  let losses = [];
  const form = new Form(panel, () => fresh());
  const asker = new Asker("/api/neuron", (busy) => form.results.setAttribute("aria-busy", busy), show, refuse);

  // What is typed begins a new descent.
  function fresh() {
    losses = [];
    start = null;
    ask(0);
  }

  function ask(steps = 0) {
    save();
    asker.ask({ ...form.fields(), steps: String(steps) });
  }

  function refuse(answer) {
    form.problems(answer.messages);
    if (last) form.stale(`a loss of ${last.loss}`);
    else $("neuron-loss").replaceChildren();
  }

  function show(answer, asked) {
    last = answer;
    form.problems({});
    form.stale("");
    if (!start) start = { ...asked };
    losses = (losses.length ? [...losses, ...answer.losses.slice(1)] : answer.losses).slice(-MOST);
    if (asked.steps !== "0") {
      form.fill(answer.parameters);
      save();
    }
    $("neuron-loss").replaceChildren(answer.loss, element("span", { class: "small" }, ` after ${losses.length - 1} step${losses.length === 2 ? "" : "s"}`));
    $("neuron-output").textContent = `Output ${answer.output}, target ${form.fields().t}`;
    rows($("neuron-rows"), answer.rows.map((r) => ({ cells: [r.name, r.value, r.estimate, r.exact, r.error, r.next] })));
    $("neuron-note").textContent = answer.note;
    picture();
  }

  function picture() {
    if (!last || panel.hidden) return;
    draw($("neuron-chart"), {
      label: `The loss over ${losses.length - 1} steps, from ${losses[0]} to ${losses[losses.length - 1]}`,
      x: { domain: [-0.5, Math.max(10, losses.length - 0.5)], name: "step of gradient descent" },
      y: { domain: around([0, ...losses]), name: "loss" },
      lines: [{ kind: "vee", points: losses.map((l, k) => [k, l]), name: "loss" }],
      dots: losses.length < 60 ? losses.map((l, k) => ({ x: k, y: l })) : [],
    });
  }

  function load(given) {
    losses = [];
    start = null;
    form.fill({ ...DEFAULTS, ...given });
  }

  panel.addEventListener("click", (event) => {
    const what = event.target.dataset.do;
    if (what === "step") ask(1);
    if (what === "steps") ask(10);
    if (what === "back" && start) {
      load(start);
      ask();
    }
    if (what === "reset") {
      load({});
      ask();
    }
  });
  form.fill(DEFAULTS);
  return { fields: () => form.fields(), load, ask: () => ask(0), picture };
}
