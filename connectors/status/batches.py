"""What became of a batch, item by item.

Outcomes count a batch's items. Which item was accepted is in the tables of canonical events, which one
was refused in the rejects; once the outcomes count every item, the rest are duplicates.

The tables are read without ``FINAL``: a row that stands there twice names the same position, and one
that a later event has replaced may still be there.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any, Literal, NamedTuple, get_args

from connectors.clickhouse.literals import quoted
from connectors.status.canonical import TABLES, Rows, iso
from connectors.status.differences import CODE, Conflict, shown_differences, with_accepted

ItemOutcome = Literal["accepted", "duplicate", "conflict", "rejected", "counted", "on_the_way"]
"""What can have become of an item. ``counted``: it is in the batch's counts, and the tables do not show
yet, or no longer, which of several counts that is. A correction, and after the window a later event
with the id, replaces the row of the accepted event.
"""

OUTCOMES: tuple[ItemOutcome, ...] = get_args(ItemOutcome)

ITEMS_MAX = 1000
"""Most items of one page."""

DIFFERENCES_MAX = 100
"""Most conflicts of one page that are compared with the accepted items."""

_COUNTS = ("received", "accepted", "duplicate", "conflict", "rejected")


class Page(NamedTuple):
    """The part of a batch that is shown: ``limit`` items from the ``offset``-th on, of all items or of
    those with one of :data:`OUTCOMES`.
    """

    offset: int = 0
    limit: int = ITEMS_MAX
    outcome: str | None = None


class _Batch(NamedTuple):
    """A batch's counts, and the SQL conditions that choose its rows among events and among rejects."""

    head: dict[str, Any]
    counts: dict[str, int]
    of_events: str
    of_rejects: str


def status(rows: Rows, tenant: str, batch_id: str, page: Page) -> dict[str, Any] | None:
    """What became of a batch; None if ClickHouse has no outcome of the tenant with this batch id."""
    batch = _find(rows, tenant, batch_id)
    if batch is None:
        return None
    accepted, refused = _positions(rows, batch)
    outcomes = list(_outcomes(batch.counts, accepted, refused))
    chosen = [entry for entry in outcomes if page.outcome in (None, entry[1])]
    shown = chosen[page.offset : page.offset + page.limit]
    errors = _errors(rows, tenant, batch, [index for index, _ in shown if index in refused])
    end = page.offset + len(shown)
    on_the_way = batch.counts["received"] - sum(batch.counts[name] for name in _COUNTS[1:])
    return {
        **batch.head,
        "settled": _is_settled(batch.counts),
        **batch.counts,
        "on_the_way": on_the_way,
        "items": [
            {"index": index, "outcome": outcome} | errors.get(index, {}) for index, outcome in shown
        ],
        "next_offset": end if end < len(chosen) else None,
    }


def _find(rows: Rows, tenant: str, batch_id: str) -> _Batch | None:
    own = f"tenant = {quoted(tenant)} AND batch_id = {quoted(batch_id)}"
    sums = ", ".join(f"sum({name}) AS {name}" for name in _COUNTS)
    found = rows(
        f"SELECT any(source) AS posted_as, toString(max(o.received_at)) AS at, {sums}, "
        "groupUniqArray(concat(toString(raw_partition), '-', toString(raw_offset), '-')) AS records "
        f"FROM outcomes AS o WHERE {own} HAVING countIf(stage = 'translate') > 0"
    )
    if not found:
        return None
    [row] = found
    of_its_record = " OR ".join(f"startsWith(reject_id, {quoted(lead)})" for lead in row["records"])
    return _Batch(
        {"batch_id": batch_id, "received_at": iso(row["at"]), "source": row["posted_as"]},
        {name: int(row[name]) for name in _COUNTS},
        f"received_at = toDateTime64({quoted(row['at'])}, 6, 'UTC') AND {own}",
        f"{own} AND ({of_its_record})",
    )


def _positions(rows: Rows, batch: _Batch) -> tuple[set[int], dict[int, str]]:
    """The positions of accepted items, and the outcomes of refused ones by position."""
    events = " UNION ALL ".join(
        f"SELECT position FROM {table} WHERE {batch.of_events}" for table in TABLES.values()
    )
    found = rows(
        f"SELECT 'accepted' AS outcome, groupUniqArray(position) AS positions FROM ({events}) "
        f"UNION ALL SELECT outcome, groupUniqArray(position) FROM rejects WHERE {batch.of_rejects} "
        "GROUP BY outcome"
    )
    by_outcome = {row["outcome"]: row["positions"] for row in found}
    accepted = set(by_outcome.pop("accepted"))
    return accepted, {at: outcome for outcome, positions in by_outcome.items() for at in positions}


def _outcomes(
    counts: dict[str, int], accepted: set[int], refused: dict[int, str]
) -> Iterator[tuple[int, str]]:
    """The outcome of every item by index; index -1 is a request that was refused as a whole."""
    if -1 in refused:
        yield -1, refused[-1]
        return
    seen = Counter(refused.values()) + Counter(accepted=len(accepted))
    unseen = [name for name in _COUNTS[1:] if counts[name] > seen[name]]
    rest = "on_the_way"
    if _is_settled(counts):
        rest = unseen[0] if len(unseen) == 1 else "counted"
    for index in range(counts["received"]):
        yield index, "accepted" if index in accepted else refused.get(index, rest)


def _is_settled(counts: dict[str, int]) -> bool:
    return counts["received"] == sum(counts[name] for name in _COUNTS[1:])


def _errors(
    rows: Rows, tenant: str, batch: _Batch, positions: Sequence[int]
) -> dict[int, dict[str, Any]]:
    """Id and errors of refused items, and how a conflict differs from the accepted one, by position."""
    if not positions:
        return {}
    found = rows(
        f"SELECT position, reject_id, errors, code, if(code = {quoted(CODE)}, payload, '') AS item "
        f"FROM rejects WHERE {batch.of_rejects} AND position IN ({', '.join(map(str, positions))}) "
        "ORDER BY position"
    )
    source = batch.head["source"]
    conflicts = [Conflict(row["reject_id"], source, row["item"]) for row in found if row["item"]]
    compared = with_accepted(rows, tenant, conflicts[:DIFFERENCES_MAX])
    return {
        row["position"]: {"reject_id": row["reject_id"], "errors": row["errors"]}
        | shown_differences(compared.get(row["reject_id"]))
        for row in found
    }
