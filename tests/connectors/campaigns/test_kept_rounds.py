"""Campaigns read of rounds what their events give, as of any time, whatever the order of inserts."""

from collections import Counter, defaultdict
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from random import Random
from typing import Any, NamedTuple

import pytest
from clickhouse_connect.driver.client import Client

from connectors.campaigns.model.definition import Campaign
from connectors.campaigns.sql.rounds import rounds
from connectors.clickhouse.client import connect
from connectors.clickhouse.literals import moment
from connectors.clickhouse.migrate import migrate
from connectors.clickhouse.rebuilding import CONFIRMED, DIFFERS, SAME, SEVERAL, Slice, rebuild
from connectors.clickhouse.sink import ClickHouseTables
from connectors.clickhouse.targets import TARGETS
from streams.core.event import Kind
from streams.records.topics import ROUNDS
from streams.settings import Settings
from streams.wire.avro import Container
from streams.wire.contracts import schema
from tests.line import NATIVE, Line, casino

TRANSACTIONS = Kind.GAME_TRANSACTION.topic
MIDNIGHT = datetime(2026, 4, 1, tzinfo=UTC)
"""The rounds of a history are played around the end of a month."""
KINDS = {
    "bet": "bet", "win": "win", "rollbackbet": "rollback_bet", "rollbackwin": "rollback_win"
}  # fmt: skip


class Played(NamedTuple):
    """An event of a round, as it was posted."""

    player: str
    round: str
    kind: str
    at: datetime
    received: datetime
    game: str
    amount: Decimal
    bonus: Decimal


def history(random: Random, events: int) -> list[Played]:
    """Events in the order of their receipt: some late by minutes, days or 40 days."""
    found = []
    for number in range(events):
        player = f"p-{random.randrange(4)}"
        at = MIDNIGHT + timedelta(minutes=random.randrange(-90, 90))
        at += timedelta(days=random.choice((0, 0, 0, 0, 1, 5)))
        late = random.choice((0, 0, 1, 60, 60 * 24 * 2))
        amount = Decimal(random.randrange(1, 10**9)).scaleb(-6)
        found.append(
            Played(
                player,
                f"r-{random.randrange(events // 12)}-{player}",
                random.choice(("bet", "bet", "win", "rollbackbet", "rollbackwin")),
                at,
                at + timedelta(minutes=late, microseconds=number),
                random.choice(("g-1", "g-2")),
                amount,
                random.choice((Decimal(0), amount / 2, amount)).quantize(Decimal("0.000001")),
            )
        )
    reopened = [
        event._replace(
            kind="win", at=event.at + timedelta(minutes=2), received=event.at + timedelta(days=40)
        )
        for event in random.sample(found, 4)
    ]
    return sorted(found + reopened, key=lambda event: event.received)


def processed(random: Random, events: list[Played]) -> Line:
    """What the line makes of the events; it forgets all rounds before the last day."""
    line = Line()
    for number, event in enumerate(events):
        if event.received > MIDNIGHT + timedelta(days=30):
            line.settle()
            for state in line.states:
                state.entries[0].clear()
        item = casino(
            event.kind,
            f"u-{number}",
            float(event.amount),
            user_id=event.player,
            round_id=event.round,
            game_id=event.game,
            timestamp=event.at.isoformat().replace("+00:00", "Z"),
            bonus_wager_amount=float(event.bonus),
        )
        received_at = int(event.received.timestamp()) * 10**6 + event.received.microsecond
        line.post([item], NATIVE._replace(source="fasttrack", received_at=received_at))
        if random.random() < 0.4:
            line.settle()
    line.settle()
    assert line.tally()["accepted"] == len(events)
    return line


