// What every part of the page needs: values as text, tables, figures, charts, and questions to the server.

export const by = (id) => document.getElementById(id);

export const number = (value) => {
  const [whole, part] = String(value).split(".");
  return whole.replace("-", "−").replace(/\B(?=(\d{3})+(?!\d))/g, "\u202f") + (part ? "." + part.slice(0, 2).padEnd(2, "0") : "");
};
export const share = (value) => value === null ? "–" : (value * 100).toFixed(1).replace("-", "−") + " %";
export const time = (text) => new Date(text).toLocaleString([], { dateStyle: "medium", timeStyle: "short" });
export const date = (text) => new Date(text).toLocaleDateString([], { dateStyle: "medium" });
export const clock = (text) => new Date(text).toLocaleTimeString();

export function duration(ms) {
  const minutes = Math.floor(ms / 60000), hours = Math.floor(minutes / 60), days = Math.floor(hours / 24);
  if (days > 730) return `${number(Math.floor(days / 365))} years`;
  if (days) return `${number(days)} d ${hours % 24} h`;
  if (hours) return `${hours} h ${minutes % 60} min`;
  return minutes ? `${minutes} min` : `${Math.max(0, Math.floor(ms / 1000))} s`;
}

export function element(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.append(...children);
  return made;
}

export function button(text, attributes, work) {
  const made = element("button", { type: "button", ...attributes }, text);
  made.addEventListener("click", work);
  return made;
}

// columns: [{title, cell(row) -> text or node, number, wide (not on a narrow screen), time, wraps, name}]. With an order {column, descending, choose}
// the columns that have a name are buttons that choose it.
export function table(target, caption, columns, rows, empty, order) {
  if (!rows.length) { target.replaceChildren(element("caption", {}, empty)); return; }
  const kind = (column) => ["number", "wide", "time", "wraps"].filter((name) => column[name]).join(" ");
  const focused = target.contains(document.activeElement) ? document.activeElement.dataset.key : null;
  target.replaceChildren(
    ...(caption ? [element("caption", {}, caption)] : []),
    element("thead", {}, element("tr", {}, ...columns.map((column) => heading(column, kind(column), order)))),
    element("tbody", {}, ...rows.map((row) => element("tr", { class: ["fresh", "differs"].filter((name) => row[name]).join(" ") },
      ...columns.map((column) => element("td", { class: kind(column) }, column.cell(row)))))));
  if (focused) target.querySelector(`[data-key="${CSS.escape(focused)}"]`)?.focus();
}

function heading(column, kind, order) {
  if (!order || !column.name) return element("th", { class: kind, scope: "col" }, column.title);
  const chosen = order.column === column.name;
  const made = button(column.title + (chosen ? order.descending ? " ▼" : " ▲" : ""),
    { class: "link", "data-key": `sort ${column.name}` },
    () => order.choose(column.name, chosen ? !order.descending : true));
  const sorted = chosen ? { "aria-sort": order.descending ? "descending" : "ascending" } : {};
  return element("th", { class: kind, scope: "col", ...sorted }, made);
}

export const column = (title, name, more = {}) =>
  ({ title, name, cell: (row) => more.number ? number(row[name]) : String(row[name]), ...more });

export function figures(target, entries) {
  target.replaceChildren(...entries.map(([title, value, attributes]) =>
    element("div", {}, element("b", attributes ?? {}, value), element("span", { class: "quiet" }, title))));
}

// Times that run, in elements with the attribute data-to.
export function showTimes() {
  for (const each of document.querySelectorAll("[data-to]")) each.textContent = duration(new Date(each.dataset.to) - Date.now());
}

const SVG = "http://www.w3.org/2000/svg";
function shape(name, attributes, text) {
  const made = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  if (text !== undefined) made.textContent = text;
  return made;
}

// Lines over the same axis; series: [{name, kind, values}], labels one a value. Drawn anew when the width of its place changes.
const charts = new WeakMap();
const resized = new ResizeObserver((places) => { for (const { target } of places) draw(target, ...charts.get(target)); });
export function chart(target, labels, series) {
  const isNew = !charts.has(target);
  charts.set(target, [labels, series]);
  if (isNew) resized.observe(target);
  draw(target, labels, series);
}

