"""The published schemas over HTTP, read-only, with the API of Confluent's schema registry.

A stock Avro deserializer can use the edge as its registry if no schema registry is configured. No key
is needed: schemas are the same for all tenants and contain no data of a tenant. If a registry is
configured, ids on topics are that registry's, and the edge serves no schemas.

While workers of a newer version write, records have ids that this version does not ship. On request
the edge reads those schemas from the topic ``schemas``, to which workers write them.

Paths, bodies and error codes follow the reference of Confluent's Schema Registry API, as far as its
clients use it.
"""

import asyncio
import json
import logging
import math
import re
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from typing import Any

import msgspec
from confluent_kafka import KafkaException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from connectors.edge.body import Room, read_body
from connectors.edge.problems import Problem
from streams.errors import BrokerUnavailable
from streams.kafka.schemas import learned
from streams.records.topics import CONTRACTS
from streams.settings import Settings
from streams.wire.contracts import Schema, Version, published, schema

log = logging.getLogger(__name__)

MEDIA_TYPE = "application/vnd.schemaregistry.v1+json"
COMPATIBILITY = "FULL_TRANSITIVE"
"""The compatibility of the versions of every contract, in the registry's terms."""

LOOKUP_BYTES_MAX = 262_144
"""The maximum size of a schema in a lookup; the largest published schema has 7 KB."""

_LOOKUPS_BYTES_MAX = 16 * LOOKUP_BYTES_MAX
_ROOTS = ("schemas", "subjects", "config", "mode")
_METHODS = ("GET", "POST", "PUT", "DELETE", "PATCH")
_VERSION_MAX = 2**31 - 1
_DIGITS = re.compile(r"[0-9]{1,10}")

_NO_SUBJECT, _NO_VERSION, _NO_SCHEMA = 40401, 40402, 40403
_BAD_SCHEMA, _BAD_VERSION, _READ_ONLY = 42201, 42202, 42205
_NO_STORE = 50001

_LEARN_EVERY_S = 5.0
"""The minimum interval between two reads of the topic, over all requests."""

_LEARN_WITHIN_S = 10.0

Answer = Callable[[Request], Awaitable[Response]]
Learn = Callable[[], Mapping[int, str]]
"""Returns the schemas on the topic ``schemas``, by id; raises ``BrokerUnavailable``."""


def schema_routes(settings: Settings) -> list[Route]:
    """The routes of the edge for schemas."""
    if settings.schema_registry_url is not None:
        return _rest(_elsewhere)
    learn = partial(learned, settings, _LEARN_WITHIN_S)
    return Schemas(settings.topic_prefix, published(), learn, settings.request_timeout_s).routes()


def with_learned(versions: Sequence[Version], texts: Mapping[int, str]) -> list[Version]:
    """``versions``, followed by those of ``texts`` (by id) that are not in ``versions``.

    Ids rise with the versions of a contract. A schema of an unknown name belongs to no topic here.
    """
    contracts = {_name(schema(contract)): contract for contract in CONTRACTS.values()}
    known = list(versions)
    for number in sorted(texts.keys() - {version.schema_id for version in versions}):
        found = json.loads(texts[number])
        contract = contracts.get(_name(found))
        if contract is not None:
            count = max(version.number for version in known if version.contract == contract)
            known.append(Version(number, contract, count + 1, "", found))
    return known


def _name(schema: Schema) -> tuple[str, str]:
    return schema.get("namespace", ""), schema["name"]


