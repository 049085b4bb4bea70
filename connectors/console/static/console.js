"use strict";
// The page of campaigns. "/" shows all, "/campaigns/NAME" one. What changes comes as server-sent events.

const ROWS = 50;
const KPIS_EVERY_MS = 10000;
const by = (id) => document.getElementById(id);
const campaigns = new Map();
const [, , encoded] = location.pathname.split("/");
const shownName = encoded === undefined ? null : decodeURIComponent(encoded);

const number = (value) => {
  const [whole, part] = String(value).split(".");
  return whole.replace(/\B(?=(\d{3})+(?!\d))/g, "\u202f") + (part ? "." + part.slice(0, 2).padEnd(2, "0") : "");
};
const share = (value) => value === null ? "–" : (value * 100).toFixed(1) + " %";
const time = (text) => new Date(text).toLocaleString([], { dateStyle: "medium", timeStyle: "short" });
const clock = (text) => new Date(text).toLocaleTimeString();

function duration(ms) {
  const minutes = Math.floor(ms / 60000), hours = Math.floor(minutes / 60), days = Math.floor(hours / 24);
  if (days) return `${days} d ${hours % 24} h`;
  if (hours) return `${hours} h ${minutes % 60} min`;
  return minutes ? `${minutes} min` : `${Math.max(0, Math.floor(ms / 1000))} s`;
}

function element(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.append(...children);
  return made;
}

// columns: [{title, cell(row) -> text or node, number, wide}]
function table(target, caption, columns, rows, empty) {
  if (!rows.length) { target.replaceChildren(element("caption", {}, empty)); return; }
  const kind = (column) => ["number", "wide", "time"].filter((name) => column[name]).join(" ");
  target.replaceChildren(
    ...(caption ? [element("caption", {}, caption)] : []),
    element("thead", {}, element("tr", {},
      ...columns.map((column) => element("th", { class: kind(column), scope: "col" }, column.title)))),
    element("tbody", {}, ...rows.map((row) => element("tr", row.fresh ? { class: "fresh" } : {},
      ...columns.map((column) => element("td", { class: kind(column) }, column.cell(row)))))));
}
const column = (title, name, more = {}) =>
  ({ title, cell: (row) => more.number ? number(row[name]) : String(row[name]), ...more });

function figures(target, entries) {
  target.replaceChildren(...entries.map(([title, value, attributes]) =>
    element("div", {}, element("b", attributes ?? {}, value), element("span", { class: "quiet" }, title))));
}

const SVG = "http://www.w3.org/2000/svg";
function shape(name, attributes, text) {
  const made = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  if (text !== undefined) made.textContent = text;
  return made;
}

