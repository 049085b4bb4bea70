"""The health of the sink: its thread, pending rows, ClickHouse, Kafka, and waiting partitions."""

import time

from connectors.clickhouse.sink import Sink
from streams.kafka.input_watch import InputWatch
from streams.settings import Settings
from streams.telemetry.health import Health, judged


class SinkHealth:
    """The health of the sink. It exists before the sink, which registers later; any thread may ask it.

    A stuck sink is recognised by the iterations of its thread, not by offsets that wait, since an
    aborted transaction takes up offsets and has no rows.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._sink: Sink | None = None
        self._watch: InputWatch | None = None

    def begin(self, sink: Sink, watch: InputWatch) -> None:
        """Registers the sink and the watch of its input before they start."""
        self._sink, self._watch = sink, watch

    def report(self) -> Health:
        """The health of the sink, computed without asking Kafka or ClickHouse."""
        sink, watch = self._sink, self._watch
        if sink is None or watch is None:
            return judged({}, waiting=["the sink is starting: it looks for Kafka and ClickHouse"])
        now, at = time.monotonic(), watch.now()
        away_s = None if sink.away_since is None else now - sink.away_since
        facts = {
            "partitions": len(sink.assigned),
            "rows_inserted": sink.rows_inserted,
            "rows_pending": sink.pending_rows,
            "lag": at.lag,
            "last_insert_s": None if sink.inserted_at is None else now - sink.inserted_at,
            "clickhouse_away_s": away_s,
            "kafka_away_s": at.kafka_away_s,
        }
        waiting, stuck = [], []
        if away_s is not None:
            waiting.append(
                f"ClickHouse has been away for {away_s:.0f} s; {sink.pending_rows} rows wait"
            )
        waiting += [f"{partition} waits: {why}" for partition, why in sink.waiting().items()]
        if at.kafka_away_s is not None:
            waiting.append(f"Kafka has not answered for {at.kafka_away_s:.0f} s")
        if not sink.assigned:
            waiting.append("the sink has not been assigned partitions by its group yet")
        still_s = 0.0 if sink.turn_at is None else now - sink.turn_at
        if not waiting and still_s >= self._settings.stuck_after_s:
            stuck.append(f"the sink's thread has stood still for {still_s:.0f} s")
        return judged(facts, waiting=waiting, stuck=stuck)
