"""Sends thousands of malformed requests to the edge and checks every answer.

Each body is a sample of a contract that is changed: fields get values of other types or out of bounds,
are removed, added or nested; then some texts are made invalid JSON. After the last request every raw
record in Kafka is translated, and the outcome must agree with the answer to its request.
"""

import gzip
import json
import string
import subprocess
import sys
import uuid
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import httpx
from confluent_kafka import TopicPartition
from hypothesis import HealthCheck, Phase, given, seed
from hypothesis import settings as example_settings
from hypothesis import strategies as st

from connectors.edge.routes import ROUTES
from connectors.edge.tenants import Registry
from connectors.local import memory_broker
from connectors.local.health import is_well
from connectors.local.memory_broker import PARTITIONS
from connectors.local.ports import Ports
from connectors.local.stack import Stack
from streams.kafka.clients import committed_consumer
from streams.records.raw_batch import RawRecord
from streams.settings import Settings
from streams.stages.translate import translate
from tests.waiting import WITHIN_S, wait_until

SAMPLES = Path(__file__).parents[2] / "connectors" / "edge" / "samples"
ROOT = SAMPLES.parent.parent
STATUSES = {204, 400, 401, 403, 404, 405, 413, 415, 422}
BODY_BYTES_MAX = 400_000
ITEMS_MAX = 500
TENANTS = ("acme", "zinc")


@dataclass
class Target:
    """A running edge with two tenants. ``answered``: by batch id, the tenant and the invalid items."""

    settings: Settings
    keys: dict[str, str]
    pid: int
    log: Path
    answered: dict[str, tuple[str, int]] = field(default_factory=dict)
    statuses: Counter[int] = field(default_factory=Counter)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.settings.edge_port}"

    def resident_bytes(self) -> int:
        pages = int(Path(f"/proc/{self.pid}/statm").read_text().split()[1])
        return pages * 4096


@contextmanager
def edge_alone(home: Path, **limits: Any) -> Iterator[Target]:
    """Runs an edge process on an in-memory broker of its own."""
    small = {"body_bytes_max": BODY_BYTES_MAX, "items_max": ITEMS_MAX, "partitions": PARTITIONS}
    with memory_broker.cluster() as bootstrap, Ports() as ports:
        settings = Settings(
            data_dir=home,
            kafka_bootstrap=bootstrap,
            edge_port=ports.hold("the test's edge"),
            **(small | limits),
        )
        registry = Registry(settings.tenants_path)
        keys = {
            name: registry.add(name, name == "zinc", campaigns_enabled=True)
            for name in ("acme", "zinc")
        }
        log = settings.data_dir / "edge.log"
        command = [sys.executable, "-m", "connectors.cli", "edge"]
        environment = Stack(settings).environment
        with (
            open(log, "wb") as out,
            subprocess.Popen(command, env=environment, cwd=ROOT, stdout=out, stderr=out) as process,
        ):
            try:
                wait_until(lambda: is_well(settings, "edge"), "the edge")
                yield Target(settings, keys, process.pid, log)
                assert process.poll() is None, log.read_text()
            finally:
                process.terminate()
                process.wait(WITHIN_S)


# Bodies --------------------------------------------------------------------------------------

_samples = [*sorted((SAMPLES / "native").glob("*")), *sorted((SAMPLES / "fasttrack").glob("*"))]
_bulk = [json.loads(path.read_text()) for path in _samples]
_items: list[dict[str, Any]] = [
    item for body in _bulk for item in (body["items"] if isinstance(body, dict) else body)
]
_gameball = json.loads((SAMPLES / "gameball" / "event.json").read_text())

_numbers = st.one_of(
    st.integers(),
    st.floats(),
    st.sampled_from(
        [10**20, 10**400, -1, 1e-18, 1e-19, 1e308, 0.1 + 0.2, float("nan"), float("inf"), -0.0]
    ),
)
_texts = st.one_of(
    st.text(max_size=30),
    st.sampled_from(
        ["", "\x00", "\ud800", "😀" * 20, "x" * 5_000, "2026-02-30T00:00:00Z", "9999-12-31T23:59:59Z",
         "0001-01-01T00:00:00+23:59", "2026-03-14", "EUR", "eur", "true", "a|b%7C"]
    ),
)  # fmt: skip
_values = st.recursive(
    st.one_of(st.none(), st.booleans(), _numbers, _texts),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(_texts, inner, max_size=4),
    max_leaves=8,
)