// Lines over the same axis; series: [{name, kind, values}], labels one a value.
function chart(target, labels, series) {
  const width = 640, height = 220, left = 70, right = 12, top = 24, bottom = 26;
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

async function ask(path, options) {
  const answer = await fetch(path, options);
  if (answer.status === 401) { location.reload(); return new Promise(() => {}); }
  const body = await answer.json();
  if (!answer.ok) throw new Error(body.error);
  return body;
}

function complain(text) {
  by("problems").textContent = text;
  by("problems").hidden = !text;
}

const pathOf = (name) => `/campaigns/${encodeURIComponent(name)}`;
const byTime = (order) => (a, b) => order * (new Date(a.to) - new Date(b.to)) || (a.name < b.name ? -1 : 1);
const left = (one) => ({ "data-to": one.state === "to come" ? one.from : one.to });
const prizesLeft = (standings) => standings.prizes_left === null ? "no limit" : number(standings.prizes_left);

// The wall --------------------------------------------------------------------------------------

function movement(standings) {
  if (standings.players_before === null) return "";
  const more = standings.players - standings.players_before;
  return more ? ` (${more > 0 ? "+" : "−"}${number(Math.abs(more))} since ${clock(standings.before)})` : "";
}

function card(one) {
  const made = element("article", { class: "card", "aria-label": one.title },
    element("h3", {}, element("a", { href: pathOf(one.name) }, one.title)),
    element("span", { class: "quiet" }, `${one.tenant}, ${one.form}, ${one.measure} ${one.currency}`));
  const facts = [["time left", element("span", left(one))]];
  const found = one.standings;
  if (found) {
    const changed = found.leader_before && found.leader_before !== found.leader;
    facts.push(["leader", found.leader ? `${found.leader}${changed ? ` (before: ${found.leader_before})` : ""}` : "nobody"]);
    if (found.leader) facts.push(["score", number(found.leader_score)]);
    facts.push(["players", number(found.players) + movement(found)], ["prizes given", number(found.prizes)],
      ["prizes left", prizesLeft(found)], ["as of", clock(found.as_of)]);
  } else {
    facts.push(["standings", "being computed …"]);
  }
  made.append(element("dl", {}, ...facts.flatMap(([name, value]) => [element("dt", {}, name), element("dd", {}, value)])));
  return made;
}

function showWall() {
  const all = [...campaigns.values()];
  const of = (state, order) => all.filter((one) => one.state === state).sort(byTime(order));
  const cards = of("running", 1);
  const focused = document.activeElement?.getAttribute("href");
  by("running").replaceChildren(...(cards.length ? cards.map(card) : [element("p", { class: "quiet" }, "none now")]));
  const link = { title: "campaign", cell: (one) => element("a", { href: pathOf(one.name) }, one.title) };
  table(by("coming"), "", [link, column("tenant", "tenant"), { title: "begins", cell: (one) => time(one.from), time: true }],
    of("to come", 1), "none");
  table(by("over"), "", [link, column("tenant", "tenant"), { title: "ended", cell: (one) => time(one.to), time: true }],
    of("over", -1), "none");
  if (focused) document.querySelector(`a[href="${CSS.escape(focused)}"]`)?.focus();
  showTimes();
}

function showTimes() {
  for (const each of document.querySelectorAll("[data-to]")) each.textContent = duration(new Date(each.dataset.to) - Date.now());
}

let kpisAt = 0;
async function showKpis() {
  if (!by("tenant").value) return;
  kpisAt = Date.now();
  const dimension = by("by").value, grain = by("grain").value;
  const rows = await ask(`/api/kpis/${encodeURIComponent(by("tenant").value)}?grain=${grain}&by=${dimension}`);
  const currency = rows.at(-1)?.currency, own = rows.filter((row) => row.currency === currency), last = own.at(-1);
  const whole = dimension === "tenant";
  figures(by("kpi-figures"), whole && last ? [
    [`GGR, newest ${grain}, ${currency}`, number(last.ggr)], ["NGR", number(last.ngr)],
    ["RTP", share(last.rtp)], ["active players", number(last.active_players)]] : []);
  by("kpi-chart").hidden = !whole;
  if (whole) {
    chart(by("kpi-chart"), own.map((row) => row.period), [
      { name: `turnover ${currency ?? ""}`, kind: "second", values: own.map((row) => Number(row.turnover)) },
      { name: "GGR", kind: "first", values: own.map((row) => Number(row.ggr)) }]);
  }
  const newest = rows.at(-1)?.period;
  table(by("kpi-table"), newest ? `${grain} of ${newest}` : "", [
    { title: dimension, cell: (row) => row.value || "unknown" }, column("currency", "currency"),
    column("rounds", "rounds", { number: true, wide: true }), column("players", "active_players", { number: true }),
    column("turnover", "turnover", { number: true }), column("GGR", "ggr", { number: true }),
    column("NGR", "ngr", { number: true, wide: true }), { title: "RTP", cell: (row) => share(row.rtp), number: true, wide: true }],
    whole ? [] : rows.filter((row) => row.period === newest).reverse(), whole ? "" : "nothing yet");
}

function showLine(found) {
  if (found.error) { complain(found.error); return; }
  const lag = Object.values(found.lag).reduce((sum, each) => sum + each, 0);
  const sum = (name) => found.accounts.reduce((total, row) => total + row[name], 0);
  figures(by("line-figures"), [["items received", number(sum("received"))], ["accepted", number(sum("accepted"))],
    ["duplicate", number(sum("duplicate"))], ["refused", number(sum("conflict") + sum("rejected"))],
    ["records behind", number(lag)]]);
  chart(by("line-chart"), found.minutes.map((row) => row.minute.slice(11, 16)),
    [{ name: "items a minute", kind: "first", values: found.minutes.map((row) => row.items) }]);
  table(by("accounts"), "", [column("tenant", "tenant"),
    ...["received", "accepted", "unsettled"].map((name) => column(name, name, { number: true }))],
    found.accounts, "nothing was received yet");
  table(by("rejects"), "", [column("tenant", "tenant"), column("code", "code"), column("items", "items", { number: true })],
    found.rejects, "nothing");
}

async function openWall() {
  by("wall").hidden = false;
  const kpis = () => showKpis().catch((error) => complain(error.message));
  const given = new URLSearchParams(location.search);
  for (const id of ["grain", "by"]) if (given.has(id)) by(id).value = given.get(id);
  const tenants = await ask("/api/tenants");
  by("tenant").replaceChildren(...tenants.map((each) => element("option", {}, each)));
  if (given.has("tenant")) by("tenant").value = given.get("tenant");
  by("kpi-form").addEventListener("change", kpis);
  await showKpis();
  // KPIs are asked for again when something was received, and not while nobody looks
  stream.addEventListener("line", () => {
    if (!document.hidden && Date.now() - kpisAt > KPIS_EVERY_MS) kpis();
  });
}

// One campaign ----------------------------------------------------------------------------------

let offset = 0, scores = new Map();

function moved(row, known) {
  if (row.rank_before === null) return known ? element("span", { class: "up" }, "new") : "";
  const by = row.rank_before - row.rank;
  if (!by) return "";
  const words = `${Math.abs(by)} ${by > 0 ? "up" : "down"}`;
  return element("span", { class: by > 0 ? "up" : "down", "aria-label": words, role: "img" },
    `${by > 0 ? "▲" : "▼"} ${Math.abs(by)}`);
}

const prizeOf = (row) => [...(Number(row.prize) || !row.items ? [number(row.prize)] : []), ...(row.items ? [row.items] : [])].join(" and ");

function playerButton(row) {
  const made = element("button", { class: "link", type: "button" }, row.player);
  made.addEventListener("click", () => openPlayer(row.player, true));
  return made;
}

async function showCampaign() {
  const search = by("search").value.trim();
  const found = await ask(`/api${pathOf(shownName)}?` + new URLSearchParams({ offset, limit: ROWS, search }));
  document.title = `${found.title}: Roundhouse`;
  by("title").textContent = found.title;
  by("about").textContent = `${found.tenant}, ${found.form}, ${found.state}, ${time(found.from)} to ${time(found.to)}`;
  const now = found.standings;
  if (!now) {
    figures(by("figures"), []);
    table(by("standings"), "", [], [], found.state === "to come" ? "not begun" : "being computed …");
    return;
  }
  figures(by("figures"), [["players with a score", number(now.players)], ["prizes given", number(now.prizes)],
    ["prizes left", prizesLeft(now)],
    ...(found.state === "running" ? [["time left", "", left(found)]] : []),
    ["as of", clock(now.as_of)], ...(now.unsettled ? [["items on their way", number(now.unsettled)]] : [])]);
  const rows = found.rows.map((row) => ({ ...row, fresh: scores.has(row.player) && scores.get(row.player) !== row.score }));
  scores = new Map(found.rows.map((row) => [row.player, row.score]));
  const focused = document.activeElement?.closest("#standings") ? document.activeElement.textContent : null;
  table(by("standings"), now.before ? `movement since ${clock(now.before)}` : "", [
    column("rank", "rank"), { title: "moved", cell: (row) => moved(row, now.before) },
    { title: "player", cell: playerButton }, column(`${found.measure} ${found.currency}`, "score", { number: true }),
    column("entries", "entries", { number: true, wide: true }),
    ...(found.form === "challenge" ? [column("step", "step", { number: true })] : []),
    { title: "prize", cell: prizeOf, number: true }],
    rows, search ? "no such player has a score" : "nobody has a score yet");
  if (focused) [...by("standings").querySelectorAll("button")].find((each) => each.textContent === focused)?.focus();
  by("previous").disabled = Boolean(search) || offset === 0;
  by("next").disabled = Boolean(search) || offset + ROWS >= now.players;
  by("shown").textContent = rows.length
    ? search ? `the first ${rows.length} players whose id has “${search}”`
      : `${number(offset + 1)} to ${number(offset + rows.length)} of ${number(now.players)}` : "";
  table(by("left-out"), "", [{ title: "rule", cell: ([rule]) => rule },
    { title: "entries", cell: ([, count]) => number(count), number: true }],
    Object.entries(now.left_out).sort((a, b) => b[1] - a[1]), "everything counted");
  showTimes();
}

const campaign = () => showCampaign().catch((error) => complain(error.message));

async function openPlayer(player, moves) {
  by("player-section").hidden = false;
  by("player-title").textContent = player;
  history.replaceState(null, "", `${pathOf(shownName)}?` + new URLSearchParams({ player }));
  if (moves) by("player-section").focus();
  const found = await ask(`/api${pathOf(shownName)}/player?` + new URLSearchParams({ id: player }));
  const standing = found.standing;
  figures(by("player-figures"), standing ? [["rank", number(standing.rank)], ["score", number(standing.score)],
    ["entries that counted", number(standing.entries)], ["prize", prizeOf(standing)],
    ...(Number(standing.unpaid) ? [["beyond the budget", number(standing.unpaid)]] : []),
    ["as of", clock(found.as_of)]] : [["score", "none"], ["as of", clock(found.as_of)]]);
  by("player-person").textContent = found.person.join("; ");
  table(by("verdicts"), "what became of its entries", [{ title: "rule", cell: ([rule]) => rule },
    { title: "entries", cell: ([, count]) => number(count), number: true }],
    Object.entries(found.verdicts), "nothing of this player could count");
  table(by("entries"), found.entries.length < found.entries_in_all
    ? `the newest ${found.entries.length} of ${number(found.entries_in_all)} entries` : "entries, the newest first", [
    { title: "at", cell: (row) => time(row.at), time: true }, column("verdict", "verdict"),
    column("id", "id", { wide: true }),
    column("amount", "amount", { number: true }), column("payout", "payout", { number: true }),
    column("currency", "currency")], found.entries, "");
}

function interval(each) {
  const found = each.adjusted ?? each.plain;
  const text = (value) => (value > 0 ? "+" : value < 0 ? "−" : "") + Math.abs(value).toFixed(2);
  return `${text(found.difference)} [${text(found.low)}, ${text(found.high)}]`;
}

async function showEffect() {
  by("measure").disabled = true;
  by("effect-state").className = "quiet";
  by("effect-state").textContent = "computing …";
  try {
    const found = await ask(`/api${pathOf(shownName)}/effect`, { method: "POST" });
    const columns = [column("metric", "name"), column("window", "window"),
      { title: "with", cell: (row) => row.treated.toFixed(2), number: true },
      { title: "without", cell: (row) => row.control.toFixed(2), number: true },
      { title: "difference, 95 %", cell: interval, number: true }];
    by("effect-state").textContent = `${found.design}; ${number(found.treated)} players beside ` +
      `${number(found.control)}; prizes ${number(found.returned.prizes)}; as of ${clock(found.as_of)}`;
    table(by("effect"), "effect a player", columns, found.estimates, "");
    table(by("guardrails"), "guardrails: what may not rise", columns, found.guardrails, "");
    by("effect-warnings").replaceChildren(...found.warnings.map((each) => element("li", {}, each)));
  } catch (error) {
    by("effect-state").className = "wrong";
    by("effect-state").textContent = error.message;
  }
  by("measure").disabled = false;
}

function turn(to) {
  offset = Math.max(0, to);
  scores = new Map();
  return campaign();
}

async function openCampaign() {
  by("campaign").hidden = false;
  by("search-form").addEventListener("submit", (event) => {
    event.preventDefault();
    const rank = Number(by("from-rank").value);
    if (rank && !by("search").value) offset = rank - 1;
    turn(offset);
  });
  by("previous").addEventListener("click", () => turn(offset - ROWS));
  by("next").addEventListener("click", () => turn(offset + ROWS));
  by("measure").addEventListener("click", showEffect);
  await showCampaign();
  const player = new URLSearchParams(location.search).get("player");
  if (player) await openPlayer(player, false);
}

// ------------------------------------------------------------------------------------------------

const stream = new EventSource("/api/stream");
stream.addEventListener("open", () => { by("state").textContent = "live"; });
stream.addEventListener("error", () => {
  by("state").textContent = "not connected; trying again …";
  if (stream.readyState === EventSource.CLOSED) setTimeout(() => location.reload(), 5000);  // to sign in again
});
stream.addEventListener("overview", (event) => {
  const { names, wrong, login } = JSON.parse(event.data);
  complain(wrong.join("\n"));
  by("sign-out").hidden = !login;
  for (const name of campaigns.keys()) if (!names.includes(name)) campaigns.delete(name);
  if (!shownName) showWall();
});
let due = false;
stream.addEventListener("campaign", (event) => {
  const one = JSON.parse(event.data);
  campaigns.set(one.name, one);
  if (due || (shownName && one.name !== shownName)) return;
  due = true;
  requestAnimationFrame(() => { due = false; shownName ? campaign() : showWall(); });
});
stream.addEventListener("line", (event) => { if (!shownName) showLine(JSON.parse(event.data)); });
setInterval(showTimes, 1000);
(shownName ? openCampaign() : openWall()).catch((error) => complain(error.message));