function draw(target, labels, series) {
  const width = Math.max(280, target.clientWidth), height = 220, left = 70, right = 12, top = 24, bottom = 26;
  const values = series.flatMap((one) => one.values);
  if (!values.length) { target.replaceChildren(element("p", { class: "quiet" }, "nothing yet")); return; }
  const low = Math.min(0, ...values), high = Math.max(1, ...values);
  const x = (i) => left + (labels.length < 2 ? .5 : i / (labels.length - 1)) * (width - left - right);
  const y = (value) => top + (high - value) / (high - low) * (height - top - bottom);
  const svg = shape("svg", { viewBox: `0 0 ${width} ${height}`, role: "img",
    "aria-label": series.map((one) => one.name).join(" and ") + " over time" });
  for (const tick of [low, (low + high) / 2, high]) {
    svg.append(shape("line", { x1: left, x2: width - right, y1: y(tick), y2: y(tick), class: "axis" }),
      shape("text", { x: left - 8, y: y(tick) + 4, "text-anchor": "end" }, number(Math.round(tick))));
  }
  series.forEach((one, index) => {
    const points = one.values.map((value, i) => `${x(i).toFixed(1)},${y(value).toFixed(1)}`);
    svg.append(shape("polyline", { points: points.join(" "), fill: "none", class: one.kind, "stroke-width": 2 }),
      shape("text", { x: left + index * 130, y: 13, class: one.kind }, one.name));
    if (points.length === 1) svg.append(shape("circle", { cx: x(0), cy: y(one.values[0]), r: 4, class: one.kind }));
  });
  svg.append(shape("text", { x: left, y: height - 6 }, labels[0]),
    shape("text", { x: width - right, y: height - 6, "text-anchor": "end" }, labels.at(-1)));
  target.replaceChildren(svg);
}

async function answered(path, options) {
  const answer = await fetch(path, options);
  if (answer.status === 401) { location.reload(); return new Promise(() => {}); }
  if (!answer.ok) throw new Error((await answer.json()).error);
  return answer;
}
export const ask = async (path, options) => (await answered(path, options)).json();
export const askText = async (path) => (await answered(path)).text();

export function complain(text) {
  by("problems").textContent = text;
  by("problems").hidden = !text;
}
// A function whose errors are shown.
export const shown = (work) => (...given) => Promise.resolve(work(...given)).catch((error) => complain(error.message));

export const pathOf = (name) => `/campaigns/${encodeURIComponent(name)}`;
export const left = (one) => ({ "data-to": one.state === "to come" ? one.from : one.to });
export const prizeOf = (row) =>
  [...(Number(row.prize) || !row.items ? [number(row.prize)] : []), ...(row.items ? [row.items] : [])].join(" and ");

// Movement of a row with rank and rank_before, which is null for one that had none.
export function moved(row, known) {
  if (row.rank_before === null) return known ? element("span", { class: "up" }, "new") : "";
  const ranks = row.rank_before - row.rank;
  if (!ranks) return "";
  const words = `${Math.abs(ranks)} ${ranks > 0 ? "up" : "down"}`;
  return element("span", { class: ranks > 0 ? "up" : "down", "aria-label": words, role: "img" },
    `${ranks > 0 ? "▲" : "▼"} ${Math.abs(ranks)}`);
}

// Pages of rows: buttons, and what is shown, in the element id, which may have more after them.
export class Pages {
  constructor(id, size, changed) {
    by(id).prepend(by("pager").content.cloneNode(true));
    const [previous, next] = by(id).querySelectorAll("button");
    Object.assign(this, { previous, next, shown: by(id).querySelector("[role=status]"), size, offset: 0 });
    previous.addEventListener("click", () => this.turn(this.offset - size, changed));
    next.addEventListener("click", () => this.turn(this.offset + size, changed));
  }
  turn(to, changed) { this.offset = Math.max(0, to); return changed(); }
  show(rows, inAll, search, what) {
    this.previous.disabled = Boolean(search) || this.offset === 0;
    this.next.disabled = Boolean(search) || this.offset + this.size >= inAll;
    for (const each of [this.previous, this.next]) each.hidden = !this.offset && rows >= inAll;
    this.shown.textContent = !rows ? "" : search ? `the first ${number(rows)} ${what} “${search}”`
      : `${number(this.offset + 1)} to ${number(this.offset + rows)} of ${number(inAll)}`;
  }
}

// The text of a query, with a button that copies it, or selects it where a page may not copy.
export function showSql(target, text) {
  if (target.querySelector("pre")?.textContent === text) return;  // it may be selected
  const body = element("pre", { tabindex: "0", "aria-label": "The query" }, text);
  const said = element("span", { class: "quiet", role: "status" });
  const copy = button("Copy", {}, async () => {
    try {
      await navigator.clipboard.writeText(text);
      said.textContent = "copied";
    } catch {
      getSelection().selectAllChildren(body);
      said.textContent = "selected: copy it with the keyboard";
    }
  });
  target.replaceChildren(copy, " ", said, body);
}
