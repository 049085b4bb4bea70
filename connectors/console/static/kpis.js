// KPIs of a tenant: any grain, dimension, currency and time; sorted and in pages by the server.

import { Pages, ask, by, chart, column, figures, number, share, showSql, shown, table } from "./base.js";

const ROWS = 50;
const FIELDS = ["tenant", "grain", "by", "reporting", "first", "last"];
const SUMS = ["rounds", "turnover", "paid_out", "ggr", "ngr"];
let pages, chosen = { column: "period", descending: true }, asked = 0, changedAt = 0;

const values = () => Object.fromEntries(FIELDS.map((id) => [id, by(id).value]));
const day = (text) => by("grain").value === "hour" ? text.slice(0, 16) : text.slice(0, 10);

function question() {
  const { tenant, ...rest } = values();
  const given = new URLSearchParams(Object.entries(rest).filter(([, value]) => value));
  return [`/api/kpis/${encodeURIComponent(tenant)}`, given];
}

function choose(name, descending) {
  chosen = { column: name, descending };
  pages.offset = 0;
  return shown(showKpis)();
}

async function showKpis() {
  if (!by("tenant").value) return;
  changedAt = Date.now();
  const mine = ++asked, [path, given] = question(), dimension = by("by").value;
  const csv = `${path}/csv?${given}`;
  for (const [name, value] of Object.entries({ sort: chosen.column, order: chosen.descending ? "desc" : "asc",
    offset: pages.offset, limit: ROWS })) given.set(name, value);
  const found = await ask(`${path}?${given}`);
  if (mine !== asked) return;  // another question was asked meanwhile
  by("kpi-csv").href = csv;
  const last = found.series.at(-1);
  figures(by("kpi-figures"), last ? [[`GGR, newest ${by("grain").value}, ${last.currency}`, number(last.ggr)],
    ["NGR", number(last.ngr)], ["RTP", share(last.rtp)], ["active players", number(last.active_players)]] : []);
  by("kpi-chart").hidden = dimension !== "tenant";
  if (dimension === "tenant") {
    chart(by("kpi-chart"), found.series.map((row) => day(row.period)), [
      { name: `turnover ${last?.currency ?? ""}`, kind: "second", values: found.series.map((row) => Number(row.turnover)) },
      { name: "GGR", kind: "first", values: found.series.map((row) => Number(row.ggr)) }]);
  }
  showTables(found, dimension);
  showSql(by("kpi-sql"), found.sql);
}

const amounts = [column("rounds", "rounds", { number: true, wide: true }), column("players", "active_players", { number: true, wide: true }),
  column("turnover", "turnover", { number: true }), column("paid out", "paid_out", { number: true, wide: true }),
  column("GGR", "ggr", { number: true }), column("NGR", "ngr", { number: true, wide: true }),
  column("RTP", "rtp", { cell: (row) => share(row.rtp), number: true, wide: true }),
  column("hold", "hold", { cell: (row) => share(row.hold), number: true, wide: true }),
  column("GGR a player", "arpu", { cell: (row) => row.arpu === null ? "–" : number(row.arpu), number: true, wide: true })];

function showTables(found, dimension) {
  const summed = amounts.filter((each) => [...SUMS, "rtp", "hold"].includes(each.name));
  table(by("kpi-sums"), `sums of ${number(found.rows_in_all)} ${found.rows_in_all === 1 ? "row" : "rows"}, ${found.first} to ${found.last}` +
    (found.is_cut ? "; there are more, which are not in the sums" : ""),
    [column("currency", "currency"), ...summed,
      ...(found.sums.some((row) => row.unconverted_rounds) ? [column("rounds without a rate", "unconverted_rounds", { number: true })] : [])],
    found.sums, "nothing in this time");
  const value = { title: dimension, name: "value", cell: (row) => row.name ? `${row.name} (${row.value})` : row.value || "unknown" };
  table(by("kpi-table"), found.rows.length ? "times are UTC" : "", [
    { title: by("grain").value, name: "period", cell: (row) => day(row.period), time: true },
    ...(dimension === "tenant" ? [] : [value]), column("currency", "currency", { wide: true }), ...amounts],
    found.rows, "", { ...chosen, choose });
  pages.show(found.rows.length, found.rows_in_all, "", "");
}

// KPIs are asked for again when something was received, and not while nobody looks
export function refreshKpis(everyMs) {
  if (!document.hidden && Date.now() - changedAt > everyMs) shown(showKpis)();
}

export async function openKpis() {
  pages = new Pages({ previous: "kpi-previous", next: "kpi-next", shown: "kpi-shown" }, ROWS, shown(showKpis));
  const { tenants, currencies } = await ask("/api/tenants");
  by("tenant").replaceChildren(...tenants.map((each) => new Option(each)));
  by("reporting").append(...currencies.map((each) => new Option(each)));
  const given = new URLSearchParams(location.search);
  for (const id of FIELDS) if (given.has(id)) by(id).value = given.get(id);
  by("kpi-form").addEventListener("submit", (event) => event.preventDefault());
  by("kpi-form").addEventListener("change", () => {
    history.replaceState(null, "", `/?${new URLSearchParams(Object.entries(values()).filter(([, value]) => value))}`);
    pages.offset = 0;
    shown(showKpis)();
  });
  await showKpis();
}
