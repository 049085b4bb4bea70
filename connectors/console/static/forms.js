// What the form of a campaign adds to its standings: stages, teams, steps, prizes.

import { Pages, ask, button, by, column, element, figures, moved, number, pathOf, prizeOf, shown, table, time } from "./base.js";

const ROWS = 50;
const percent = (value) => `${number(value)} %`;
const unlessSame = (target, key, show) => {  // what a viewer reads or has focused is not made anew without a change
  const now = JSON.stringify(key);
  if (target.dataset.shows === now) return;
  target.dataset.shows = now;
  show();
};

// Stages ------------------------------------------------------------------------------------------

let stage = null, stagePages, openOf;

function cut(row) {
  if (!row.going_on) return "";
  if (row.last_in !== null) return `${number(row.last_in)} is in` + (row.first_out === null ? "" : `, ${number(row.first_out)} is out`);
  return row.first_out === null ? "all with a score go on" : `above ${number(row.first_out)}`;
}

const goesOn = (row) => row.best !== null ? `the best ${number(row.best)}`
  : row.percent !== null ? `the better ${percent(row.percent)}` : "nobody: it is the last";

function timeOf(row) {
  if (new Date(row.to) <= Date.now()) return `ended ${time(row.to)}`;
  const upcoming = new Date(row.from) > Date.now();
  return element("span", {}, upcoming ? "begins in " : "ends in ", element("span", { "data-to": upcoming ? row.from : row.to }));
}

function showStages(name, rows) {
  by("stages-section").hidden = !rows.length;
  if (!rows.length) return;
  const begun = rows.filter((row) => row.players);
  stage ??= begun.length ? begun.at(-1).number : null;
  table(by("stages"), "", [
    { title: "stage", cell: (row) => row.players ? button(`Stage ${row.number}`, { class: "link", "data-key": `stage ${row.number}`,
      "aria-pressed": String(row.number === stage) }, () => { stage = row.number; stagePages.offset = 0; shown(showStage)(name); })
      : `Stage ${row.number}` },
    { title: "time", cell: timeOf }, { title: "goes on", cell: goesOn, wide: true },
    column("with a score", "players", { number: true, wide: true }),
    { title: "go on", cell: (row) => row.going_on ? number(row.going_on) : "–", number: true }, { title: "cut", cell: cut }], rows, "");
  unlessSame(by("stage"), [stage, stagePages.offset, rows], () => shown(showStage)(name));
}

async function showStage(name) {
  if (stage === null) return;
  const found = await ask(`/api${pathOf(name)}/stages/${stage}?` + new URLSearchParams({ offset: stagePages.offset, limit: ROWS }));
  for (const each of by("stages").querySelectorAll("button")) {
    each.setAttribute("aria-pressed", String(each.dataset.key === `stage ${stage}`));
  }
  const row = found.rows.map((each) => ({ ...each, edge: each.place === found.going_on }));
  table(by("stage"), `stage ${found.number}, as of ${time(found.as_of)}`, [column("place", "place"),
    { title: "player", cell: (each) => openOf(each.player) }, column("score", "score", { number: true }),
    column("entries", "entries", { number: true, wide: true }),
    { title: "", cell: (each) => !found.going_on ? "" : each.goes_on ? element("span", { class: "up" }, each.edge ? "goes on: the cut" : "goes on") : "out" }],
    row, "nobody has a score in this stage");
  stagePages.show(found.rows.length, found.players, "", "");
}

// Teams -------------------------------------------------------------------------------------------

let team = null, teamPages, memberPages;

async function showTeams(name, before) {
  const search = by("team-search").value.trim();
  const found = await ask(`/api${pathOf(name)}/teams?` + new URLSearchParams({ offset: teamPages.offset, limit: ROWS, search }));
  const open = (row) => button(row.team, { class: "link", "data-key": `team ${row.team}`, "aria-controls": "members",
    "aria-expanded": String(row.team === team) }, () => { team = row.team; memberPages.offset = 0; shown(showMembers)(name); });
  table(by("teams"), "", [column("rank", "rank"), { title: "moved", cell: (row) => moved(row, before), wide: true },
    { title: "team", cell: open }, column("score", "score", { number: true }),
    column("players", "players", { number: true, wide: true }), column("prize", "prize", { number: true }),
    column("for each", "each", { number: true, wide: true })], found.rows, search ? "no such team has a score" : "no team has a score yet");
  teamPages.show(found.rows.length, found.teams, search, "teams whose name has");
  if (team !== null) await showMembers(name);
}

async function showMembers(name) {
  const found = await ask(`/api${pathOf(name)}/team?` + new URLSearchParams({ id: team, offset: memberPages.offset, limit: ROWS }));
  by("members-box").hidden = false;
  for (const each of by("teams").querySelectorAll("button")) {
    each.setAttribute("aria-expanded", String(each.dataset.key === `team ${team}`));
  }
  table(by("members"), `players of ${team}, the best first`, [column("place", "place"),
    { title: "player", cell: (row) => openOf(row.player) }, column("score", "score", { number: true }),
    column("entries", "entries", { number: true, wide: true }), column("prize", "prize", { number: true }),
    { title: "", cell: (row) => row.scores ? "in the team's score" : "" }], found.rows, "no player of this team has a score");
  memberPages.show(found.rows.length, found.players, "", "");
}