def insert(random: Random, client: Client, line: Line) -> None:
    """Inserts all records in any order, each at least once, as blocks of any size."""
    tables = ClickHouseTables(lambda: client)
    for topic in (ROUNDS, TRANSACTIONS):
        datums = line.datums[topic]
        datums = datums + random.sample(datums, len(datums) // 3)
        random.shuffle(datums)
        container = Container(schema(TARGETS[topic].contract))
        while datums:
            size = random.randrange(1, len(datums) + 1)
            tables.insert(TARGETS[topic], container, datums[:size], f"{topic}{len(datums)}{size}")
            datums = datums[size:]


Row = tuple[Any, ...]


def expected(events: list[Played], as_of: datetime, money: str) -> dict[tuple[str, str], Row]:
    """The columns of a round after its id, by player and round."""
    by_round: dict[tuple[str, str], list[Played]] = defaultdict(list)
    for event in events:
        if event.received <= as_of:
            by_round[event.player, event.round].append(event)

    def net(played: list[Played], kind: str, bonus_only: bool = False) -> Decimal:
        total = Decimal(0)
        for event in played:
            sign = {kind: 1, f"rollback{kind}": -1}.get(event.kind, 0)
            own = event.amount - event.bonus if money == "real" else event.amount
            total += sign * (event.bonus if bonus_only else own)
        return total

    found = {}
    for key, played in by_round.items():
        bets = [event.at for event in played if event.kind == "bet"]
        undone = sum(event.kind == "rollbackbet" for event in played)
        found[key] = (
            min(bets or [event.at for event in played]),
            min((event.at, event.game) for event in played)[1],
            "EUR",
            True,
            len(bets),
            len(bets) - undone,
            net(played, "bet", bonus_only=True),
            net(played, "bet"),
            net(played, "win"),
        )
    return found


def campaign(money: str) -> Campaign:
    return Campaign.model_validate(
        {
            "name": "any", "tenant": "acme", "period": {"from": "2026-03-31", "to": "2026-04-02"},
            "counts": {"money": money}, "measure": "turnover",
            "form": {"kind": "leaderboard", "prizes": [{"ranks": "1-3", "amount": Decimal(10)}]},
        }
    )  # fmt: skip


def read(
    client: Client, money: str, as_of: datetime, within: tuple[datetime, datetime] | None
) -> dict[tuple[str, str], Row]:
    sql = f"SELECT * FROM ({rounds(campaign(money), as_of, within, '')})"
    if within is not None:
        sql += f" WHERE at >= {moment(within[0])} AND at < {moment(within[1])}"
    rows = client.query(sql).result_rows
    found = {
        (str(player), str(round_)): (at.replace(tzinfo=UTC), *columns)
        for player, round_, at, *columns in rows
    }
    assert len(found) == len(rows), "a round stands there twice"
    return found


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    opened = connect(Settings(data_dir=tmp_path_factory.mktemp("kept")))
    yield opened
    opened.close()


@pytest.mark.parametrize("seed", range(2))
def test_rounds_as_of_any_time_are_what_their_events_give(client: Client, seed: int) -> None:
    random = Random(seed)
    database = f"kept_{seed}"
    migrate(client, database)
    client.database = database
    events = history(random, 150)
    insert(random, client, processed(random, events))
    moments = [event.received for event in random.sample(events, 4)]
    moments += [moment_ - timedelta(microseconds=1) for moment_ in moments[:2]]
    for as_of in (*moments, datetime(2027, 1, 1, tzinfo=UTC)):
        for money in ("all", "real"):
            due = expected(events, as_of, money)
            assert read(client, money, as_of, None) == due
            for hours in (1, 24, 24 * 6):
                start = MIDNIGHT + timedelta(hours=random.randrange(-24, 24))
                within = start, start + timedelta(hours=hours)
                mine = {key: row for key, row in due.items() if start <= row[0] < within[1]}
                assert read(client, money, as_of, within) == mine


@pytest.mark.parametrize("seed", range(2, 3))
def test_a_view_of_rounds_has_each_round_once_by_the_time_of_its_first_event(
    client: Client, seed: int
) -> None:
    random = Random(seed)
    database = f"kept_{seed}"
    migrate(client, database)
    client.database = database
    events = history(random, 150)
    insert(random, client, processed(random, events))
    first: dict[tuple[str, str], datetime] = {}
    for event in events:
        if event.received < MIDNIGHT + timedelta(days=30):
            key = event.player, event.round
            first[key] = min(event.at, first.get(key, event.at))
    for hours in range(-48, 48, 7):
        since = MIDNIGHT + timedelta(hours=hours)
        rows = client.query(
            "SELECT player_id, round_id, first_event_at FROM rounds "
            f"WHERE first_event_at >= {moment(since)} "
            "AND last_received_at < toDateTime64('2026-05-01', 6, 'UTC')"
        ).result_rows
        due = [(*key, at) for key, at in first.items() if at >= since]
        assert sorted((*key, at.replace(tzinfo=UTC)) for *key, at in rows) == sorted(due)


@pytest.mark.parametrize("seed", [7])
def test_rounds_are_rebuilt_from_their_events_and_campaigns_read_the_same(
    client: Client, seed: int
) -> None:
    random = Random(seed)
    migrate(client, "rebuilt")
    client.database = "rebuilt"
    events = history(random, 150)
    insert(random, client, processed(random, events))
    as_of = datetime(2027, 1, 1, tzinfo=UTC)
    due = expected(events, as_of, "all")
    asked = "SELECT * EXCEPT (in_doubt) FROM rounds_by_day_rows FINAL ORDER BY ALL"
    before = client.query(asked).result_rows
    found = rebuilt(client, write=True)
    assert found.keys() <= {SAME, CONFIRMED, SEVERAL}
    assert found[SAME] > 10
    assert client.query(asked).result_rows == before
    assert read(client, "all", as_of, None) == due

    # rows of 0.1.0, and rows that a fault has changed
    client.command(
        "INSERT INTO rounds_by_day_rows (* EXCEPT (in_doubt)) SELECT * EXCEPT (in_doubt) "
        "REPLACE (NULL AS first_bet_at, if(cityHash64(round_id) % 2 = 0, bet_amount, 7) AS bet_amount) "
        "FROM rounds_by_day_rows FINAL WHERE bet_count > 0"
    )
    asked_before = client.query(asked).result_rows
    assert asked_before != before
    found = rebuilt(client, write=False)
    assert found[DIFFERS] > 10
    assert client.query(asked).result_rows == asked_before
    assert rebuilt(client, write=True) == found
    assert rebuilt(client, write=True).keys() <= {SAME, SEVERAL}
    assert read(client, "all", as_of, None) == due


def rebuilt(client: Client, *, write: bool) -> Counter[str]:
    found: Counter[str] = Counter()
    for month in (date(2026, 3, 1), date(2026, 4, 1), date(2026, 5, 1)):
        for number in range(2):
            found += Counter(rebuild(client, Slice("acme", month, number, 2, write)))
    return found
