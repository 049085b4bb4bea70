"""Campaigns read of rounds what their events give, as of any time, whatever the order of inserts; and
several in one query give what plain Python gives."""

import json
from collections import Counter, defaultdict
from collections.abc import Hashable, Iterator, Sequence
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

import pytest
from clickhouse_connect.driver.client import Client

from connectors.campaigns.evaluation import evaluate, evaluate_together
from connectors.campaigns.model.definition import Campaign, load
from connectors.campaigns.sql.rounds import rounds
from connectors.campaigns.sql.together import shared
from connectors.clickhouse.client import connect
from connectors.clickhouse.erasure import Subject, erase
from connectors.clickhouse.literals import moment
from connectors.clickhouse.migrate import migrate
from connectors.clickhouse.rebuilding import CONFIRMED, DIFFERS, SAME, SEVERAL, Slice, rebuild
from connectors.clickhouse.sink import ClickHouseTables
from connectors.clickhouse.targets import TARGETS
from connectors.demo.day import FASTTRACK, GAMEBALL, NATIVE, Post
from streams.settings import Settings
from streams.wire.avro import Container
from streams.wire.contracts import schema
from tests.connectors.campaigns import oracle
from tests.line import NATIVE as BATCH
from tests.line import Line, casino

SOURCES = {FASTTRACK: "fasttrack", NATIVE: "native", GAMEBALL: "gameball"}
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
    currency: str


Received = list[tuple[datetime, Post]]
"""Requests with one item each, and when they were received, in this order."""


