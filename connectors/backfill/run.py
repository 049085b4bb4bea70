"""Writes files to the line, with a bounded number of items in flight.

The steps, and the state after a crash at the end of each:

1. Record in the journal from where the outcomes of the file can be read. Nothing is written.
2. Write a unit of the file, once the line has settled enough of the earlier ones. The unit may be in
   Kafka and is not in the journal: the next run writes it again, under the same batch id, and its
   items are duplicates.
3. Read what became of it from the outcomes, and count it. The journal does not have it yet: as above;
   the next run also reads the outcomes of the first copy, and counts as accepted what was accepted.
4. Record the progress in the journal.
"""

import time
from collections import deque
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from itertools import islice
from typing import NamedTuple

from connectors.backfill.files import Source, entries
from connectors.backfill.journal import Journal, Progress
from connectors.backfill.outcomes import Outcomes
from connectors.backfill.requests import Job, Refusal, Unit, units
from streams.errors import NotSettled
from streams.kafka.lag import SINK, LagMeter
from streams.kafka.request_writer import RawPosition, RequestWriter
from streams.settings import Settings

SAVE_EVERY_S = 1.0
MEASURE_EVERY_S = 1.0
REPORT_EVERY_S = 5.0
_STEP_S = 0.05


class Pace(NamedTuple):
    """Limits: items in flight, items a second (None: as fast as the line settles them), seconds by
    which the sink may be behind (None: any), seconds without any progress after which a backfill gives
    up, and examples of refused items.
    """

    in_flight: int
    items_per_s: float | None
    sink_lag_max_s: float | None
    wait_s: float
    examples: int


@dataclass
class _Written:
    """A unit in flight. ``outcomes`` are the positions from which its outcomes can be read."""

    unit: Unit
    outcomes: dict[int, int]
    at: RawPosition | None = None

    def written(self, at: RawPosition) -> None:
        self.at = at


class _Shared(NamedTuple):
    """What all files of a backfill share; ``sink`` measures its lag."""

    journal: Journal
    writer: RequestWriter
    sink: LagMeter | None
    pace: Pace
    say: Callable[[str], None]


class Backfill:
    """Writes one file after another; ``say`` prints the progress."""

    def __init__(
        self, settings: Settings, journal: Journal, pace: Pace, say: Callable[[str], None]
    ) -> None:
        self._settings = settings
        sink = None if pace.sink_lag_max_s is None else LagMeter(settings, SINK)
        self._shared = _Shared(journal, RequestWriter(settings), sink, pace, say)

    def close(self) -> None:
        """Closes the connections."""
        if self._shared.sink is not None:
            self._shared.sink.close()

    def run(self, job: Job, source: Source) -> Progress:
        """Writes a file, or the rest of it, and returns when the line has settled all of it.

        Raises ``NotSettled`` if nothing is settled for too long, and ``DeliveryFailed``.
        """
        progress = self._shared.journal.progress(str(job.id), str(source.path), job.lead)
        if progress.complete:
            return progress
        with closing(Outcomes(self._settings, job.lead, progress.outcomes)) as outcomes:
            file = _File(self._shared, source, progress, outcomes)
            file.save()
            rest = islice(entries(source), progress.entries, None)
            for unit in units(job, rest, progress.entries):
                file.write(unit)
            file.finish()
        return progress