class Schemas:
    """The published ``versions`` under the subjects of a line's topics."""

    def __init__(
        self, topic_prefix: str, versions: Sequence[Version], learn: Learn, timeout_s: float
    ) -> None:
        self._prefix = topic_prefix
        self._learn = learn
        self._learning = asyncio.Lock()
        self._learned_at_s = -math.inf
        self._has_learned = False
        self._take(versions)
        self._timeout_s = timeout_s
        self._room = Room(_LOOKUPS_BYTES_MAX)
        self.reads: dict[str, Answer] = {
            "/schemas/types": self.types,
            "/schemas/ids/{id}": self.by_id,
            "/schemas/ids/{id}/schema": self.text_by_id,
            "/schemas/ids/{id}/subjects": self.subjects_by_id,
            "/schemas/ids/{id}/versions": self.versions_by_id,
            "/subjects": self.subjects,
            "/subjects/{subject}/versions": self.versions,
            "/subjects/{subject}/versions/{version}": self.version,
            "/subjects/{subject}/versions/{version}/schema": self.text,
            "/config": self.config,
            "/config/{subject}": self.config,
            "/mode": self.mode,
            "/mode/{subject}": self.mode,
        }
        """The handlers of GET requests, by path."""

    def _take(self, versions: Sequence[Version]) -> None:
        self._versions = versions
        self._by_id = {version.schema_id: version for version in versions}
        self._by_subject = {
            f"{self._prefix}{topic}-value": {v.number: v for v in versions if v.contract == contract}
            for topic, contract in CONTRACTS.items()
        }

    def routes(self) -> list[Route]:
        """The routes for all paths of a registry; unsupported requests get an error in its format."""
        return [
            *(Route(path, answer) for path, answer in self.reads.items()),
            Route("/subjects/{subject}", self.lookup, methods=["POST"]),
            *_rest(_unknown),
        ]

    async def types(self, request: Request) -> Response:
        return _json(["AVRO"])

    async def by_id(self, request: Request) -> Response:
        found = await self._of_id(request)
        return found if isinstance(found, Response) else _json({"schema": _text(found)})

    async def text_by_id(self, request: Request) -> Response:
        found = await self._of_id(request)
        return found if isinstance(found, Response) else _json(found.schema)

    async def subjects_by_id(self, request: Request) -> Response:
        found = await self._of_id(request)
        return found if isinstance(found, Response) else _page(request, self._subjects_of(found))

    async def versions_by_id(self, request: Request) -> Response:
        found = await self._of_id(request)
        if isinstance(found, Response):
            return found
        subjects = self._subjects_of(found)
        return _page(request, [{"subject": name, "version": found.number} for name in subjects])

    async def subjects(self, request: Request) -> Response:
        prefix = request.query_params.get("subjectPrefix", "")
        return _page(request, [name for name in self._by_subject if name.startswith(prefix)])

    async def versions(self, request: Request) -> Response:
        found = self._of_subject(request)
        return found if isinstance(found, Response) else _page(request, list(found))

    async def version(self, request: Request) -> Response:
        found = self._of_version(request)
        return found if isinstance(found, Response) else _registered(request, found)

    async def text(self, request: Request) -> Response:
        found = self._of_version(request)
        return found if isinstance(found, Response) else _json(found.schema)

    async def config(self, request: Request) -> Response:
        return self._setting(request, {"compatibilityLevel": COMPATIBILITY})

    async def mode(self, request: Request) -> Response:
        return self._setting(request, {"mode": "READONLY"})

    async def lookup(self, request: Request) -> Response:
        """Answers with the version of a subject that has the schema of the body."""
        found = self._of_subject(request)
        if isinstance(found, Response):
            return found
        try:
            with self._room.share() as share:
                body = await read_body(request, LOOKUP_BYTES_MAX, share, self._timeout_s)
        except Problem as problem:
            return _error(problem.status, problem.status, str(problem))
        try:
            wanted = json.loads(json.loads(body)["schema"])
        except (ValueError, KeyError, TypeError, RecursionError):
            return _error(422, _BAD_SCHEMA, 'The body is not {"schema": "<an Avro schema as text>"}.')
        for version in found.values():
            if version.schema == wanted:
                return _registered(request, version)
        return _error(404, _NO_SCHEMA, "Schema not found")

    async def _of_id(self, request: Request) -> Version | Response:
        text = request.path_params["id"]
        number = _number(text)
        if number > 0 and number not in self._by_id and not await self._learn_newer():
            return _error(500, _NO_STORE, "Error in the backend data store")
        return self._by_id.get(number) or _error(404, _NO_SCHEMA, f"Schema {text} not found")

    async def _learn_newer(self) -> bool:
        """Reads the topic if the last read is too old. Returns whether the last read succeeded."""
        async with self._learning:
            if time.monotonic() - self._learned_at_s > _LEARN_EVERY_S:
                try:
                    texts = await asyncio.to_thread(self._learn)
                    self._take(with_learned(self._versions, texts))
                    self._has_learned = True
                except (BrokerUnavailable, KafkaException) as problem:
                    log.error("schemas of newer versions cannot be read: %s", problem)
                    self._has_learned = False
                self._learned_at_s = time.monotonic()
            return self._has_learned

    def _of_subject(self, request: Request) -> dict[int, Version] | Response:
        subject = request.path_params["subject"]
        found = self._by_subject.get(subject)
        return found or _error(404, _NO_SUBJECT, f"Subject '{subject}' not found.")

    def _of_version(self, request: Request) -> Version | Response:
        versions = self._of_subject(request)
        if isinstance(versions, Response):
            return versions
        wanted = request.path_params["version"]
        if wanted in ("latest", "-1"):
            return versions[max(versions)]
        if not 1 <= _number(wanted) <= _VERSION_MAX:
            return _error(
                422,
                _BAD_VERSION,
                f"The specified version '{wanted}' is not a valid version id. Allowed values are "
                f'between [1, {_VERSION_MAX}] and the string "latest".',
            )
        return versions.get(_number(wanted)) or _error(404, _NO_VERSION, f"Version {wanted} not found.")

    def _subjects_of(self, version: Version) -> list[str]:
        return [name for name, found in self._by_subject.items() if version in found.values()]

    def _setting(self, request: Request, value: dict[str, str]) -> Response:
        found = self._of_subject(request) if "subject" in request.path_params else {}
        return found if isinstance(found, Response) else _json(value)


