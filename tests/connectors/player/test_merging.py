"""Merged players: ClickHouse finds the persons that plain Python finds; corrections undo a merge."""

import hashlib
import json
import random
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from click.testing import CliRunner

from connectors.cli.main import main
from connectors.clickhouse.client import connect
from connectors.clickhouse.erasure import Subject, erase
from connectors.clickhouse.migrate import migrate
from connectors.clickhouse.query import insert, query_rows
from connectors.player.merging import persons
from streams.settings import Settings
from tests.merging import compared
from tests.merging import persons as expected

BEGAN = datetime(2026, 3, 1, tzinfo=UTC)
Said = tuple[str, str | None, str | None]


def after(seconds: float) -> datetime:
    return BEGAN + timedelta(seconds=seconds)


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    """A migrated chDB."""
    made = Settings(data_dir=tmp_path_factory.mktemp("merging"))
    client = connect(made)
    migrate(client, made.clickhouse_database)
    client.close()
    return made


def store(settings: Settings, said: dict[str, list[Said]]) -> None:
    """Stores what the players of some tenants said, one event a second."""
    events = [
        {
            "tenant": tenant, "player_id": player, "mobile": mobile, "email": email,
            "received_at": f"{after(second):%Y-%m-%d %H:%M:%S}", "event_id": f"e{second}",
        }
        for tenant, heard in said.items()
        for second, (player, mobile, email) in enumerate(heard)
    ]  # fmt: skip
    client = connect(settings)
    client.database = settings.clickhouse_database
    block = "\n".join(map(json.dumps, events)).encode()
    client.raw_insert("custom_events_rows", insert_block=block, fmt="JSONEachRow")
    client.close()


def found(settings: Settings, tenant: str, as_of: datetime | None = None) -> dict[str, str]:
    """The person of each merged player, from ClickHouse."""
    return {
        player: person.person_id
        for person in persons(settings, tenant, as_of or datetime.now(UTC))
        for player in person.contacts
    }


def graph(rng: random.Random) -> list[Said]:
    """Players who share few contacts, so that persons of many sizes come about."""
    players, contacts = rng.randrange(2, 40), rng.randrange(2, 60)
    return [
        (
            f"p{rng.randrange(players)}",
            rng.choice((None, f"+358 40 {1_000_000 + rng.randrange(contacts)}")),
            rng.choice((None, f"P{rng.randrange(contacts)}@x", "no address")),
        )
        for _ in range(rng.randrange(2, 60))
    ]


def test_persons_of_any_contacts_and_corrections_are_those_of_plain_python(settings: Settings) -> None:
    rng = random.Random(5)
    graphs = {f"t{number}": graph(rng) for number in range(60)}
    store(settings, graphs)
    corrections: list[dict[str, Any]] = []
    wrong: dict[str, tuple[list[tuple[str, str]], list[tuple[str, str]]]] = {}
    for tenant, said in graphs.items():
        players = sorted({player for player, _, _ in said})
        apart = [tuple(sorted(rng.sample(players, 2))) for _ in range(3 if len(players) > 1 else 0)]
        heard = [(player, contact) for player, *said_ in said for contact in compared(*said_)]
        disowned = rng.sample(heard, min(3, len(heard)))
        disowned = [(rng.choice((player, "")), contact) for player, contact in disowned]
        forms = [(one, other, "") for one, other in apart] + [(one, "", c) for one, c in disowned]
        forms = sorted(set(forms))
        for number, (one, other, contact) in enumerate(forms):
            digest = hashlib.sha256(contact.encode()).hexdigest() if contact else ""
            row = {"tenant": tenant, "player_id": one, "other_player_id": other}
            row |= {"contact_sha256": digest, "corrected_by": "me", "reason": "r"}
            times = [(30_000, True), (30_001, False), (30_002, True)][: 1 + number % 3]
            corrections += [
                row | {"corrected_at": f"{after(second):%Y-%m-%d %H:%M:%S}", "holds": holds}
                for second, holds in times
            ]
        taken_back = [form for number, form in enumerate(forms) if number % 3 == 1]
        left = [form for form in forms if form not in taken_back]
        wrong[tenant] = (
            [(one, other) for one, other, contact in left if not contact],
            [(one, contact) for one, _, contact in left if contact],
        )
    insert(settings, "merge_corrections", corrections)

    def due(said: list[Said], *corrected: list[tuple[str, str]]) -> dict[str, str]:
        held = [(player, compared(*both)) for player, *both in said if any(both)]
        return expected(held, *corrected)

    begun = {tenant: said[:15] for tenant, said in graphs.items()}
    for known, as_of, corrected in (
        (begun, after(14), False),
        (graphs, after(29_999), False),
        (graphs, after(40_000), True),
    ):
        people: dict[str, dict[str, str]] = {tenant: {} for tenant in graphs}
        view = f"merged_players_at(tenant = '', as_of = '{as_of:%Y-%m-%d %H:%M:%S}')"
        for row in query_rows(settings, f"SELECT tenant, player_id, person_id FROM {view}"):
            people[row["tenant"]][row["player_id"]] = row["person_id"]
        assert people == {
            tenant: due(said, *(wrong[tenant] if corrected else ())) for tenant, said in known.items()
        }
        assert sum(map(len, people.values())) > 100