class _File:
    """One call of :meth:`Backfill.run`."""

    def __init__(self, shared: _Shared, source: Source, progress: Progress, outcomes: Outcomes) -> None:
        self._journal, self._writer, self._sink, self._pace, self._say = shared
        self._source = source
        self._progress = progress
        self._outcomes = outcomes
        self._pending: deque[_Written] = deque()
        self._in_flight = 0
        self._is_held = False
        self._due = self._moved = self._saved = self._said = self._measured = time.monotonic()
        self._begun, self._before = self._due, progress.received

    def write(self, unit: Unit) -> None:
        """Writes a unit when there is room for it and the rate allows it."""
        pace = self._pace
        while self._in_flight and self._in_flight + unit.items > pace.in_flight:
            self._step(_STEP_S)
        while self._is_sink_behind():
            self._step(_STEP_S)
        if pace.items_per_s is not None:
            while (left := self._due - time.monotonic()) > 0:
                self._step(min(left, _STEP_S))
            self._due = max(self._due, time.monotonic() - 1.0) + unit.items / pace.items_per_s
        entry = _Written(unit, self._outcomes.positions)
        self._pending.append(entry)
        self._in_flight += unit.items
        self._moved = time.monotonic()
        if unit.requests:
            self._writer.write(unit.requests, entry.written)
        self._step(0)

    def finish(self) -> None:
        """Waits until everything is settled, and records that the file is complete."""
        self._writer.flush()
        while self._pending:
            self._step(_STEP_S)
        self._progress.complete = True
        self.save()

    def _is_sink_behind(self) -> bool:
        """Whether the sink is too far behind; measured every second, and steadily while it is."""
        most = self._pace.sink_lag_max_s
        if self._sink is None or most is None or time.monotonic() - self._measured < MEASURE_EVERY_S:
            return False
        behind_s = max((lag.seconds or 0.0 for lag in self._sink.measure()), default=0.0)
        was_held, self._is_held = self._is_held, behind_s > most
        if not self._is_held:
            self._measured = time.monotonic()
            if was_held:
                self._moved = self._measured
        return self._is_held

    def _step(self, timeout_s: float) -> None:
        """Takes delivery reports and outcomes, and counts the units that are settled, in order."""
        self._writer.poll()
        self._outcomes.poll(timeout_s)
        while self._pending and self._is_settled(self._pending[0]):
            self._count(self._pending[0])
            self._in_flight -= self._pending.popleft().unit.items
            self._moved = time.monotonic()
        now = time.monotonic()
        if now - self._saved > SAVE_EVERY_S:
            self.save()
        if now - self._said > REPORT_EVERY_S:
            self._said = now
            self._say(self._so_far(now))
        if (self._pending or self._is_held) and now - self._moved > self._pace.wait_s:
            self.save()
            raise NotSettled(
                f"no progress for {self._pace.wait_s:.0f} s; {self._in_flight} items of "
                f"{self._source.path} are written and not settled. Run the same command again when the "
                "workers and the sink run: it continues."
            )

    def _is_settled(self, written: _Written) -> bool:
        unit, at = written.unit, written.at
        if at is None:
            return not unit.requests
        return all(
            self._outcomes.is_settled(request.batch.batch_id, items, at)
            for request, items in zip(unit.requests, unit.counts, strict=True)
        )

    def _count(self, written: _Written) -> None:
        progress, unit = self._progress, written.unit
        unreadable = sum(not refusal.written for refusal in unit.refusals)
        progress.add({"entries": unit.end - unit.first, "unreadable": unreadable})
        for refusal in unit.refusals:
            self._example(said(self._source, refusal))
        for request in unit.requests:
            assert written.at is not None
            counts = self._outcomes.take(request.batch.batch_id, written.at)
            progress.add(counts)
            if counts["conflict"]:
                first, last = unit.numbers
                self._example(
                    f"{self._source.path}, {self._source.unit} {first} to {last}: {counts['conflict']} "
                    f"conflicts; `roundhouse rejects list --batch {request.batch.batch_id}`"
                )

    def _example(self, text: str) -> None:
        if len(self._progress.examples) < self._pace.examples:
            self._progress.examples.append(text)

    def _so_far(self, now: float) -> str:
        rate = (self._progress.received - self._before) / (now - self._begun)
        waiting = now - self._moved
        waits = f", waiting for the line for {waiting:.0f} s" if waiting > REPORT_EVERY_S else ""
        return (
            f"{self._source.path}: {self._progress.entries} read and settled, {self._in_flight} in "
            f"flight, {rate:.0f} items/s{waits}"
        )

    def save(self) -> None:
        """Records the progress, and from where the outcomes of the rest can be read."""
        oldest = self._pending[0].outcomes if self._pending else self._outcomes.positions
        self._progress.outcomes = oldest
        self._journal.save()
        self._saved = time.monotonic()


def said(source: Source, refusal: Refusal) -> str:
    """A refusal in words, with its file, line and pointer."""
    number, problem, written = refusal
    where = f"{source.path}:{number}" if source.unit == "line" else f"{source.path} item {number}"
    at = f" at {problem.pointer}" if problem.pointer else ""
    return f"{where}: {problem.code}{at}: {problem.message}{'' if written else ' (not written)'}"
