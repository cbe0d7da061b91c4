// What every panel shares: fields and their messages, questions to the server, copying, state.

export const $ = (id) => document.getElementById(id);

export function element(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.append(...children);
  return made;
}

let quiet;
export function say(text) {
  clearTimeout(quiet);
  $("status").textContent = text;
  quiet = setTimeout(() => ($("status").textContent = ""), 4000);
}

export async function copy(text, what) {
  try {
    await navigator.clipboard.writeText(text);
  } catch {
    const area = element("textarea");
    area.value = text;
    document.body.append(area);
    area.select();
    const done = document.execCommand("copy");
    area.remove();
    if (!done) return say("The browser does not let this page copy.");
  }
  return say(`${what} copied.`);
}

const LONGEST = 1000; // what is pasted beyond that is too long in any case, and is not sent whole

// One question under way at a time; of those asked meanwhile only the last is sent.
export class Asker {
  constructor(path, busy, answered, refused) {
    Object.assign(this, { path, busy, answered, refused, next: null, running: false });
  }

  ask(fields) {
    this.next = fields;
    if (!this.running) this.run();
  }

  async run() {
    this.running = true;
    this.busy(true);
    while (this.next) {
      const fields = Object.fromEntries(Object.entries(this.next).map(([k, v]) => [k, v.slice(0, LONGEST)]));
      this.next = null;
      let answer;
      try {
        const response = await fetch(this.path, { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(fields) });
        const type = response.headers.get("Content-Type") || "";
        answer = type.includes("json") ? await response.json() : { messages: { "": await response.text() } };
      } catch {
        answer = { messages: { "": "The calculator does not answer: is its command still running?" } };
      }
      if (this.next) continue; // what was typed meanwhile makes this one old
      if (answer.messages) this.refused(answer, fields);
      else this.answered(answer, fields);
    }
    this.running = false;
    this.busy(false);
  }
}

// Fields of a panel, with a place for a message beside each.
export class Form {
  constructor(panel, changed) {
    this.panel = panel;
    this.form = panel.querySelector("form");
    this.general = panel.querySelector("[data-general]");
    this.results = panel.querySelector(".results");
    this.note = panel.querySelector(".stale-note");
    for (const input of panel.querySelectorAll("[data-field]")) this.prepare(input);
    this.general.setAttribute("aria-live", "polite");
    panel.addEventListener("input", (event) => event.target.closest("input, select") && changed(event.target));
    this.form.addEventListener("submit", (event) => {
      event.preventDefault();
      changed(null);
    });
  }

  prepare(input) {
    const problem = element("p", { class: "problem", id: `${input.id}-problem`, "aria-live": "polite" });
    input.closest(".field").append(problem);
    const described = input.getAttribute("aria-describedby");
    input.setAttribute("aria-describedby", described ? `${input.id}-problem ${described}` : problem.id);
  }

  inputs() {
    return [...this.panel.querySelectorAll("[data-field]")];
  }

  fields() {
    const found = {};
    for (const input of this.inputs()) found[input.dataset.field] = input.type === "checkbox" ? (input.checked ? "yes" : "no") : input.value;
    return found;
  }

  fill(values) {
    for (const input of this.inputs()) {
      const value = values[input.dataset.field];
      if (value === undefined) continue;
      if (input.type === "checkbox") input.checked = value === "yes";
      else input.value = value;
    }
  }

  // Shows messages beside their fields; the last good result stays.
  problems(messages) {
    const left = { ...messages };
    for (const input of this.inputs()) {
      const text = left[input.dataset.field] || "";
      delete left[input.dataset.field];
      const place = $(`${input.id}-problem`);
      if (place.textContent !== text) place.textContent = text;
      if (text) input.setAttribute("aria-invalid", "true");
      else input.removeAttribute("aria-invalid");
    }
    this.general.textContent = Object.values(left).join(" ");
  }

  stale(what) {
    this.results.classList.toggle("stale", Boolean(what));
    this.note.hidden = !what;
    this.note.textContent = what ? `The last good result: ${what}.` : "";
  }
}

export function rows(place, lines) {
  place.replaceChildren(
    ...lines.map(({ cells, best }) => {
      const line = element("tr", best ? { class: "best" } : {});
      cells.forEach((cell, k) => line.append(k ? element("td", {}, cell) : element("th", { scope: "row" }, cell)));
      return line;
    }),
  );
}
