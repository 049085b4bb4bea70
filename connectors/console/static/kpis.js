// KPIs of a tenant: any grain, dimension, currency and time; sorted and in pages by the server.

import { Pages, ask, by, chart, column, figures, number, share, showSql, shown, table } from "./base.js";

const ROWS = 50;
const FIELDS = ["tenant", "of", "grain", "by", "reporting", "first", "last"];
const count = (title, name) => column(title, name, { number: true, wide: true });
const amount = (title, name, more = {}) => column(title, name, { number: true, ...more });
const ratio = (title, name) => column(title, name, { cell: (row) => share(row[name]), number: true, wide: true });

// What KPIs are of: their dimensions, the figures of the newest period, the lines of the chart, the columns of rows, those of sums, and
// what has no rate.
const KINDS = {
  play: {
    by: ["tenant", "game", "provider", "category", "country", "currency"],
    figures: (last) => [[`GGR, newest ${by("grain").value}, ${last.currency}`, number(last.ggr)], ["NGR", number(last.ngr)],
      ["RTP", share(last.rtp)], ["active players", number(last.active_players)]],
    lines: [["turnover", "turnover", "second"], ["GGR", "ggr", "first"]],
    columns: [count("rounds", "rounds"), count("players", "active_players"), amount("turnover", "turnover"),
      amount("paid out", "paid_out", { wide: true }), amount("GGR", "ggr"), amount("NGR", "ngr", { wide: true }), ratio("RTP", "rtp"),
      ratio("hold", "hold"), amount("GGR a player", "arpu", { cell: (row) => row.arpu === null ? "–" : number(row.arpu), wide: true })],
    sums: ["rounds", "turnover", "paid_out", "ggr", "ngr", "rtp", "hold"],
    unconverted: column("rounds without a rate", "unconverted_rounds", { number: true }),
  },
  cash: {
    by: ["tenant", "country", "affiliate", "method", "currency"],
    figures: (last) => [[`net deposits, newest ${by("grain").value}, ${last.currency}`, number(last.net_deposits)],
      ["deposited", number(last.deposited)], ["withdrawn", number(last.withdrawn)], ["depositors", number(last.depositors)],
      ["first-time depositors", number(last.first_time_depositors)]],
    lines: [["deposited", "deposited", "first"], ["withdrawn", "withdrawn", "second"]],
    columns: [count("deposits", "deposits"), amount("deposited", "deposited"), count("withdrawals", "withdrawals"),
      amount("withdrawn", "withdrawn"), amount("net deposits", "net_deposits", { wide: true }), count("depositors", "depositors"),
      count("first-time depositors", "first_time_depositors")],
    sums: ["deposits", "deposited", "withdrawals", "withdrawn", "net_deposits", "first_time_depositors"],
    unconverted: column("payments without a rate", "unconverted_payments", { number: true }),
  },
};
const NEWEST = { column: "period", descending: true };
let pages, chosen = NEWEST, asked = 0, changedAt = 0;

const kind = () => KINDS[by("of").value];
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
  figures(by("kpi-figures"), last ? kind().figures(last) : []);
  by("kpi-chart").hidden = dimension !== "tenant";
  if (dimension === "tenant") {
    chart(by("kpi-chart"), found.series.map((row) => day(row.period)), kind().lines.map(([title, name, line], index) => (
      { name: index || !last ? title : `${title} ${last.currency}`, kind: line, values: found.series.map((row) => Number(row[name])) })));
  }
  showTables(found, dimension);
  showSql(by("kpi-sql"), found.sql);
}

function showTables(found, dimension) {
  const { columns, sums, unconverted } = kind();
  table(by("kpi-sums"), `sums of ${number(found.rows_in_all)} ${found.rows_in_all === 1 ? "row" : "rows"}, ${found.first} to ${found.last}` +
    (found.is_cut ? "; there are more, which are not in the sums" : ""),
    [column("currency", "currency"), ...columns.filter((each) => sums.includes(each.name)),
      ...(found.sums.some((row) => row[unconverted.name]) ? [unconverted] : [])],
    found.sums, "nothing in this time");
  const value = { title: dimension, name: "value", cell: (row) => row.name ? `${row.name} (${row.value})` : row.value || "unknown" };
  table(by("kpi-table"), found.rows.length ? "times are UTC" : "", [
    { title: by("grain").value, name: "period", cell: (row) => day(row.period), time: true },
    ...(dimension === "tenant" ? [] : [value]), column("currency", "currency", { wide: true }), ...columns],
    found.rows, "", { ...chosen, choose });
  pages.show(found.rows.length, found.rows_in_all, "", "");
}

// The dimensions are those of the kind; a column that it does not have orders nothing.
function offerDimensions(wanted) {
  const { by: dimensions, columns } = kind();
  by("by").replaceChildren(...dimensions.map((each) => new Option(each)));
  if (dimensions.includes(wanted)) by("by").value = wanted;
  if (![...columns.map((each) => each.name), "period", "value", "currency"].includes(chosen.column)) chosen = NEWEST;
}

// KPIs are asked for again when something was received, and not while nobody looks
export function refreshKpis(everyMs) {
  if (!document.hidden && Date.now() - changedAt > everyMs) shown(showKpis)();
}

export async function openKpis() {
  pages = new Pages("kpi-pages", ROWS, shown(showKpis));
  const { tenants, currencies } = await ask("/api/tenants");
  by("tenant").replaceChildren(...tenants.map((each) => new Option(each)));
  by("reporting").append(...currencies.map((each) => new Option(each)));
  const given = new URLSearchParams(location.search);
  if (Object.hasOwn(KINDS, given.get("of"))) by("of").value = given.get("of");
  offerDimensions(given.get("by"));
  for (const id of FIELDS) if (given.has(id) && !["of", "by"].includes(id)) by(id).value = given.get(id);
  by("kpi-form").addEventListener("submit", (event) => event.preventDefault());
  by("kpi-form").addEventListener("change", () => {
    offerDimensions(by("by").value);
    history.replaceState(null, "", `/?${new URLSearchParams(Object.entries(values()).filter(([, value]) => value))}`);
    pages.offset = 0;
    shown(showKpis)();
  });
  await showKpis();
}