// Steps -------------------------------------------------------------------------------------------

const stepPrize = (row) => prizeOf({ prize: row.prize, items: row.item });

function bar(value, most, words) {
  return element("meter", { min: 0, max: most || 1, value, "aria-label": words }, words);
}

function showSteps(rows, players) {
  by("steps-section").hidden = !rows.length;
  if (!rows.length) return;
  const most = Math.max(players, rows[0].reached);
  table(by("steps"), `of ${number(players)} players with a score`, [
    column("step", "number"), { title: "target", cell: (row) => `${number(row.target)} ${row.measure}` },
    column("reached it", "reached", { number: true }),
    { title: "", cell: (row) => bar(row.reached, most, `${row.reached} of ${most} players`), wide: true },
    { title: "of the step before", cell: (row) => row.number === 1 ? "" : ratio(row.reached, rows[row.number - 2].reached), number: true, wide: true },
    { title: "prize", cell: stepPrize, number: true },
    { title: "given", cell: (row) => number(row.given), number: true, wide: true }], rows, "");
}
const ratio = (part, whole) => whole ? percent((part / whole * 100).toFixed(1)) : "–";

export function showPlayerSteps(rows) {
  table(by("player-steps"), rows.length ? "how far this player is" : "", [column("step", "number"),
    { title: "target", cell: (row) => `${number(row.score)} of ${number(row.target)} ${row.measure}` },
    { title: "", cell: (row) => bar(Math.min(Number(row.score), Number(row.target)), Number(row.target), `${row.score} of ${row.target}`), wide: true },
    { title: "", cell: (row) => row.is_reached ? `reached${row.at ? ` ${time(row.at)}` : ""}` : "open" },
    { title: "prize", cell: stepPrize, number: true }], rows, "");
}

// Prizes ------------------------------------------------------------------------------------------

function poolWords(pool, what, currency) {
  const grows = `${Number(pool.base) ? `${number(pool.base)} and ` : ""}${percent(pool.percent)} of what the players in the standings ${what}`;
  const cap = pool.cap === null ? "" : pool.is_full ? `; it is full at ${number(pool.cap)}` : `, at most ${number(pool.cap)}`;
  return `The pool holds ${grows}${cap} (${currency}). Prizes that are shares of it change with it until the end.`;
}

function showPrizes(found) {
  const { prizes } = found.form_view, budget = prizes.budget !== null;
  figures(by("prize-figures"), [
    ...(prizes.pool ? [["in the pool now", number(prizes.pool.now)]] : []),
    ["money given", number(prizes.money)], ...(Number(prizes.items_cost) ? [["cost of items given", number(prizes.items_cost)]] : []),
    ...(budget ? [["budget", number(prizes.budget)], ["budget spent", number(prizes.spent)], ["budget left", number(prizes.left)],
      ["unpaid, beyond the budget", number(prizes.unpaid)], ["players left without a prize", number(prizes.beyond)]]
      : [["budget", "no limit"]])]);
  by("pool-words").textContent = prizes.pool ? poolWords(prizes.pool, found.measure === "deposits" || found.measure === "deposit count" ? "deposit" : "stake", found.currency)
    : prizes.bonus ? `Each player gets ${percent(prizes.bonus.percent)} of what it deposits, at most ${number(prizes.bonus.cap)}.` : "";
  const items = prizes.ranks.some((row) => row.item), shares = prizes.ranks.some((row) => row.share !== null);
  const teams = found.form_view.has_teams;
  table(by("prizes"), "", [column("rank", "ranks"),
    ...(shares ? [{ title: "share of the pool", cell: (row) => row.share === null ? "" : percent(row.share), number: true }] : []),
    { title: teams ? "money for the team" : shares ? "money for each, now" : "money for each", cell: (row) => number(row.each), number: true },
    ...(items ? [column("item for each", "item"), { title: "its cost", cell: (row) => row.item ? number(row.item_cost) : "", number: true, wide: true }] : []),
    { title: "players who have it", cell: (row) => number(row.given), number: true }], prizes.ranks, "");
}

// ------------------------------------------------------------------------------------------------

export function showForm(found) {
  const view = found.form_view;
  showStages(found.name, view.stages);
  by("teams-section").hidden = !view.has_teams;
  if (view.has_teams) shown(showTeams)(found.name, found.standings.before);
  showSteps(view.steps, found.standings.players);
  by("prizes-section").hidden = false;
  showPrizes(found);
}

// open(player) gives a button that opens a player.
export function openForm(name, open) {
  openOf = open;
  stagePages = new Pages("stage-pages", ROWS, () => shown(showStage)(name));
  teamPages = new Pages("team-pages", ROWS, () => shown(showTeams)(name, null));
  memberPages = new Pages("member-pages", ROWS, () => shown(showMembers)(name));
  by("team-form").addEventListener("submit", (event) => { event.preventDefault(); shown(showTeams)(name, null); });
}
