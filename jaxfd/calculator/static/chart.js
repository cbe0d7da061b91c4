// Charts as SVG: lines, points, axes with round ticks, and a handle that is dragged.
// Must not know what is drawn.

const NS = "http://www.w3.org/2000/svg";

export function node(name, attributes = {}, ...children) {
  const made = document.createElementNS(NS, name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.append(...children);
  return made;
}

export function short(value) {
  if (value === 0) return "0";
  const size = Math.abs(value);
  const text = Number(value.toPrecision(4));
  return (size >= 1e5 || size < 1e-3 ? text.toExponential() : String(text)).replace("e+", "e").replace("-", "−").replace("e-", "e−");
}

function roundTicks(low, high, most) {
  const raw = (high - low) / most;
  const power = 10 ** Math.floor(Math.log10(raw));
  const step = [1, 2, 5, 10].map((m) => m * power).find((s) => s >= raw * 0.999);
  const ticks = [];
  for (let k = Math.ceil(low / step - 1e-9); k * step <= high + step * 1e-9 && ticks.length < 30; k += 1) ticks.push(k * step);
  return ticks;
}

// Ticks near one another, such as 5.0001 and 5.0002, need all of their digits.
function tickTexts(ticks) {
  if (ticks.length < 2) return ticks.map(short);
  const step = Math.abs(ticks[1] - ticks[0]);
  const largest = Math.max(...ticks.map(Math.abs));
  const digits = Math.ceil(Math.log10(largest / step) + 1e-9) + 1;
  if (digits <= 4 || digits > 15) return ticks.map((t) => (Math.abs(t) < step * 1e-6 ? "0" : short(t)));
  return ticks.map((t) => String(Number(t.toPrecision(digits))).replace("-", "−"));
}

function powers(low, high, most) {
  const first = Math.ceil(Math.log10(low) - 1e-9);
  const last = Math.floor(Math.log10(high) + 1e-9);
  const every = Math.max(1, Math.ceil((last - first + 1) / most));
  const ticks = [];
  for (let k = first; k <= last; k += 1) if (k % every === 0) ticks.push(10 ** k);
  return ticks;
}

const raised = { "-": "⁻", 0: "⁰", 1: "¹", 2: "²", 3: "³", 4: "⁴", 5: "⁵", 6: "⁶", 7: "⁷", 8: "⁸", 9: "⁹" };
const powerText = (value) => `10${[...String(Math.round(Math.log10(value)))].map((c) => raised[c]).join("")}`;

function axis(domain, range, log, most) {
  let [low, high] = domain;
  if (log) {
    const span = Math.log(high / low) || 1;
    const place = (v) => range[0] + ((range[1] - range[0]) * Math.log(v / low)) / span;
    const value = (p) => low * Math.exp((span * (p - range[0])) / (range[1] - range[0]));
    const ticks = powers(low, high, most);
    return { place, value, ticks, texts: ticks.map(powerText) };
  }
  const place = (v) => range[0] + ((range[1] - range[0]) * (v - low)) / (high - low);
  const value = (p) => low + ((high - low) * (p - range[0])) / (range[1] - range[0]);
  const ticks = roundTicks(low, high, most);
  return { place, value, ticks, texts: tickTexts(ticks) };
}

let clips = 0;

// what: { label, x: {domain, log, name}, y: {domain, log, name}, lines: [{kind, points, name}],
//         dots: [{x, y, name, kind, below, slope}], handle: {at, y, label, text, range, move(value)} }
export function draw(place, what) {
  const focused = place.contains(document.activeElement);
  const width = Math.max(280, place.clientWidth || 560);
  const height = Math.round(Math.min(340, Math.max(230, width * 0.58)));
  const most = width < 420 ? 4 : 6;
  const yAxis = axis(what.y.domain, [height - 42, 14], what.y.log, 5);
  const margin = 22 + 6.6 * Math.max(3, ...yAxis.texts.map((t) => t.length));
  const xAxis = axis(what.x.domain, [margin, width - 14], what.x.log, most);
  const svg = node("svg", { viewBox: `0 0 ${width} ${height}`, role: what.handle ? "group" : "img", "aria-label": what.label });
  const clip = `clip-${(clips += 1)}`;
  svg.append(node("clipPath", { id: clip }, node("rect", { x: margin, y: 14, width: width - 14 - margin, height: height - 56 })));
  xAxis.ticks.forEach((t, k) => {
    const x = xAxis.place(t);
    svg.append(node("line", { class: "grid", x1: x, x2: x, y1: 14, y2: height - 42 }));
    svg.append(node("text", { x, y: height - 26, "text-anchor": "middle" }, xAxis.texts[k]));
  });
  yAxis.ticks.forEach((t, k) => {
    const y = yAxis.place(t);
    svg.append(node("line", { class: "grid", x1: margin, x2: width - 14, y1: y, y2: y }));
    svg.append(node("text", { x: margin - 6, y: y + 4, "text-anchor": "end" }, yAxis.texts[k]));
  });
  svg.append(node("rect", { class: "frame", x: margin, y: 14, width: width - 14 - margin, height: height - 56 }));
  svg.append(node("text", { x: (margin + width - 14) / 2, y: height - 6, "text-anchor": "middle" }, what.x.name));
  const up = (14 + height - 42) / 2;
  svg.append(node("text", { x: 12, y: up, "text-anchor": "middle", transform: `rotate(-90 12 ${up})` }, what.y.name));
  const inside = node("g", { "clip-path": `url(#${clip})` });
  for (const line of what.lines) inside.append(node("path", { class: line.kind, d: path(line.points, xAxis, yAxis) }));
  svg.append(inside);
  for (const dot of what.dots || []) {
    const [x, y] = [xAxis.place(dot.x), yAxis.place(dot.y)];
    if (!Number.isFinite(x + y) || x < margin - 1 || x > width - 13 || y < 13 || y > height - 41) continue;
    svg.append(node("circle", { class: dot.kind || "dot", cx: x, cy: y, r: dot.kind ? 2.2 : 5 }));
    if (dot.name) {
      const right = x > width - 90;
      const low = y < 32 || dot.below || (right ? dot.slope < 0 : dot.slope > 0); // off the line
      svg.append(node("text", { x: x + (right ? -8 : 8), y: y + (low ? 18 : -8), "text-anchor": right ? "end" : "start" }, dot.name));
    }
  }
  if (what.handle) svg.append(handle(what.handle, xAxis, yAxis, height));
  place.replaceChildren(svg, legend(what));
  if (what.handle && focused) place.querySelector(".handle").focus();
  if (what.handle && held && held.place === place) held.xAxis = xAxis;
}

function path(points, xAxis, yAxis) {
  let d = "";
  let pen = "M";
  for (const [x, y] of points) {
    const [px, py] = y === null ? [0, NaN] : [xAxis.place(x), yAxis.place(y)];
    if (!Number.isFinite(px + py)) {
      pen = "M";
      continue;
    }
    d += `${pen}${px.toFixed(1)} ${Math.max(-9999, Math.min(9999, py)).toFixed(1)}`;
    pen = "L";
  }
  return d;
}

function legend(what) {
  const list = document.createElement("ul");
  list.className = "legend";
  for (const line of what.lines.filter((l) => l.name)) {
    const item = document.createElement("li");
    const sample = node("svg", { viewBox: "0 0 28 10", "aria-hidden": "true" }, node("path", { class: line.kind, d: "M1 5H27" }));
    item.append(sample, line.name);
    list.append(item);
  }
  return list;
}

let held = null; // what is dragged now: it outlives the drawing that it began in

function handle(what, xAxis, yAxis, height) {
  const x = xAxis.place(what.at);
  const y = Math.min(height - 42, Math.max(14, yAxis.place(what.y)));
  const [low, high] = what.range;
  const group = node("g", {
    class: "handle", role: "slider", tabindex: "0", "aria-label": what.label, "aria-valuetext": what.text,
    "aria-valuemin": Math.log10(low).toFixed(2), "aria-valuemax": Math.log10(high).toFixed(2), "aria-valuenow": Math.log10(what.at).toFixed(2),
  });
  group.append(node("rect", { class: "grip", x: x - 14, y: 14, width: 28, height: height - 56 }));
  group.append(node("line", { x1: x, x2: x, y1: 14, y2: height - 42 }));
  group.append(node("circle", { cx: x, cy: y, r: 8 }));
  const bounded = (value) => Math.min(high, Math.max(low, value));
  group.addEventListener("keydown", (event) => {
    const factor = { ArrowRight: 0.1, ArrowUp: 0.1, ArrowLeft: -0.1, ArrowDown: -0.1, PageUp: 1, PageDown: -1 }[event.key];
    const edge = { Home: low, End: high }[event.key];
    if (factor === undefined && edge === undefined) return;
    event.preventDefault();
    what.move(bounded(edge === undefined ? what.now() * 10 ** factor : edge));
  });
  group.addEventListener("pointerdown", (event) => {
    event.preventDefault();
    group.focus();
    const place = group.closest(".chart");
    held = { place, xAxis };
    const moved = (e) => {
      const svg = place.querySelector("svg");
      const box = svg.getBoundingClientRect();
      const at = ((e.clientX - box.left) * svg.viewBox.baseVal.width) / box.width;
      what.move(bounded(held.xAxis.value(at)));
    };
    const dropped = () => {
      held = null;
      window.removeEventListener("pointermove", moved);
      window.removeEventListener("pointerup", dropped);
      window.removeEventListener("pointercancel", dropped);
    };
    window.addEventListener("pointermove", moved);
    window.addEventListener("pointerup", dropped);
    window.addEventListener("pointercancel", dropped);
  });
  return group;
}

export function around(values, share = 0.08) {
  const known = values.filter((v) => v !== null && Number.isFinite(v));
  if (!known.length) return [-1, 1];
  let [low, high] = [Math.min(...known), Math.max(...known)];
  if (high - low <= 1e-12 * Math.max(Math.abs(low), Math.abs(high)) || high === low) {
    const room = Math.max(Math.abs(low) * 1e-6, 1e-9);
    [low, high] = [low - room, high + room];
  }
  const room = (high - low) * share;
  return [low - room, high + room];
}