@st.composite
def _changed(draw: st.DrawFn, sample: dict[str, Any]) -> dict[str, Any]:
    """A sample object with some of its members changed, at any depth of objects."""
    changed = dict(sample)
    for _ in range(draw(st.integers(0, 3))):
        name = draw(st.sampled_from(sorted(changed)) | _texts) if changed else draw(_texts)
        action = draw(st.sampled_from(["set", "drop", "descend"]))
        if action == "drop":
            changed.pop(name, None)
        elif action == "descend" and isinstance(changed.get(name), dict):
            changed[name] = draw(_changed(changed[name]))
        else:
            changed[name] = draw(_values)
    return changed


_item = st.one_of(
    st.sampled_from(_items),
    st.sampled_from(_items).flatmap(lambda item: _changed(item)),
    _values,
)
_bulk_body = st.lists(_item, max_size=6).flatmap(
    lambda items: st.sampled_from([items, {"items": items}, {"items": items, "more": 1}])
)
_good_body = st.lists(st.sampled_from(_items), max_size=6)
_documents = st.one_of(_good_body, _bulk_body, st.just(_gameball), _changed(_gameball), _values)


@st.composite
def _bodies(draw: st.DrawFn) -> bytes:
    text = json.dumps(draw(_documents), ensure_ascii=draw(st.booleans()))
    body = text.encode(errors="surrogatepass")
    if draw(st.sampled_from([False] * 9 + [True])):  # make the text invalid
        at = draw(st.integers(0, len(body)))
        cut = draw(st.integers(0, 8))
        body = body[:at] + draw(st.binary(max_size=8)) + body[at + cut :]
    if draw(st.sampled_from([False] * 60 + [True])):
        body = draw(st.sampled_from(HOSTILE_BODIES))
    return body


HOSTILE_BODIES = [
    b"[" * 100_000,
    b'{"items":' * 20_000,
    b"[" + b"{}," * (ITEMS_MAX + 1) + b"{}]",
    b'{"items":[{"event":"deposit","data":{"amount":1' + b"0" * 100_000 + b"}}]}",
    b'{"items":[{"event":"deposit","data":{"amount":1e999999999}}]}',
    b'{"events":{"a":{},"a":{}},"playerUniqueId":"p"}',
    b'[{"event":"login","event":"login","data":{}}]',
    b"\xff\xfe[\x00]\x00",
    b"\xef\xbb\xbf[]",
    b'["\xed\xa0\x80"]',
    b"x" * (BODY_BYTES_MAX + 1),
    b"",
]


class Sent(NamedTuple):
    """A request with the key of ``tenant``; ``<tenant>`` in a header is replaced by that key."""

    method: str
    path: str
    headers: dict[str, bytes]
    body: bytes
    tenant: str | None

    def __repr__(self) -> str:
        return f"{self.method} {self.path} {self.headers} {self.body[:1_000]!r}"


_METHODS = ("GET", "PUT", "DELETE", "PATCH", "OPTIONS", "HEAD")
_PATHS = ("/", "/api/v1/events/", "/api/v2/events", "/healthz/x", "/%00", "/../etc")
_TYPES = (b"", b"text/plain", b"application/json; charset=utf-16", b"multipart/form-data", b"\xff")
_KEYS = (b"", b"rh_", b"rh_00000000_" + b"x" * 43, b"\xff\xfe", b"k" * 5_000)
_ENCODINGS = (b"gzip", b"br", b"gzip, gzip", b"deflate", b"\xff")
_ODDITIES = ["nothing"] * 24 + [
    "method", "path", "type", "key", "encoding", "gzip", "bomb", "cut gzip", "idempotency"
]  # fmt: skip
_IDEMPOTENCY_KEYS = (b"", b"k", b"x" * 201, b"a b", b"\xff")


