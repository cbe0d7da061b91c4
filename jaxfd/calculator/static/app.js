// The page: tabs, theme, the state in the address, and the questions.
import { QUESTIONS } from "./examples.js";
import { formula } from "./formula.js";
import { neuron } from "./neuron.js";
import { $, copy, element } from "./page.js";
import { theme } from "./theme.js";
import { values } from "./values.js";

const KEYS = /^(e|m|o|h|p|n|v|t|w|f0|f1|fb|x|exact|x1|x2|w1|w2|b|a|r|x\.[A-Za-z0-9_]{1,12})$/;
const tabs = [...document.querySelectorAll('[role="tab"]')];
const panels = { values: values(save), formula: formula(save), neuron: neuron(save) };
const asked = new Set();
let current = "values";

function save() {
  const fields = panels[current] ? panels[current].fields() : {};
  const state = new URLSearchParams({ tab: current });
  for (const [name, text] of Object.entries(fields)) if (text !== "" && text.length <= 400 && KEYS.test(name)) state.set(name, text);
  history.replaceState(null, "", `#${state}`);
}

function open(name, focus = false) {
  current = name;
  for (const tab of tabs) {
    const own = tab.getAttribute("aria-controls") === name;
    tab.setAttribute("aria-selected", own);
    tab.tabIndex = own ? 0 : -1;
    if (own && focus) tab.focus();
    $(tab.getAttribute("aria-controls")).hidden = !own;
  }
  if (!panels[name]) return save();
  if (asked.has(name)) {
    save();
    panels[name].picture();
  } else {
    asked.add(name);
    panels[name].ask();
  }
  return undefined;
}

// Fills a panel with a state and asks for its result.
function load(state) {
  const { tab, ...fields } = state;
  if (panels[tab]) {
    panels[tab].load(fields);
    asked.delete(tab);
  }
  open(tab);
}

function restore() {
  const state = {};
  for (const [name, text] of new URLSearchParams(location.hash.slice(1))) if (KEYS.test(name)) state[name] = text;
  const tab = new URLSearchParams(location.hash.slice(1)).get("tab");
  if (tab && $(`tab-${tab}`)) load({ tab, ...state });
  else open("values");
}

for (const tab of tabs) {
  tab.addEventListener("click", () => open(tab.getAttribute("aria-controls")));
  tab.addEventListener("keydown", (event) => {
    const moves = { ArrowRight: 1, ArrowLeft: -1 };
    let next = tabs.indexOf(tab) + (moves[event.key] || 0);
    if (event.key === "Home") next = 0;
    else if (event.key === "End") next = tabs.length - 1;
    else if (!moves[event.key]) return;
    event.preventDefault();
    open(tabs[(next + tabs.length) % tabs.length].getAttribute("aria-controls"), true);
  });
}

for (const question of QUESTIONS) {
  const button = element("button", { type: "button" }, "Show it");
  button.setAttribute("aria-label", `Show it: ${question.ask}`);
  button.addEventListener("click", () => {
    load(question.show);
    $(`tab-${question.show.tab}`).focus();
    window.scrollTo(0, 0);
  });
  document.querySelector(".answers").append(element("div", { class: "card" }, element("h3", {}, question.ask), element("p", {}, question.answer), button));
}

document.addEventListener("click", (event) => {
  if (event.target.dataset && event.target.dataset.do === "link") {
    save();
    copy(location.href, "Link");
  }
});

theme();

let resized;
new ResizeObserver(() => {
  cancelAnimationFrame(resized);
  resized = requestAnimationFrame(() => panels[current] && panels[current].picture());
}).observe($("main"));
window.addEventListener("hashchange", restore);
restore();
