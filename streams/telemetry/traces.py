"""Traces with OpenTelemetry: a span for each sampled request, and for each batch that contains one.

The edge samples requests. The ``traceparent`` (W3C) of a sampled request is in a header of its raw
record, of its staged records, and of an outcome record of its transaction. Stages that work on
batches make one span per batch with links to the spans of its requests, and no span for a batch
without a sampled request. Without tracing or samples, the cost is one comparison.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from importlib import import_module
from typing import TYPE_CHECKING

from streams.errors import ConfigurationError
from streams.records.raw_batch import TRACEPARENT
from streams.settings import Settings

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.trace import Span

LINKS_MAX = 128
"""The maximum number of links of a span; also OpenTelemetry's default limit."""

Attributes = Mapping[str, str | int]


class Traces:
    """Makes spans. Only processes that trace import the OpenTelemetry SDK."""

    def __init__(self, provider: "TracerProvider") -> None:
        self._tracer = provider.get_tracer("roundhouse")

    @contextmanager
    def request(self, name: str, parent: str | None, attributes: Attributes) -> Iterator["Span"]:
        """A span of the edge, within the trace of ``parent``, the client's ``traceparent``, if any.

        Exceptions are not recorded: their messages may contain posted data.
        """
        from opentelemetry.trace import SpanKind
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

        context = TraceContextTextMapPropagator().extract(
            {} if parent is None else {TRACEPARENT: parent}
        )
        with self._tracer.start_as_current_span(
            name,
            context,
            SpanKind.SERVER,
            attributes,
            record_exception=False,
            set_status_on_exception=False,
        ) as span:
            yield span

    def batch(
        self, name: str, parents: Sequence[bytes], attributes: Attributes
    ) -> AbstractContextManager[object]:
        """A span of work on records, with links to their requests; no span without ``parents``."""
        if not parents:
            return nullcontext()
        from opentelemetry.trace import Link, SpanKind, get_current_span
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

        extract = TraceContextTextMapPropagator().extract
        contexts = [
            get_current_span(
                extract({TRACEPARENT: parent.decode("ascii", "replace")})
            ).get_span_context()
            for parent in parents[:LINKS_MAX]
        ]
        return self._tracer.start_as_current_span(
            name,
            kind=SpanKind.CONSUMER,
            attributes=attributes,
            links=[Link(context) for context in contexts if context.is_valid],
            record_exception=False,
            set_status_on_exception=False,
        )


def traceparent_of(span: "Span") -> str | None:
    """The ``traceparent`` for the records of a request; None if the request is not sampled."""
    context = span.get_span_context()
    if not context.trace_flags.sampled:
        return None
    return f"00-{context.trace_id:032x}-{context.span_id:016x}-01"


def trace_id(traceparent: str) -> str:
    """The trace id of a ``traceparent``: 32 hexadecimal digits."""
    return traceparent.split("-")[1]


def parents_of(headers: Iterable[tuple[str, bytes]]) -> list[bytes]:
    """The ``traceparent`` of each traced request that a record's headers name."""
    return [value for name, value in headers if name == TRACEPARENT]


def open_traces(settings: Settings, job: str) -> Traces | None:
    """The traces of a process, exported by OTLP; None if ``trace_share`` is 0. ``job`` is its kind.

    The exporter reads OpenTelemetry's own variables (``OTEL_EXPORTER_OTLP_ENDPOINT``, ...). Raises
    ``ConfigurationError`` if the exporter is not installed.
    """
    if settings.trace_share == 0:
        return None
    try:
        exporter = import_module("opentelemetry.exporter.otlp.proto.http.trace_exporter")
    except ImportError:
        raise ConfigurationError(
            "ROUNDHOUSE_TRACE_SHARE is set, and the exporter of traces is not installed: install "
            "Roundhouse with its extra, `pipx install 'roundhouse[traces]'`, or set it to 0"
        ) from None
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor
    from opentelemetry.sdk.trace.sampling import ALWAYS_ON, TraceIdRatioBased

    provider = TracerProvider(
        # the other processes make spans for requests that the edge has sampled
        sampler=TraceIdRatioBased(settings.trace_share) if job == "edge" else ALWAYS_ON,
        resource=Resource.create({"service.name": f"roundhouse-{job}"}),
    )
    provider.add_span_processor(BatchSpanProcessor(exporter.OTLPSpanExporter()))
    return Traces(provider)
