// All campaigns at a glance, and the state of the line.

import { by, chart, clock, column, complain, date, element, figures, left, number, pathOf, showTimes, table } from "./base.js";

const byTime = (order) => (a, b) => order * (new Date(a.to) - new Date(b.to)) || (a.name < b.name ? -1 : 1);

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
    facts.push(["players", number(found.players) + movement(found)], ["prizes given", number(found.prizes)]);
    if (found.pool !== null) facts.push(["pool", number(found.pool)]);
    facts.push(["budget left", found.prizes_left === null ? "no limit" : number(found.prizes_left)]);
    if (Number(found.unpaid)) facts.push(["beyond the budget", number(found.unpaid)]);
    facts.push(["as of", clock(found.as_of)]);
  } else {
    facts.push(["standings", "being computed …"]);
  }
  made.append(element("dl", {}, ...facts.flatMap(([name, value]) => [element("dt", {}, name), element("dd", {}, value)])));
  return made;
}

function settledIn(settled, one) {
  const found = settled[one.name];
  if (!found) return element("span", { class: "quiet" }, "not settled");
  return date(found.settled_at) + (found.reviews ? `, corrected ${found.reviews}×` : "");
}

export function showWall(campaigns, settled) {
  const all = [...campaigns.values()];
  const of = (state, order) => all.filter((one) => one.state === state).sort(byTime(order));
  const cards = of("running", 1);
  const focused = document.activeElement?.getAttribute("href");
  by("running").replaceChildren(...(cards.length ? cards.map(card) : [element("p", { class: "quiet" }, "none now")]));
  const link = { title: "campaign", cell: (one) => element("a", { href: pathOf(one.name) }, one.title) };
  table(by("coming"), "", [link, column("tenant", "tenant", { wide: true }), { title: "begins", cell: (one) => date(one.from), time: true }],
    of("to come", 1), "none");
  table(by("over"), "", [link, column("tenant", "tenant", { wide: true }), { title: "ended", cell: (one) => date(one.to), time: true },
    { title: "settled", cell: (one) => settledIn(settled, one), time: true }], of("over", -1), "none");
  if (focused) document.querySelector(`a[href="${CSS.escape(focused)}"]`)?.focus();
  showTimes();
}

export function showLine(found) {
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