def history(random: Random, events: int, players: int = 4) -> list[Played]:
    """Events in the order of their receipt: some late by minutes, days or 40 days."""
    found = []
    for number in range(events):
        player = f"p-{random.randrange(players)}"
        at = MIDNIGHT + timedelta(minutes=random.randrange(-90, 90))
        at += timedelta(days=random.choice((0, 0, 0, 0, 1, 5)))
        late = random.choice((0, 0, 1, 60, 60 * 24 * 2))
        amount = Decimal(random.randrange(1, 10**9)).scaleb(-6)
        round_number = random.randrange(events // 12)
        found.append(
            Played(
                player,
                f"r-{round_number}-{player}",
                random.choice(("bet", "bet", "win", "rollbackbet", "rollbackwin")),
                at,
                at + timedelta(minutes=late, microseconds=number),
                random.choice(("g-1", "g-2")),
                amount,
                random.choice((Decimal(0), amount / 2, amount)).quantize(Decimal("0.000001")),
                ("EUR", "SEK", "GBP")[round_number % 3],
            )
        )
    reopened = [
        event._replace(
            kind="win", at=event.at + timedelta(minutes=2), received=event.at + timedelta(days=40)
        )
        for event in random.sample(found, 4)
    ]
    return sorted(found + reopened, key=lambda event: event.received)


def posts(events: list[Played]) -> Received:
    """The requests that the events come with."""
    found = []
    for number, event in enumerate(events):
        item = casino(
            event.kind,
            f"u-{number}",
            float(event.amount),
            user_id=event.player,
            round_id=event.round,
            game_id=event.game,
            timestamp=event.at.isoformat().replace("+00:00", "Z"),
            bonus_wager_amount=float(event.bonus),
            currency=event.currency,
        )
        found.append((event.received, Post("acme", FASTTRACK, json.dumps([item]).encode(), 1, 0)))
    return found


def processed(random: Random, received: Received) -> Line:
    """What the line makes of the requests; it forgets all rounds before the last day."""
    line = Line()
    for at, post in received:
        if at > MIDNIGHT + timedelta(days=30):
            line.settle()
            for state in line.states:
                state.entries[0].clear()
        batch = BATCH._replace(
            source=SOURCES[post.path],
            received_at=int(at.timestamp()) * 10**6 + at.microsecond,
            merges_channels=True,
            idempotency_key=post.idempotency_key,
        )
        line.post(post.body, batch)
        if random.random() < 0.4:
            line.settle()
    line.settle()
    assert line.tally()["accepted"] == len(received)
    return line


def insert(random: Random, client: Client, line: Line) -> None:
    """Inserts all records in any order, each at least once, as blocks of any size."""
    tables = ClickHouseTables(lambda: client)
    for topic, datums in line.datums.items():
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
            played[0].currency,
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
def settings(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    return Settings(data_dir=tmp_path_factory.mktemp("kept"), clickhouse_database="together")


@pytest.fixture(scope="module")
def client(settings: Settings) -> Iterator[Client]:
    opened = connect(settings)
    yield opened
    opened.close()


@pytest.mark.parametrize("seed", range(2))
def test_rounds_as_of_any_time_are_what_their_events_give(client: Client, seed: int) -> None:
    random = Random(seed)
    database = f"kept_{seed}"
    migrate(client, database)
    client.database = database
    events = history(random, 150)
    insert(random, client, processed(random, posts(events)))
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
    insert(random, client, processed(random, posts(events)))
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
    insert(random, client, processed(random, posts(events)))
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


ERASED = Subject("acme", "p-2", "erased-0001")
IMPORTED = [
    (MIDNIGHT - timedelta(days=9), "SEK", "2026-03-01", "0.087654321987654321"),
    (MIDNIGHT + timedelta(minutes=20), "SEK", "2026-04-01", "0.5"),
    (MIDNIGHT + timedelta(hours=20), "SEK", "2026-03-01", "0.0891"),
    (MIDNIGHT + timedelta(hours=20), "GBP", "2026-03-31", "1.17"),
]
"""When each rate to EUR was imported, its currency, and the day from which it holds."""


def told(random: Random, players: int) -> Received:
    """Requests about players and games, and deposits; some players come to share a contact."""
    found: Received = []

    def post(path: str, body: Any) -> None:
        number = len(found)
        at = MIDNIGHT + timedelta(minutes=random.randrange(-90, 60 * 30), microseconds=500_000 + number)
        if path == NATIVE:
            said = at - timedelta(minutes=random.choice((0, 0, 30, 60 * 24)))
            data = {"unique_id": f"t-{number}", "timestamp": f"{said:%Y-%m-%dT%H:%M:%S.%f}"}
            body = [{"event": body.pop("event"), "data": data | body}]
        found.append((at, Post("acme", path, json.dumps(body).encode(), 1, 0, f"k-{number}")))

    for number in [*range(players), *random.choices(range(players), k=players)]:
        about: dict[str, Any] = {"event": "player", "player_id": f"p-{number}"}
        about |= {"country": random.choice(("FI", "SE")), "is_blocked": random.random() < 0.1}
        about |= {"tags": random.sample(("vip", "new", "old"), random.randrange(3))}
        post(NATIVE, about)
    for game in ("g-1", "g-2", "g-1"):
        known = {"game_id": game, "name": game, "provider": random.choice(("Halcyon", "Northwind"))}
        lists = {"categories": random.choice((["slots"], ["table", "slots"], []))}
        post(NATIVE, {"event": "game", **known, **lists, "features": random.choice((["free"], []))})
    for _ in range(players * 3):
        paid: dict[str, Any] = {
            "player_id": f"p-{random.randrange(players)}",
            "amount": random.randrange(1, 500),
        }
        paid |= {"currency": random.choice(("EUR", "SEK")), "method": "card"}
        post(NATIVE, {"event": "deposit", **paid})
    for _ in range(players):
        player, contact = random.randrange(players), random.randrange(players // 2)
        email = {"playerUniqueId": f"p-{player}", "email": f"c{contact}@example.com"}
        post(GAMEBALL, email | {"events": {"hello": {}}})
    return found


def books(received: Received, as_of: datetime, erased: Subject | None) -> dict[str, oracle.Books]:
    """What plain Python knows of the requests until ``as_of``, of which one player may be erased."""
    found = []
    for at, post in received:
        body = json.loads(post.body)
        data = body[0]["data"] if isinstance(body, list) else body
        for name in ("user_id", "player_id", "playerUniqueId"):
            if erased and data.get(name) == erased.player_id:
                data[name] = erased.pseudonym
                for personal in ("tags", "mobile", "email"):
                    data.pop(personal, None)
        if at <= as_of:
            found.append(post._replace(body=json.dumps(body).encode()))
    return oracle.books(found)


def rates(as_of: datetime) -> dict[tuple[str, str], list[tuple[str, Decimal]]]:
    """The rates of an earlier time: of several imports for a day the last holds."""
    newest = {(base, since): Decimal(rate) for at, base, since, rate in sorted(IMPORTED) if at <= as_of}
    found: dict[tuple[str, str], list[tuple[str, Decimal]]] = defaultdict(list)
    for (base, since), rate in newest.items():
        found[base, "EUR"].append((since, rate))
    return found


TOGETHER = """
name: stakes
counts: {currency: EUR, minimum_bet: 0.5}
measure: turnover
budget: 130
form:
  kind: leaderboard
  prizes: [{ranks: 1, amount: 100.05}, {ranks: 2-3, amount: 10}, {ranks: 4-9, amount: 1}]
---
name: rounds-of-a-game
period: {from: 2026-03-31T23:00, to: 2026-04-01T01:00}
counts: {currency: EUR, games: [g-1]}
measure: rounds
form:
  kind: leaderboard
  ties: split
  prizes: [{ranks: 1, amount: 10}, {ranks: 2, amount: 5}, {ranks: 3-4, amount: 0.01}]
---
name: rounds-of-a-provider
period: {from: 2026-04-01, to: 2026-04-03}
counts: {currency: EUR, providers: [Halcyon]}
measure: rounds
budget: 9.5
form:
  kind: leaderboard
  ties: equal
  prizes: [{ranks: 1, item: {name: spins, count: 3, cost: 0.5}}, {ranks: 2-5, amount: 3}]
---
name: happy-slots
period: {from: 2026-04-01, to: 2026-04-02, time_zone: Europe/Helsinki}
eligible: {any_tag: [vip, old]}
counts: {currency: EUR, categories: [slots], minimum_bet: 0.1}
measure: turnover
points:
  multipliers:
    - {times: 2.5, hours: "00:30-01:15"}
    - {times: 0, games: [g-2], hours: "03:00-04:00"}
form: {kind: leaderboard, prizes: [{ranks: 1-2, amount: 7}, {ranks: 3, item: {name: hat}}]}
---
name: paid-out
eligible: {not_countries: [SE]}
counts: {currency: EUR, minimum_multiplier: 0.25}
measure: sum_of_wins
holdout: {share: 0.3, salt: s}
form: {kind: leaderboard, ties: split, prizes: [{ranks: 1-3, amount: 33.33}]}
---
name: largest
counts: {currency: EUR, features: [free]}
measure: largest_win
budget: 15
form: {kind: leaderboard, prizes: [{ranks: 1-4, amount: 4}]}
---
name: best
period: {from: 2026-03-31T22:15, to: 2026-04-01T00:30}
eligible: {countries: [FI]}
counts: {currency: EUR}
measure: best_multiplier
form: {kind: leaderboard, ties: equal, prizes: [{ranks: 1, amount: 4}, {ranks: 2-3, amount: 2}]}
---
name: lost
counts: {currency: EUR, money: real}
measure: net_loss
form: {kind: leaderboard, prizes: [{ranks: 1-3, amount: 1}]}
---
name: lost-early
period: {from: 2026-03-31T22:00, to: 2026-04-01}
counts: {currency: EUR, money: real, minimum_bet: 1}
measure: net_loss
form: {kind: leaderboard, ties: split, prizes: [{ranks: 1-3, amount: 2}]}
---
name: pool
counts: {currency: EUR, minimum_bet: 0.1}
measure: turnover
form:
  kind: leaderboard
  ties: split
  pool: {base: 5, percent: 1.5, cap: 60}
  prizes: [{ranks: 1, share: 50}, {ranks: 2, amount: 3}, {ranks: 3-4, share: 10}]
---
name: pool-of-a-game
counts: {currency: EUR, games: [g-2]}
measure: rounds
budget: 20
form: {kind: leaderboard, ties: equal, pool: {percent: 0.7}, prizes: [{ranks: 1-2, share: 33}]}
---
name: bonus
counts: {currency: EUR, minimum_deposit: 10}
measure: deposits
budget: 60
form: {kind: deposit_bonus, percent: 12.5, cap: 30}
---
name: bonus-of-a-night
period: {from: 2026-03-31T22:00, to: 2026-04-01T12:00}
counts: {currency: EUR}
measure: deposits
form: {kind: deposit_bonus, percent: 100, cap: 77.7}
---
name: deposits
counts: {currency: EUR}
measure: deposit_count
form: {kind: leaderboard, ties: split, prizes: [{ranks: 1, amount: 3}, {ranks: 2-5, amount: 1}]}
"""
"""Campaigns that are in five queries together."""


def campaigns(folder: Path) -> list[tuple[Path, Campaign]]:
    found = []
    for number, text in enumerate(TOGETHER.split("---")):
        period = "" if "period:" in text else "period: {from: 2026-03-31, to: 2026-04-02}\n"
        path = folder / f"{number}.yaml"
        path.write_text(f"tenant: acme\n{period}{text}")
        found.append((path, load(path).campaign))
    return found


@pytest.mark.parametrize("seed", [11])
def test_campaigns_in_one_query_give_what_plain_python_gives(
    settings: Settings, client: Client, tmp_path: Path, seed: int
) -> None:
    """With late events, rollbacks, forgotten rounds, merges, rates, and a player who is erased."""
    random, players = Random(seed), 8
    settings = settings.model_copy(update={"clickhouse_database": f"together_{seed}"})
    migrate(client, settings.clickhouse_database)
    client.database = settings.clickhouse_database
    received = [*posts(history(random, 300, players)), *told(random, players)]
    received.sort(key=lambda each: each[0])
    insert(random, client, processed(random, received))
    for at, base, since, rate in IMPORTED:
        client.command(
            f"INSERT INTO rates VALUES ('{base}', 'EUR', '{since}', '{rate}', 'bank', {moment(at)})"
        )
    groups: dict[Hashable, list[tuple[Path, Campaign]]] = defaultdict(list)
    for path, campaign in campaigns(tmp_path):
        groups[shared(campaign)].append((path, campaign))
    assert sorted(map(len, groups.values())) == [2, 2, 2, 3, 5]

    def check(as_of: datetime, erased: Subject | None = None) -> None:
        known, priced = books(received, as_of, erased), rates(as_of)
        for group in groups.values():
            found = evaluate_together(settings, [campaign for _, campaign in group], as_of)
            for (path, campaign), result in zip(group, found, strict=True):
                due: Sequence[Any] = oracle.standings(path, known, priced)
                assert list(map(tuple, result.standings)) == due, (campaign.name, as_of)
                assert result.unsettled == 0
            path, campaign = group[0]
            assert found[0] == evaluate(settings, campaign, as_of)  # also what was left out

    middle = MIDNIGHT + timedelta(hours=22)
    check(middle)
    check(datetime(2027, 1, 1, tzinfo=UTC))
    erase(client, ERASED, cluster=None)
    check(middle, ERASED)
