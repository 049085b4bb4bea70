// One campaign: standings, a player, what did not count, the effect.

import { Pages, ask, askText, button, by, clock, column, element, figures, left, moved, number, pathOf, prizeOf, shown, showSql, showTimes,
  table, time } from "./base.js";
import { openForm, showForm, showPlayerSteps } from "./forms.js";
import { openLedger, showLedger } from "./ledger.js";
import { askCompared, isSettled, offerSides, openSides, showCompared } from "./settled.js";

const ROWS = 50;
let name, pages, scores = new Map(), asked = 0, sql = null;  // sql: the query of standings that were settled, while they are shown

const playerButton = (player) =>
  button(player, { class: "link", "data-key": `player ${player}` }, () => shown(openPlayer)(player, true));

async function showCampaign() {
  const mine = ++asked, search = by("search").value.trim(), view = { offset: pages.offset, limit: ROWS, search };
  const found = await ask(`/api${pathOf(name)}?` + new URLSearchParams(view));
  const compared = found.standings && isSettled() ? await askCompared(name, view) : null;
  if (mine !== asked) return;  // another page was asked for meanwhile
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
    ["budget left", now.prizes_left === null ? "no limit" : number(now.prizes_left)],
    ...(found.state === "running" ? [["time left", "", left(found)]] : []),
    ["as of", clock(now.as_of)], ...(now.unsettled ? [["items on their way", number(now.unsettled)]] : [])]);
  sql = compared?.sql ?? null;
  if (compared) {
    scores = new Map();
    showCompared(compared, [...groups(found), ...results(found)], playerButton, search);
    pages.show(compared.rows.length, compared.in_all, search, "players whose id has");
  } else {
    showStandings(found, search);
  }
  table(by("left-out"), "", [{ title: "rule", cell: ([rule]) => rule },
    { title: "entries", cell: ([, count]) => number(count), number: true }],
    Object.entries(now.left_out).sort((a, b) => b[1] - a[1]), "everything counted");
  showForm(found);
  showTimes();
  await showQuery();
}

const unpaid = (row) => Number(row.unpaid) ? number(row.unpaid) : "";
const groups = (found) => [...(found.form_view.has_teams ? [column("team", "team")] : []),
  ...(found.form_view.stages.length ? [column("stage", "stage", { number: true })] : [])];
const results = (found) => [column(`${found.measure} ${found.currency}`, "score", { number: true }),
  column("entries", "entries", { number: true, wide: true }),
  ...(found.form_view.steps.length ? [column("step", "step", { number: true })] : []),
  column("prize", "prize", { cell: prizeOf, number: true }),
  ...(Number(found.standings.unpaid) ? [column("unpaid", "unpaid", { cell: unpaid, number: true, wide: true })] : [])];

function showStandings(found, search) {
  const now = found.standings, view = found.form_view;
  const rows = found.rows.map((row) => ({ ...row, fresh: scores.has(row.player) && scores.get(row.player) !== row.score }));
  scores = new Map(found.rows.map((row) => [row.player, row.score]));
  table(by("standings"), now.before ? `movement since ${clock(now.before)}` : "", [
    column("rank", "rank"), { title: "moved", cell: (row) => moved(row, now.before), wide: view.stages.length || view.has_teams },
    { title: "player", cell: (row) => playerButton(row.player) }, ...groups(found), ...results(found)],
    rows, search ? "no such player has a score" : "nobody has a score yet");
  pages.show(rows.length, now.players, search, "players whose id has");
}

async function showQuery() {
  if (by("sql-box").open) showSql(by("sql"), sql ?? await askText(`/api${pathOf(name)}/sql`));
}

async function openPlayer(player, moves) {
  by("player-section").hidden = false;
  by("player-title").textContent = player;
  history.replaceState(null, "", `${pathOf(name)}?` + new URLSearchParams({ player }));
  if (moves) by("player-section").focus();
  const found = await ask(`/api${pathOf(name)}/player?` + new URLSearchParams({ id: player }));
  const standing = found.standing;
  figures(by("player-figures"), standing ? [["rank", number(standing.rank)], ["score", number(standing.score)],
    ...(standing.team ? [["team", standing.team]] : []), ...(standing.stage ? [["stage", number(standing.stage)]] : []),
    ["entries that counted", number(standing.entries)], ["prize", prizeOf(standing)],
    ...(Number(standing.unpaid) ? [["beyond the budget", number(standing.unpaid)]] : []),
    ["as of", clock(found.as_of)]] : [["score", "none"], ["as of", clock(found.as_of)]]);
  by("player-person").textContent = found.person.join("; ");
  showPlayerSteps(found.steps);
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
    const found = await ask(`/api${pathOf(name)}/effect`, { method: "POST" });
    const columns = [column("metric", "name"), column("window", "window"),
      { title: "with", cell: (row) => row.treated.toFixed(2), number: true, wide: true },
      { title: "without", cell: (row) => row.control.toFixed(2), number: true, wide: true },
      { title: "difference, 95 %", cell: interval, number: true, wraps: true }];
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

export const refreshCampaign = () => shown(showCampaign)();
export const refreshLedger = shown(async () => { if (offerSides(await showLedger(name))) await showCampaign(); });

export async function openCampaign(of) {
  name = of;
  by("campaign").hidden = false;
  pages = new Pages("standings-pages", ROWS, () => { scores = new Map(); return refreshCampaign(); });
  openForm(name, playerButton);
  by("search-form").addEventListener("submit", (event) => {
    event.preventDefault();
    const rank = Number(by("from-rank").value);
    pages.turn(rank && !by("search").value ? rank - 1 : pages.offset, () => { scores = new Map(); return refreshCampaign(); });
  });
  by("measure").addEventListener("click", showEffect);
  by("sql-box").addEventListener("toggle", shown(showQuery));
  openSides(() => pages.turn(0, refreshCampaign));
  await showCampaign();
  openLedger(name);
  await refreshLedger();
  const player = new URLSearchParams(location.search).get("player");
  if (player) await openPlayer(player, false);
}
