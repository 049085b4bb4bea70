// The standings of a settled campaign: those of now and those that were settled, each beside the other.

import { ask, by, clock, column, date, element, number, pathOf, table } from "./base.js";

let settlements = [];
const isOfNow = () => by("side").value === "now";
export const isSettled = () => settlements.length > 0;

// A page of the settlement that is chosen; of now, beside what was published last.
export function askCompared(name, view) {
  const [of, side] = isOfNow() ? [settlements.at(-1).number, "now"] : [by("side").value, "settled"];
  const differing = by("only-differing").checked ? 1 : 0;
  return ask(`/api${pathOf(name)}/settlements/${of}?` + new URLSearchParams({ ...view, side, differing }));
}

const under = (text) => element("small", { class: "other" }, text);

// A column whose cells have the other side's value under their own where it is another, with all digits if they need to be seen.
const withOther = (one, word) => ({ ...one, cell: (row) => {
  const own = one.cell(row), other = row.other && one.cell(row.other);
  if (!row.other || (own === other && row[one.name] === row.other[one.name])) return own;
  const [mine, its] = own === other ? [row[one.name], row.other[one.name]] : [own || "–", other || "–"];
  return element("span", {}, mine, under(`${word} ${its}`));
} });

function caption(found) {
  if (found.differing === null) return "";
  const rows = `${number(found.differing)} of ${number(found.players)} rows ${found.differing === 1 ? "differs" : "differ"} in more than the rank`;
  return `${rows} from ${isOfNow() ? "what was published last" : `the standings of now, as of ${clock(found.now_as_of)}`}`;
}

// columns: those after rank and player; open(player) gives a button that opens a player.
export function showCompared(found, columns, open, search) {
  const word = isOfNow() ? "was" : "now", absent = isOfNow() ? "was not in the standings" : "is not in them now";
  const player = (row) => row.other === null ? element("span", {}, open(row.player), under(absent)) : open(row.player);
  table(by("standings"), caption(found), [withOther(column("rank", "rank"), word), { title: "player", cell: player },
    ...columns.map((one) => withOther(one, word))], found.rows,
    search ? "no such player is in them" : by("only-differing").checked ? "no row differs" : "nobody has a score");
}

// Offers what was settled beside now, and says whether anything was settled since; the choice of the viewer stays.
export function offerSides(found) {
  const isNew = found.length !== settlements.length, chosen = by("side").value || "now";
  settlements = found;
  by("sides").hidden = !isSettled();
  if (!isNew) return false;
  by("side").replaceChildren(new Option("standings of now", "now"), ...found.map((each) => new Option(
    each.number ? `standings of review ${each.number}, ${date(each.settled_at)}` : `standings as settled ${date(each.settled_at)}`, each.number)));
  by("side").value = chosen;
  return true;
}

export function openSides(changed) {
  by("sides").addEventListener("submit", (event) => event.preventDefault());
  by("sides").addEventListener("change", () => {
    by("from-rank").disabled = by("only-differing").checked;
    changed();
  });
}
