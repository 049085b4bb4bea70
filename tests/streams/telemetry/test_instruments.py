"""Instruments serve the values that were recorded, in the form that Prometheus reads."""

from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from streams.core.accounting import CountedAt, Outcome
from streams.telemetry.client_statistics import ClientStatistics
from streams.telemetry.instruments import Counter, Gauge, Histogram, Tenants
from streams.telemetry.worker_metrics import StageMetrics, Work
from tests.line import NATIVE

Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]


def served(registry: CollectorRegistry) -> Samples:
    """The samples of a page, by name and labels."""
    text = generate_latest(registry).decode()
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def named(name: str, **labels: str) -> tuple[str, frozenset[tuple[str, str]]]:
    return name, frozenset(labels.items())


def test_a_counter_adds_up_by_label_and_one_without_labels_begins_at_zero() -> None:
    registry = CollectorRegistry()
    posts, retries = (
        Counter(registry, "posts", "Posts.", ["status"]),
        Counter(registry, "retries", "R."),
    )
    posts.add(2, "204")
    posts.add(3, "204")
    posts.add(1, "503")
    assert served(registry) == {
        named("posts_total", status="204"): 5,
        named("posts_total", status="503"): 1,
        named("retries_total"): 0,
    }
    retries.add(1)
    assert served(registry)[named("retries_total")] == 1


def test_a_gauge_that_is_replaced_serves_no_earlier_labels() -> None:
    registry = CollectorRegistry()
    open_ = Gauge(registry, "open", "Open.", ["partition"])
    open_.set(1, "0")
    open_.replace({("1",): 0, ("2",): 1})
    open_.remove("2")
    assert served(registry) == {named("open", partition="1"): 0}


@given(st.lists(st.floats(0, 100)), st.lists(st.floats(0, 100)))
def test_observing_many_values_at_once_is_observing_each(one: list[float], more: list[float]) -> None:
    registry, bounds = CollectorRegistry(), (0.05, 1.0, 10.0)
    single = Histogram(registry, "single", "One by one.", bounds)
    together = Histogram(registry, "together", "At once.", bounds)
    for value in [*one, *more]:
        single.observe(value)
    together.observe_all(one)
    together.observe_all(more)
    found = served(registry)
    for bound in (*map(str, bounds), "+Inf"):
        count = sum(value <= float(bound.replace("+", "")) for value in [*one, *more])
        assert found[named("single_bucket", le=bound)] == count
        assert found[named("together_bucket", le=bound)] == count
    assert found[named("together_count")] == len(one) + len(more)
    assert abs(found[named("single_sum")] - found[named("together_sum")]) < 1e-6


def test_so_many_tenants_have_a_label_of_their_own_and_the_rest_share_one() -> None:
    tenants = Tenants()
    names = [f"tenant-{number}" for number in range(Tenants.MAX + 2)]
    assert len({tenants.label(name) for name in names}) == Tenants.MAX + 1
    assert tenants.label(names[-1]) == Tenants.REST
    assert tenants.label(names[0]) == names[0]


def test_outcomes_are_counted_by_tenant_and_rejects_by_code() -> None:
    registry = CollectorRegistry()
    metrics = StageMetrics(registry)
    at = CountedAt(0, 0, "process", 0, 0)
    other = NATIVE._replace(tenant="beta")
    work = Work(unexpected=0)
    work.outcomes += [
        Outcome.of(at, NATIVE, accepted=3, conflict=1),
        Outcome.of(at, NATIVE, accepted=1),
    ]
    work.outcomes.append(Outcome.of(at, other, duplicate=2))
    work.refused["id_conflict"] += 1
    metrics.applied(1, work, took_s=0.2, committing_s=0.1)
    found = served(registry)
    assert found[named("roundhouse_items_total", outcome="accepted", tenant="acme")] == 4
    assert found[named("roundhouse_items_total", outcome="conflict", tenant="acme")] == 1
    assert found[named("roundhouse_items_total", outcome="duplicate", tenant="beta")] == 2
    assert found[named("roundhouse_rejects_total", stage="process", code="id_conflict")] == 1
    assert found[named("roundhouse_edge_to_committed_seconds_count")] == len(work.outcomes)


def test_the_newest_report_of_each_client_is_served_and_a_closed_client_is_not() -> None:
    registry = CollectorRegistry()
    clients = ClientStatistics(registry)
    report = clients.of("edge")
    report('{"msg_cnt": 7, "brokers": {"a": {"rtt": {"p99": 2000}}}, "what_comes_later": [1]}')
    report(
        '{"msg_cnt": 3, "brokers": {"a": {"rtt": {"p99": 1000}, "req_timeouts": 1},'
        ' "b": {"rtt": {"p99": 5000}, "req_timeouts": 2}}}'
    )
    clients.of("sink")("{}")
    found = served(registry)
    assert found[named("librdkafka_queue_messages", client="edge")] == 3
    assert found[named("librdkafka_broker_round_trip_seconds", client="edge")] == 0.005
    assert found[named("librdkafka_request_timeouts_total", client="edge")] == 3
    clients.forget("edge")
    assert {labels for _, labels in served(registry)} == {frozenset({("client", "sink")})}
