// A campaign that is settled, as the ledger has it, beside what its standings say now; earlier occurrences.

import { ask, by, clock, column, element, figures, number, pathOf, shown, table, time } from "./base.js";

const who = [column("player", "player"), { title: "step", cell: (row) => Number(row.step) ? String(row.step) : "", wide: true }];

function nowWords(now) {
  if (!now) return "The standings of now are being computed.";
  if (now.reason) return `Whether the prizes would differ now is not known here: ${now.reason}. roundhouse campaign review compares all.`;
  const at = `As of ${clock(now.as_of)} `;
  if (!now.differing) return `${at}every prize is as it was published.`;
  return `${at}${number(now.differing)} ${now.differing === 1 ? "prize differs" : "prizes differ"} from what was published. Nothing of it is paid or ` +
    "taken back until roundhouse campaign review publishes it.";
}

// The settlement and its reviews, which are none if the campaign is not settled.
export async function showLedger(name) {
  const found = await ask(`/api${pathOf(name)}/ledger`);
  const [first] = found.settlements;
  by("settled-section").hidden = !first;
  by("standings-about").textContent = first ? "The prizes that count are those that were published: as settled, and as reviews have corrected them." : "";
  if (!first) return [];
  figures(by("settled-figures"), [["settled", time(first.settled_at), { class: "long" }], ["by", first.settled_by],
    ["result as of", time(first.as_of), { class: "long" }],
    ["players with a score", number(first.players)], ["prizes in all", number(first.prizes)], ["awards", number(first.awards)],
    ["corrections since", number(found.corrections_in_all)],
    ...(first.unsettled ? [["items without an outcome then", number(first.unsettled)]] : [])]);
  by("settled-hash").replaceChildren("SHA-256 of the result ", element("code", {}, first.result_sha256), ", run ", element("code", {}, first.run_id));
  by("settled-warning").textContent = found.is_same_definition ? ""
    : "The file is another definition now than the one that was settled: the standings of now are not of the settled campaign.";
  by("settled-now").textContent = nowWords(found.now);
  table(by("differences"), "prizes that differ now", [...who, column("published", "before"), column("now", "after")],
    found.now?.differences ?? [], "");
  table(by("reviews"), "reviews that published corrections", [column("review", "number"), { title: "at", cell: (row) => time(row.settled_at) },
    column("by", "settled_by", { wide: true }), column("reason", "reason"), column("corrections", "awards", { number: true })],
    found.settlements.slice(1), "");
  table(by("corrections"), found.corrections.length < found.corrections_in_all
    ? `the newest ${found.corrections.length} of ${number(found.corrections_in_all)} corrections` : "corrections",
    [column("review", "number"), ...who, column("before", "before"), column("after", "after"), column("reason", "reason", { wide: true })],
    found.corrections, "nothing was corrected");
  return found.settlements;
}

async function checkHash(name) {
  by("hash-state").textContent = "reading the stored rows …";
  const { is_intact: isIntact } = await ask(`/api${pathOf(name)}/hash`, { method: "POST" });
  by("hash-state").textContent = isIntact ? "The stored rows have this hash."
    : "The stored rows no longer have this hash: an erasure has changed them, or somebody else.";
}

const winner = (each) => `${each.player} (${each.prize})`;

function winners(row) {
  if (row.winners === null) return element("span", { class: "quiet" }, row.has_page ? "being computed …" : "not settled");
  return row.winners.length ? row.winners.map(winner).join(", ") : "nobody";
}

async function showOccurrences(name) {
  const rows = await ask(`/api${pathOf(name)}/occurrences`);
  by("occurrences-section").hidden = !rows.length;
  table(by("occurrences"), "", [
    { title: "occurrence", cell: (row) => row.name === name ? element("b", {}, row.name)
      : row.has_page ? element("a", { href: pathOf(row.name) }, row.name) : row.name },
    { title: "ended", cell: (row) => row.state === "over" ? time(row.to) : row.state, wide: true },
    { title: "settled", cell: (row) => row.settled_at ? time(row.settled_at) : "not settled" },
    { title: "first with a prize", cell: winners }], rows, "");
  if (rows.some((row) => row.has_page && row.winners === null && row.state !== "to come")) {
    setTimeout(() => shown(showOccurrences)(name), 3000);
  }
}

export function openLedger(name) {
  by("check-hash").addEventListener("click", () => shown(checkHash)(name));
  shown(showOccurrences)(name);
}