def test_a_long_chain_of_players_is_one_person(settings: Settings) -> None:
    chain: list[Said] = [(f"p{n}", None, f"a{n}@x") for n in range(400)]
    chain += [(f"p{n}", None, f"a{n + 1}@x") for n in range(399)]
    store(settings, {"chain": chain})
    assert found(settings, "chain") == {f"p{n}": "p0" for n in range(400)}


@pytest.fixture
def run(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    monkeypatch.setenv("ROUNDHOUSE_DATA_DIR", str(settings.data_dir))

    def invoke(*arguments: str, status: int = 0) -> str:
        result = CliRunner().invoke(main, ["player", *arguments])
        assert result.exit_code == status, result.output
        return result.output

    return invoke


def test_a_correction_separates_and_leaves_earlier_results_as_they_were(
    settings: Settings, run: Callable[..., str]
) -> None:
    store(
        settings,
        {
            "acme": [
                ("ann", "+358 40 1234567", None),
                ("bob", "0035840-1234567", "bob@example.com"),
                ("cid", None, " Bob@Example.com"),
                ("dan", "+46 70 1234567", None),
                ("eve", "+46 70 1234567", None),
            ]
        },
    )
    assert run("merged", "acme").splitlines() == [
        "person ann",
        "  ann  mobile:358401234567",
        "  bob  email:bob@example.com mobile:358401234567",
        "  cid  email:bob@example.com",
        "person dan",
        "  dan  mobile:46701234567",
        "  eve  mobile:46701234567",
        "2 persons, 5 merged players",
    ]
    before = datetime.now(UTC)
    output = run("unmerge", "acme", "bob", "ann", "--by", "support", "--reason", "ticket 7")
    assert output.splitlines()[:2] == ["recorded", "person bob"]
    assert found(settings, "acme") == {"bob": "bob", "cid": "bob", "dan": "dan", "eve": "dan"}
    run("unmerge", "acme", "--contact", "mobile:46701234567", "--reason", "a household")
    assert found(settings, "acme") == {"bob": "bob", "cid": "bob"}
    assert found(settings, "acme", before) == dict.fromkeys(("ann", "bob", "cid"), "ann") | {
        "dan": "dan",
        "eve": "dan",
    }
    run("unmerge", "acme", "ann", "bob", "--undo", "--reason", "a mistake")
    assert found(settings, "acme") == dict.fromkeys(("ann", "bob", "cid"), "ann")
    still = run("unmerge", "acme", "ann", "cid", "--reason", "not the same")
    assert "ann and cid are still merged, by way of other players:\nperson ann\n" in still
    run("unmerge", "acme", "bob", "--contact", "email:bob@example.com", "--reason", "is cid's")
    assert found(settings, "acme") == {"ann": "ann", "bob": "ann"}
    audit = query_rows(
        settings,
        "SELECT player_id, other_player_id, holds, corrected_by, reason FROM merge_corrections "
        "WHERE tenant = 'acme' AND corrected_at > "
        f"toDateTime64('{before:%Y-%m-%d %H:%M:%S.%f}', 6, 'UTC') ORDER BY corrected_at LIMIT 1",
    )
    assert audit == [
        {
            "player_id": "ann", "other_player_id": "bob", "holds": True,
            "corrected_by": "support", "reason": "ticket 7",
        }
    ]  # fmt: skip
    stored = query_rows(settings, "SELECT * FROM merge_corrections")
    assert "46701234567" not in json.dumps(stored), "a correction keeps no contact"


def test_an_erased_player_is_merged_with_nobody_and_in_no_correction(
    settings: Settings, run: Callable[..., str]
) -> None:
    said: list[Said] = [("ann", None, "a@x"), ("bob", None, "a@x"), ("cid", None, "a@x")]
    store(settings, {"gone": said})
    run("unmerge", "gone", "cid", "bob", "--undo", "--reason", "r")
    assert found(settings, "gone") == dict.fromkeys(("ann", "bob", "cid"), "ann")
    client = connect(settings)
    client.database = settings.clickhouse_database
    changed = erase(client, Subject("gone", "bob", "nobody-1"), None)
    client.close()
    assert changed == {"custom_events_rows": 1, "merge_corrections": 1}
    assert found(settings, "gone") == dict.fromkeys(("ann", "cid"), "ann")


@pytest.mark.parametrize(
    "arguments",
    [
        ["--reason", "r"],
        ["one", "--reason", "r"],
        ["one", "one", "--reason", "r"],
        ["one", "two", "three", "--reason", "r"],
        ["one", "two", "--contact", "email:a@x", "--reason", "r"],
    ],
)
def test_a_correction_without_a_form_is_refused(arguments: list[str], run: Callable[..., str]) -> None:
    assert "give two players" in run("unmerge", "acme", *arguments, status=78)


def test_a_slip_of_the_pen_is_refused(settings: Settings, run: Callable[..., str]) -> None:
    store(settings, {"slip": [("a", None, "a@x"), ("b", None, "b@x")]})
    assert "player_id = 'nobody'" in run("unmerge", "slip", "a", "nobody", "--reason", "r", status=78)
    wrong = run("unmerge", "slip", "a", "--contact", "email:b@x", "--reason", "r", status=78)
    assert "player_id = 'a' AND contact = 'email:b@x'" in wrong
    assert query_rows(settings, "SELECT * FROM merge_corrections WHERE tenant = 'slip'") == []