async def _unknown(request: Request) -> Response:
    if request.method not in ("GET", "HEAD"):
        return _error(422, _READ_ONLY, "This registry is read-only: the edge serves published schemas.")
    return _error(404, 404, "HTTP 404 Not Found")


async def _elsewhere(request: Request) -> Response:
    return _error(404, 404, "The edge serves no schemas here: a schema registry is configured. Ask it.")


def _rest(answer: Answer) -> list[Route]:
    """Routes for all paths below the registry's, so that unknown paths get an error in its format."""
    paths = [path for root in _ROOTS for path in (f"/{root}", f"/{root}/{{rest:path}}")]
    return [Route(path, answer, methods=_METHODS) for path in paths]


def _registered(request: Request, version: Version) -> Response:
    return _json(
        {
            "subject": request.path_params["subject"],
            "version": version.number,
            "id": version.schema_id,
            "schema": _text(version),
        }
    )


def _text(version: Version) -> str:
    return json.dumps(version.schema, ensure_ascii=False, separators=(",", ":"))


def _page(request: Request, entries: Sequence[Any]) -> Response:
    """The part of a list that the query selects by ``offset`` and ``limit``; below 0 is no limit."""
    offset = _number(request.query_params.get("offset", "0"))
    limit = _number(request.query_params.get("limit", ""))
    after = entries[max(0, offset) :]
    return _json(after if limit < 0 else after[:limit])


def _number(text: str) -> int:
    """A number of up to ten digits; -1 for anything else."""
    return int(text) if _DIGITS.fullmatch(text) else -1


def _error(status: int, code: int, message: str) -> Response:
    return _json({"error_code": code, "message": message}, status)


def _json(body: Any, status: int = 200) -> Response:
    return Response(msgspec.json.encode(body), status, media_type=MEDIA_TYPE)