@st.composite
def _requests(draw: st.DrawFn) -> Sent:
    route = draw(st.sampled_from(ROUTES))
    tenant = draw(st.sampled_from(TENANTS))
    headers = {route.key_header: f"<{tenant}>".encode(), "content-type": b"application/json"}
    sent = Sent("POST", route.path, headers, draw(_bodies()), tenant)
    odd = draw(st.sampled_from(_ODDITIES))
    if odd == "method":
        return sent._replace(method=draw(st.sampled_from(_METHODS)))
    if odd == "path":
        return sent._replace(path=draw(st.sampled_from(_PATHS)))
    if odd == "type":
        headers["content-type"] = draw(st.sampled_from(_TYPES))
    elif odd == "key":
        invented = st.text(string.ascii_letters + string.digits + "_", min_size=1).map(str.encode)
        headers[route.key_header] = draw(st.sampled_from(_KEYS) | invented)
        return sent._replace(tenant=None)
    elif odd == "encoding":
        headers["content-encoding"] = draw(st.sampled_from(_ENCODINGS))
    elif odd == "gzip":
        headers["content-encoding"] = b"gzip"
        return sent._replace(body=gzip.compress(sent.body))
    elif odd == "bomb":
        headers["content-encoding"] = b"gzip"
        return sent._replace(body=gzip.compress(bytes(BODY_BYTES_MAX * 50)))
    elif odd == "cut gzip":
        headers["content-encoding"] = b"gzip"
        return sent._replace(body=gzip.compress(sent.body)[: draw(st.integers(0, 40))])
    elif odd == "idempotency":
        headers["idempotency-key"] = draw(st.sampled_from(_IDEMPOTENCY_KEYS))
    return sent


def fuzz(target: Target, requests: int, number: int) -> None:
    """Sends ``requests`` requests drawn from a seed; checks every answer, and then Kafka's records."""
    with httpx.Client(base_url=target.url, timeout=WITHIN_S) as client:

        @seed(number)
        @example_settings(
            max_examples=requests,
            deadline=None,
            database=None,
            suppress_health_check=list(HealthCheck),
            phases=[Phase.generate],  # shrinking would send more requests than are recorded
        )
        @given(_requests())
        def send(sent: Sent) -> None:
            raw = [(name.encode(), _with_key(target, value)) for name, value in sent.headers.items()]
            answer = client.request(sent.method, sent.path, headers=raw, content=sent.body)
            check_answer(answer)
            target.statuses[answer.status_code] += 1
            if answer.status_code in (204, 422):
                assert sent.tenant is not None, "a batch without a valid key was accepted"
                invalid = answer.json()["invalid"] if answer.status_code == 422 else 0
                target.answered[answer.headers["x-batch-id"]] = (sent.tenant, invalid)

        send()
    check_kafka(target)


def _with_key(target: Target, value: bytes) -> bytes:
    return target.keys[value[1:-1].decode()].encode() if value in (b"<acme>", b"<zinc>") else value


def check_answer(answer: httpx.Response) -> None:
    """Checks the properties that docs promise operators of every answer."""
    status = answer.status_code
    assert status in STATUSES, answer.text
    uuid.UUID(answer.headers["x-batch-id"])
    if status == 204:
        assert answer.content == b""
        return
    if answer.request.method == "HEAD":
        return
    assert answer.headers["content-type"] == "application/problem+json"
    problem = answer.json()
    assert problem["status"] == status
    assert problem["code"]
    assert problem["detail"]
    assert problem["title"]
    if status == 422:
        assert problem["received"] == problem["stored"] + problem["invalid"]
        indexes = [error["index"] for error in problem["errors"]]
        assert indexes == sorted(indexes)
        assert len(set(indexes)) == problem["invalid"]
        assert all(0 <= index < problem["received"] for index in indexes)
        assert all(error["pointer"].startswith("/") for error in problem["errors"])


def check_kafka(target: Target) -> None:
    """Checks that Kafka has each accepted batch once, for its tenant, and that the outcome agrees with
    the answer."""
    seen: Counter[str] = Counter()
    for record in _raw_records(target.settings):
        translation = translate(record, 4)
        for outcome in translation.outcomes:
            batch_id, rejected = outcome.batch_id, outcome.rejected
            seen[batch_id] += 1
            assert target.answered[batch_id] == (outcome.tenant, rejected), record
        for groups in translation.groups.values():
            assert all(group.tenant == target.answered[group.batch_id][0] for group in groups)
    assert set(seen) == set(target.answered)
    assert set(seen.values()) <= {1}


def _raw_records(of: Settings) -> Iterator[RawRecord]:
    consumer = committed_consumer(of, "fuzz")
    topic = f"{of.topic_prefix}raw.batches"
    consumer.assign([TopicPartition(topic, number, 0) for number in range(of.partitions)])
    ended = 0
    while ended < of.partitions:
        for message in consumer.consume(1_000, 0.5):
            if message.error():
                ended += 1
            else:
                headers: Any = message.headers() or ()
                place = message.partition() or 0, message.offset() or 0
                yield RawRecord(*place, headers, message.value() or b"")
    consumer.close()
