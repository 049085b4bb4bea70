"""State and topics of a released version: captured once, loaded by the tests of every later version.

``python -m tests.released VERSION`` captures a small line of the present code, with unfinished work,
into ``tests/integration/released-VERSION.tar.xz``. It is run at the release, before any format that a
line writes changes; an existing file is never made again.
"""

import io
import shutil
import sys
import tarfile
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec
from confluent_kafka import Producer, TopicPartition

from connectors.demo.day import Post, day
from connectors.local import memory_broker
from streams.kafka.admin import ensure_topics, wait_for_broker
from streams.kafka.clients import committed_consumer, idempotent_producer, transactional_producer
from streams.kafka.offsets import watermarks
from streams.records.raw_batch import Headers, headers_of, join_requests
from streams.records.topics import RAW, TOPICS
from streams.settings import Settings
from tests.integration.test_line import Line, headers_of_message, read
from tests.line import batch_of_post

HOME = Path(__file__).parent / "integration"
PARTITIONS = 4
BEHIND = 3
"""A partition whose RocksDB lacks its last transaction, as after a crash between commit and write."""


class Kept(msgspec.Struct, array_like=True):
    """A record of a topic."""

    offset: int
    key: bytes | None
    value: bytes
    headers: list[tuple[str, bytes]]


class Log(msgspec.Struct, array_like=True):
    """A partition of a topic; ``end`` is its end offset. Transaction markers take offsets too."""

    records: list[Kept]
    end: int

    def runs(self) -> Iterator[tuple[list[Kept], bool]]:
        """Runs of records without a gap, and for each whether a transaction marker follows it."""
        run: list[Kept] = []
        for record in self.records:
            if run and record.offset > run[-1].offset + 1:
                yield run, True
                run = []
            run.append(record)
        if run:
            yield run, self.end > run[-1].offset + 1


class Captured(msgspec.Struct):
    """A stopped line with unfinished work.

    ``posts``: all posts to the line. ``topics``: partitions by topic. ``translated``: by raw partition,
    the number of translated records. The archive has the RocksDB directories too, in ``state``.
    """

    cluster: str
    posts: list[Post]
    topics: dict[str, list[Log]]
    translated: list[int]


def archive(version: str) -> Path:
    """The archive of a released version's line."""
    return HOME / f"released-{version}.tar.xz"


def unpacked(version: str, state: Path) -> Captured:
    """The line of a version; writes its RocksDB directories to ``state``, which must not exist."""
    with tarfile.open(archive(version)) as tar:
        lines = tar.extractfile("line.msgpack")
        assert lines is not None
        members = [member for member in tar if member.name.startswith("state/")]
        tar.extractall(state.parent, members, filter="data")
        (state.parent / "state").rename(state)
        return msgspec.msgpack.decode(lines.read(), type=Captured)


def load(captured: Captured, settings: Settings) -> None:
    """Writes the records to existing, empty topics, each at its original offset."""
    plain = idempotent_producer(settings)
    marking = transactional_producer(settings, f"{settings.topic_prefix}load")
    marking.init_transactions()
    for topic, logs in captured.topics.items():
        for partition, log in enumerate(logs):
            place = TopicPartition(settings.topic_prefix + topic, partition)
            for run, marked in log.runs():
                if marked:
                    marking.begin_transaction()
                    _produce(marking, place, run)
                    marking.commit_transaction()
                else:
                    _produce(plain, place, run)


def _produce(producer: Producer, place: TopicPartition, records: Sequence[Kept]) -> None:
    placed = []
    for record in records:
        producer.produce(
            place.topic,
            record.value,
            record.key,
            partition=place.partition,
            headers=record.headers,  # type: ignore[arg-type]  # declared with a wider type of pair
            on_delivery=lambda error, message: placed.append(message.offset()),
        )
    assert producer.flush(60) == 0
    assert placed == [record.offset for record in records]


def raw_records(posts: Sequence[Post], name: str) -> Iterator[tuple[list[tuple[str, bytes]], bytes]]:
    """The raw records that an edge makes of posts: every third post shares one with the next."""
    waiting: list[tuple[Headers, bytes]] = []
    for number, post in enumerate(posts):
        batch = batch_of_post(post, number, name)
        waiting.append((headers_of(batch, post.invalid), post.body))
        if number % 3:
            yield join_requests(waiting)
            waiting = []
    if waiting:
        yield join_requests(waiting)


def capture(version: str) -> None:
    """Runs a line in this process on the in-memory broker and archives its topics and state."""
    posts = day(seed=41, events=700)
    with memory_broker.cluster() as bootstrap, tempfile.TemporaryDirectory() as temporary:
        settings = Settings(data_dir=Path(temporary), kafka_bootstrap=bootstrap)
        ensure_topics(settings)
        line = Line(settings)
        producer = idempotent_producer(settings)
        for number, (headers, body) in enumerate(raw_records(posts, "batch")):
            producer.produce(
                settings.topic_prefix + RAW,
                body,
                dict(headers)["batch-id"],
                partition=number % PARTITIONS,
                headers=headers,  # type: ignore[arg-type]
            )
        producer.flush()
        raw = line.raw()
        translated = [sum(r.partition == p for r in raw) - 1 for p in range(PARTITIONS)]
        for record in raw:
            if record.offset < translated[record.partition]:
                line.translate([record])
        for partition in range(PARTITIONS):
            _process(line, partition)
        topics = {
            topic.name: [_log(settings, topic.name, partition) for partition in range(PARTITIONS)]
            for topic in TOPICS
        }
        captured = Captured(wait_for_broker(settings), posts, topics, translated)
        _pack(captured, settings.state_path / "w", archive(version))


def _log(settings: Settings, topic: str, partition: int) -> Log:
    consumer = committed_consumer(settings, "capture")
    _, end = watermarks(consumer, TopicPartition(settings.topic_prefix + topic, partition))
    consumer.close()
    records = [
        Kept(message.offset() or 0, message.key(), message.value() or b"", headers_of_message(message))
        for message in read(settings, topic, partition)
    ]
    return Log(records, end)


def _process(line: Line, partition: int) -> None:
    """Processes all but the last chunk of a partition, in several transactions."""
    *early, last, _ = line.staged(partition)
    with line.owned(partition) as owned:
        for start in range(0, len(early), 3):
            owned.apply(early[start : start + 3])
    home = line.settings.state_path / "w" / f"partition-{partition}"
    if partition == BEHIND:
        shutil.copytree(home, home.with_name("copy"))
    with line.owned(partition) as owned:
        owned.apply([last])
    if partition == BEHIND:
        shutil.rmtree(home)
        home.with_name("copy").rename(home)


def _pack(captured: Captured, state: Path, target: Path) -> None:
    with tarfile.open(target, "x:xz", preset=9) as tar:
        data = msgspec.msgpack.encode(captured)
        entry = tarfile.TarInfo("line.msgpack")
        entry.size = len(data)
        tar.addfile(entry, io.BytesIO(data))
        for path in sorted(state.rglob("*")):
            if path.is_file() and not path.name.startswith("LOG"):
                tar.add(path, f"state/{path.relative_to(state)}", filter=_anonymous)


def _anonymous(entry: tarfile.TarInfo) -> tarfile.TarInfo:
    entry.uid = entry.gid = 0
    entry.uname = entry.gname = ""
    return entry


if __name__ == "__main__":
    capture(sys.argv[1])
