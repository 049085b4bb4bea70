"""Compares every example campaign, live and over history, with results computed in plain Python."""

import asyncio
import csv
import json
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import ROUND_DOWN, Decimal
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import polars
import pytest
import yaml
from click.testing import CliRunner

from connectors.campaigns import evaluation, frames, stored
from connectors.campaigns.model.counts import ROUNDS
from connectors.campaigns.model.definition import Campaign, Definition, load
from connectors.campaigns.model.forms import Mission, Stage
from connectors.campaigns.rates import import_rates
from connectors.campaigns.settling import awards
from connectors.campaigns.settling.settle import Order, review, settle
from connectors.campaigns.sql import compiler, together
from connectors.campaigns.sql.stages import is_through
from connectors.campaigns.standings import Standing
from connectors.cli.main import main
from connectors.clickhouse.query import query
from connectors.clickhouse.query import query_rows as ask
from connectors.demo.day import FASTTRACK, GAMEBALL, NATIVE, Post, day
from connectors.demo.feed import feed
from connectors.demo.run import accounts, demo_keys, is_balanced
from connectors.edge.tenants import Registry
from connectors.local.stack import Stack, on_any_ports
from streams.errors import ConfigurationError, DefinitionError
from streams.settings import Settings
from tests.connectors.campaigns import oracle
from tests.waiting import wait_until

HASH = "4e6f0025d5635df099a5213be833e031cfdb04342bc655afb4f2ef0e23af8ff5"
"""Of turnover-race in 0.1.0."""

EXAMPLES = sorted((Path(evaluation.__file__).parent / "examples").glob("*.yaml"))
TRIAL = "aurora.test"
MERGING = "aurora", "cascade"
"""The tenants that merge channels; borealis does not."""

RATES = """day,base,quote,rate,source
2026-03-01,SEK,EUR,0.087654321987654321,central bank
2026-03-14,SEK,EUR,0.0891,central bank
2026-03-15,SEK,EUR,0.5,central bank
2026-02-01,USD,EUR,0.92,central bank
2026-02-01,EUR,USD,1.08695,central bank
"""


def extra() -> list[Post]:
    """Posts that a day lacks: ties, rollbacks of wins, late wins, other currencies, blocked players."""
    native: list[Any] = []
    fasttrack: list[Any] = []

    def play(event: str, player: str, n: int, amount: str, at: str, **more: Any) -> None:
        data = {
            "unique_id": f"x-{player}-{n}-{event}", "timestamp": at, "player_id": player,
            "game_id": "x-game", "round_id": f"x-{player}-{n}", "amount": Decimal(amount),
            "currency": "EUR", "is_win": event == "win", "is_bonus": False,
        }  # fmt: skip
        native.append({"event": "gameround", "data": data | more})

    def about(player: str, at: str, **known: Any) -> None:
        data = {"unique_id": f"x-{player}-{at}", "timestamp": at, "player_id": player}
        native.append({"event": "player", "data": data | known})

    game: dict[str, Any] = {"unique_id": "x-game", "timestamp": "2026-03-01T00:00:00"}
    game |= {
        "game_id": "x-game",
        "name": "X",
        "provider": "Halcyon",
        "categories": ["slots"],
        "features": ["free spins"],
    }
    native.append({"event": "game", "data": game})
    for number, player in enumerate(("x-tie-a", "x-tie-b", "x-tie-c")):
        about(player, "2026-03-14T01:00:00", country="FI", tags=["vip"], consent_email=True)
        for n in range(3):  # the same scores, reached at different times; c exactly when b does
            at = f"2026-03-14T1{min(number, 1)}:00:0{n}"
            play("bet", player, n, "700.000000000000000001", at)
            play("win", player, n, "5600.000000000000000008", at)
    for player, tags in {
        "x-tie-a": ["vip", "team:red"], "x-tie-b": ["team:red", "vip"], "x-tie-c": ["vip", "team:blue"],
        "x-freed": ["team:blue"], "x-regular": ["team:green"], "x-lapsed": ["team:green"],
        "x-thirty": ["team:green"], "x-saver": ["team:green"], "x-new": ["team:green", "team:blue"],
        "x-foreign": ["team:"],
    }.items():  # fmt: skip
        about(player, "2026-03-14T03:00:00", tags=tags)
    about("x-blocked", "2026-03-14T01:00:00", country="FI", is_blocked=True)
    about("x-freed", "2026-03-14T01:00:00", country="FI", is_blocked=True)
    about("x-freed", "2026-03-14T02:00:00", is_blocked=False)
    for player in ("x-blocked", "x-freed", "x-unknown"):
        play("bet", player, 1, "5000", "2026-03-14T12:00:00")
        play("win", player, 1, "9000", "2026-03-21T12:00:00")  # a week late
    play("bet", "x-edge", 1, "900", "2026-03-13T23:59:59.999999")
    play("bet", "x-edge", 2, "901", "2026-03-14T00:00:00")
    play("bet", "x-edge", 3, "902", "2026-03-15T00:00:00")
    play("bet", "x-foreign", 1, "3333.33", "2026-03-14T12:00:00", currency="SEK")
    play("bet", "x-foreign", 2, "1", "2026-03-14T12:00:00", currency="GBP")  # has no rate
    play("win", "x-orphan", 1, "77", "2026-03-14T12:00:00")  # a win whose bet never comes
    play("bet", "x-bonus", 1, "4000", "2026-03-14T12:00:00", is_bonus=True)
    for day_, n in (("14", 1), ("14", 2), ("15", 3)):
        login = {
            "unique_id": f"x-{n}",
            "timestamp": f"2026-03-{day_}T20:00:0{n}",
            "player_id": "x-tie-a",
        }
        native.append({"event": "login", "data": login})

    def casino(kind: str, player: str, n: int, amount: str, hour: int) -> None:
        data = {
            "unique_id": f"y-{player}-{n}-{kind}", "timestamp": f"2026-03-14T{hour:02}:00:00Z",
            "user_id": player, "game_id": "y-game", "round_id": f"y-{player}-{n}", "type": kind,
            "amount": Decimal(amount), "currency": "SEK", "bonus_wager_amount": 0,
        }  # fmt: skip
        fasttrack.append({"event": "realtime-casino", "data": data})

    registration = {
        "unique_id": "y-1", "timestamp": "2026-03-14T00:30:00Z", "user_id": "y-undone", "country": "SE",
        "currency": "SEK", "username": "y",
        "registration_date": "2026-01-01T00:00:00Z", "gender": None, "consent_email": True,
        "segmentation_isPromoBanned": False,
    }  # fmt: skip
    fasttrack.append({"event": "realtime-registration", "data": registration})
    for n in range(12):
        casino("bet", "y-undone", n, "1", 3)
        casino("win", "y-undone", n, "9.5", 4)
    casino("rollbackwin", "y-undone", 0, "9.5", 5)
    casino("rollbackbet", "y-undone", 1, "1", 5)
    casino("rollbackbet", "y-undone", 50, "1", 5)  # comes before its bet
    casino("bet", "y-undone", 50, "1", 2)
    casino("bet", "y-fallen", 0, "1", 3)
    casino("win", "y-fallen", 0, "20", 3)
    casino("bet", "y-fallen", 1, "1", 4)
    casino("rollbackwin", "y-fallen", 1, "9.5", 5)  # a win that never came
    earlier = before_the_day(play)
    native += earlier
    return [
        Post("aurora", NATIVE, _json(native), len(native), 0),
        Post("borealis", FASTTRACK, _json(fasttrack), len(fasttrack), 0),
        *joiners(),
    ]


def before_the_day(play: Callable[..., None]) -> list[Any]:
    """Native items of players who deposited or played before the day, or never before."""
    items: list[Any] = []

    def deposit(player: str, at: str, amount: int, currency: str = "EUR") -> None:
        data = {
            "unique_id": f"x-{player}-{at}", "timestamp": at, "player_id": player, "amount": amount,
            "currency": currency, "method": "card",
        }  # fmt: skip
        items.append({"event": "deposit", "data": data})

    for player, before in (
        ("x-lapsed", "2026-02-01T12:00:00"),
        ("x-thirty", "2026-02-12T00:00:00"),  # 30 days before in Helsinki is 2026-02-11T22:00Z
        ("x-regular", "2026-03-10T12:00:00"),
    ):
        play("bet", player, 1, "5", before)
        play("bet", player, 2, "15", "2026-03-14T13:00:00")
    deposit("x-saver", "2026-03-12T12:00:00", 60)
    deposit("x-saver", "2026-03-13T12:00:00", 700, "SEK")
    deposit("x-saver", "2026-03-14T13:00:00", 50)
    deposit("x-once", "2026-03-13T12:00:00", 500)
    deposit("x-early", "2026-03-07T09:59:59.999999", 500)  # 7 days before, and a little
    deposit("x-early", "2026-03-13T12:00:00", 99)
    deposit("x-late", "2026-03-13T12:00:00", 99)
    deposit("x-late", "2026-03-14T10:00:00", 99)
    deposit("x-new", "2026-03-14T12:00:00", 80)
    deposit("x-new", "2026-03-14T13:00:00", 80)
    for player in ("x-saver", "x-once", "x-early", "x-late", "x-new"):
        play("bet", player, 1, "30", "2026-03-14T14:00:00")
    return items


def sports_bets() -> list[Any]:
    """Sports bets on one or several outcomes of a market, by one player or by two who are merged."""
    first, second = "2026-03-14T18:00:00Z", "2026-03-15T18:00:00Z"
    bets: list[tuple[str, str, list[tuple[str, str | None, str, list[Any]]]]] = [
        ("z-hedger", "2026-03-14T10:00:00Z", [("A - B", "1X2", first, [{"name": "A", "price": 2}])]),
        ("z-hedger", "2026-03-14T10:01:00Z", [("A - B", "1X2", first, [{"name": "B", "price": 2}])]),
        ("z-hedger", "2026-03-14T10:02:00Z", [("A - B", "goals", first, [{"name": "over"}])]),
        ("z-fan", "2026-03-14T10:00:00Z", [("A - B", "1X2", first, [{"name": "A", "price": 2}])]),
        ("z-fan", "2026-03-14T11:00:00Z", [("A - B", "1X2", first, [{"name": "A", "price": 3}])]),
        ("z-fan", "2026-03-14T11:01:00Z", [("A - B", "1X2", second, [{"name": "B", "price": 3}])]),
        ("z-fan", "2026-03-14T11:02:00Z", [("A - B", "1X2", first, [{"price": 3}])]),
        ("z-fan", "2026-03-14T11:03:00Z", [("A - B", None, first, [{"name": "B"}])]),
        ("z-early", "2026-03-13T23:59:00Z", [("A - B", "1X2", first, [{"name": "A"}])]),
        ("z-early", "2026-03-14T00:01:00Z", [("C - D", "1X2", first, [{"name": "C"}]),
                                            ("A - B", "1X2", first, [{"name": "X"}, {"name": "B"}])]),
        ("z-twin-a", "2026-03-14T10:00:00Z", [("A - B", "1X2", first, [{"name": "A"}])]),
        ("z-twin-b", "2026-03-14T10:00:00Z", [("A - B", "1X2", first, [{"name": "B"}])]),
        ("z-twin-b", "2026-03-14T12:00:00Z", [("E - F", "1X2", first, [{"name": "E"}])]),
    ]  # fmt: skip
    items = []
    for number, (player, at, legs) in enumerate(bets):
        chosen = [
            {
                "sports_name": "Football", "tournament_name": "Cup", "odds": 2, "event_name": event,
                "market": market, "match_start": start, "outcomes": outcomes,
            }
            for event, market, start, outcomes in legs
        ]  # fmt: skip
        slip = f"{player}-{number}"
        data = {
            "activity_id": slip, "activity_id_reference": slip, "timestamp": at, "user_id": player,
            "amount": 50 + number, "bet_type": "Single", "total_odds": 2, "bonus_wager_amount": 0,
            "currency": "USD", "status": "Approved", "type": "Bet", "bets": chosen,
        }  # fmt: skip
        items.append({"event": "realtime-sports-bet", "data": data})
    return items


def joiners() -> list[Post]:
    """Posts of players who play before and after the moment of a custom event, or without one."""
    items: list[Any] = []
    for player in ("z-joined", "z-stranger"):
        for year in (2026, 2060, 2061):
            data = {
                "unique_id": f"{player}-{year}", "timestamp": f"{year}-03-14T12:00:00Z",
                "user_id": player, "game_id": "z-game", "user_currency": "USD", "bonus_bet_user": 0,
                "total_bet_user": 100, "bonus_win_user": 0, "total_win_user": 0,
            }  # fmt: skip
            items.append({"event": "realtime-gameround", "data": data})
    items += sports_bets()
    visit = json.dumps({"playerUniqueId": "z-joined", "events": {"visit_shop": {}}}).encode()
    return [
        Post("cascade", FASTTRACK, _json(items), len(items), 0),
        Post("cascade", GAMEBALL, visit, 1, 0, "z-joined"),
        *(
            Post("cascade", GAMEBALL, json.dumps(
                {"playerUniqueId": twin, "email": "twin@example.com", "events": {"hello": {}}}
            ).encode(), 1, 0, twin)
            for twin in ("z-twin-a", "z-twin-b")
        ),
    ]  # fmt: skip


def trial() -> list[Post]:
    """Posts with a test key of aurora: ids, players and rounds of live events, with other content."""
    at = "2026-03-14T12:00:00"
    play = {
        "unique_id": "x-x-edge-2-bet", "timestamp": at, "player_id": "x-edge", "game_id": "x-game",
        "round_id": "x-x-edge-2", "amount": Decimal(1_000_000), "currency": "EUR", "is_win": False,
        "is_bonus": False,
    }  # fmt: skip
    paid = {
        "unique_id": "x-paid", "timestamp": at, "player_id": "x-edge", "amount": Decimal(1_000_000),
        "currency": "EUR", "method": "card",
    }  # fmt: skip
    blocked = {"unique_id": "x-now", "timestamp": at, "player_id": "x-edge", "is_blocked": True}
    items: list[Any] = [
        {"event": "gameround", "data": play},
        {"event": "deposit", "data": paid},
        {"event": "player", "data": blocked},
        {"event": "gameround", "data": play | {"amount": Decimal(2)}},
    ]
    return [Post(TRIAL, NATIVE, _json(items), len(items), 0)]


def contacts(posts: list[Post]) -> tuple[list[Post], list[Post]]:
    """Gameball posts, earlier and later ones, that merge players with many rounds of two tenants."""
    found: tuple[list[Post], list[Post]] = [], []
    for tenant in MERGING:
        books = oracle.books(post for post in posts if post.tenant == tenant)[tenant]
        played = Counter(player for player, _ in books.plays).most_common(8)
        a, b, c, d, e, f, g, h = (player for player, _ in played)
        said: list[tuple[int, str, str | None, str | None]] = [
            (0, b, None, "Ann@Example.com"),
            (0, a, None, " ann@example.COM "),
            (0, c, "+358 40 111 2222", None),
            (0, d, "00358-40-1112222", "dora@example.com"),
            (0, e, None, "DORA@example.com"),
            (0, f, "123", "none"),  # are no contacts
            (0, g, "123", "none"),
            (0, h, "+358 40 5555555", "hugo@example.com"),
            (1, e, "(358) 40 999 0000", None),
            (1, a, "+358409990000", None),
            (1, g, None, "hugo@example.com"),
        ]
        for number, (part, player, mobile, email) in enumerate(said):
            body: dict[str, Any] = {"playerUniqueId": player, "events": {"hello": {}}}
            body |= {"mobile": mobile} if mobile else {}
            body |= {"email": email} if email else {}
            post = Post(tenant, GAMEBALL, json.dumps(body).encode(), 1, 0, f"hello-{number}")
            found[part].append(post)
    return found


def _json(items: list[Any]) -> bytes:
    import msgspec

    return msgspec.json.Encoder(decimal_format="number").encode({"items": items})


@dataclass
class History:
    """A line that was fed in two parts: its posts, their times, and the live standings in between."""

    settings: Settings
    posts: tuple[list[Post], list[Post]]
    moments: tuple[datetime, datetime]
    live: dict[str, evaluation.Result]


@pytest.fixture(scope="module")
def history(tmp_path_factory: pytest.TempPathFactory) -> Iterator[History]:
    """A line that was fed a day in two parts; each was settled before the recorded time."""
    home = tmp_path_factory.mktemp("campaigns")
    settings = on_any_ports(Settings(data_dir=home))
    posts = day(seed=21, events=4_000)
    merging = contacts(posts)
    parts = (
        [*merging[0], *posts[: len(posts) // 2]],
        [*merging[1], *extra(), *trial(), *posts[len(posts) // 2 :]],
    )
    file = home / "rates.csv"
    file.write_text(RATES)
    with Stack(settings, in_memory=True) as stack:
        keys = demo_keys(Registry(stack.settings.tenants_path))
        keys[TRIAL] = Registry(stack.settings.tenants_path).add("aurora", False, True, test=True)
        for tenant in MERGING:
            Registry(stack.settings.tenants_path).switch(tenant, channel_merging=True)
        import_rates(stack.settings, file)
        first = _post(stack, keys, parts[0], len(merging[0]))
        live = {
            path.stem: evaluation.evaluate(stack.settings, load(path).campaign) for path in EXAMPLES
        }
        second = _post(stack, keys, parts[1], len(merging[1]))
        yield History(stack.settings, parts, (first, second), live)


def _post(stack: Stack, keys: dict[str, str], posts: list[Post], ordered: int) -> datetime:
    """Posts, the first ``ordered`` one after another, and waits until all is settled."""
    before = sum(account["received"] for account in accounts(stack.settings).values())
    for post in posts[:ordered]:
        asyncio.run(feed(stack.edge_url, keys, [post]))
    asyncio.run(feed(stack.edge_url, keys, posts[ordered:]))
    due = before + sum(post.items for post in posts)

    def settled() -> bool:
        now = accounts(stack.settings).values()
        return sum(account["received"] for account in now) >= due and all(map(is_balanced, now))

    wait_until(settled, "the posts in ClickHouse")
    return datetime.now(UTC)


def rates() -> dict[tuple[str, str], list[tuple[str, Decimal]]]:
    found: dict[tuple[str, str], list[tuple[str, Decimal]]] = {}
    for row in RATES.splitlines()[1:]:
        since, base, quote, rate, _ = row.split(",")
        found.setdefault((base, quote), []).append((since, Decimal(rate)))
    return found


def plain(result: evaluation.Result, *, timed: bool) -> list[tuple[Any, ...]]:
    return [
        (*s[:3], s.reached_at if timed else None, *s[4:])
        for s in result.standings
    ]  # fmt: skip


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_gives_what_plain_python_gives(path: Path, history: History) -> None:
    campaign = load(path).campaign
    timed = campaign.measure != "custom_events"  # Gameball sends no time
    posts: list[Post] = []
    for part, moment in zip(history.posts, history.moments, strict=True):
        posts += part
        result = evaluation.evaluate(history.settings, campaign, as_of=moment)
        due = [
            (*row[:3], row[3] if timed else None, *row[4:])
            for row in oracle.standings(path, oracle.books(posts), rates())
        ]
        if not timed:  # then who is before whom among equals is the line's to know
            due = sorted((0, *row[1:]) for row in due)
            found = sorted((0, *row[1:]) for row in plain(result, timed=False))
        assert (plain(result, timed=True) if timed else found) == due
        assert result.unsettled == 0
    assert due, "no player has a score, so the example tests nothing"


RULES = [
    ("join-race", "opt_in"),
    ("join-first", "opt_in"),
    ("reload", "eligible.deposited.amount"),
    ("reload", "eligible.deposited.times"),
    ("come-back", "eligible.lapsed"),
    ("first-deposit", "eligible.first_deposit_in_period"),
    ("no-hedging", "counts.exclude_opposite_bets"),
    ("team-race", "form.teams"),
    ("team-race", "form.teams.best"),
    ("knockout", "form.stages"),
    ("knockout", "form.stages.1.percent"),
    ("growing-pool", "form.pool.cap"),
    ("spins-and-goods", "form.prizes.1.item.cost"),
    ("spins-and-goods", "form.prizes.0.item"),
    ("spin-ladder", "form.steps.2"),
    ("welcome-path", "form.steps.0"),
    ("welcome-path", "form.steps.1.counts"),
]


@pytest.mark.parametrize(("name", "rule"), RULES)
def test_a_rule_changes_the_result_of_its_example(
    name: str, rule: str, history: History, tmp_path: Path
) -> None:
    """In plain Python, which the SQL equals with the rule."""
    path = next(path for path in EXAMPLES if path.stem == name)
    document = yaml.load(path.read_text(), yaml.BaseLoader)
    part, (*way, last) = document, rule.split(".")
    for step in way:
        part = part[int(step)] if isinstance(part, list) else part[step]
    del part[int(last) if isinstance(part, list) else last]
    other = tmp_path / path.name
    other.write_text(yaml.safe_dump(document))
    books = oracle.books([*history.posts[0], *history.posts[1]])
    assert oracle.standings(other, books, rates()) != oracle.standings(path, books, rates())


TEAMS = (
    "{players: {red: [x-tie-a, au21.1333-p00000], blue: [x-tie-b, au21.1333-p00008, au21.1333-p00001], "
    "green: [x-tie-c, au21.1333-p00017, au21.1333-p00003]}}"
)
"""Some of these are merged with others; p00000 and p00008 are among those who play most."""

VARIANTS: list[tuple[str, dict[str, str]]] = [
    ("growing-pool", {"form.pool.cap": "100000", "form.ties": "earliest"}),
    ("growing-pool", {"measure": "wins_in_a_row", "form.pool": "{percent: 0.5}"}),
    ("growing-pool", {"points": "{most_a_day: 50}", "form.ties": "equal"}),
    ("knockout", {"form.carry_over": "true", "form.ties": "split"}),
    ("knockout", {"measure": "rounds", "form.ties": "equal", "points": "{most_a_day: 15}"}),
    ("team-race", {"form.teams": '{tag_prefix: "team:"}', "form.ties": "split", "budget": "120"}),
    ("team-race", {"form.teams": TEAMS, "form.ties": "equal", "measure": "rounds"}),
    (
        "team-race",
        {
            "form.teams": "{players: {red: [x-edge], blue: [x-freed], grey: [x-orphan]}, best: 1}",
            "form.pool": "{base: 7, percent: 1}",
            "form.prizes": "[{ranks: 1, share: 50}, {ranks: 2-3, amount: 0.05}]",
            "points": "{most_a_day: 2000}",
        },
    ),
    ("come-back", {"eligible.lapsed.without": "logins"}),
    ("reload", {"eligible.behaviour_at": "2026-03-14T10:00"}),
]


@pytest.mark.parametrize(("name", "changes"), VARIANTS)
def test_a_variant_of_an_example_gives_what_plain_python_gives(
    name: str, changes: dict[str, str], history: History, tmp_path: Path
) -> None:
    campaign, due = variant(name, changes, history, tmp_path)
    found = plain(evaluation.evaluate(history.settings, campaign, history.moments[1]), timed=True)
    assert found == due


def variant(
    name: str, changes: dict[str, str], history: History, folder: Path
) -> tuple[Campaign, list[Any]]:
    """An example with other values, and its standings in plain Python."""
    path = next(path for path in EXAMPLES if path.stem == name)
    document = yaml.load(path.read_text(), yaml.BaseLoader)
    for where, value in changes.items():
        part, (*way, last) = document, where.split(".")
        for step in way:
            part = part[step]
        part[last] = yaml.load(value, yaml.BaseLoader)
    other = folder / path.name
    other.write_text(yaml.safe_dump(document))
    books = oracle.books([*history.posts[0], *history.posts[1]])
    return load(path, changes).campaign, list(oracle.standings(other, books, rates()))


def test_a_team_whose_mean_is_cut_to_zero_has_a_rank_and_a_prize_and_one_without_a_score_has_none(
    history: History, tmp_path: Path
) -> None:
    """What was left out is of no team, and takes no rank: also not where all scores are zero."""
    changes = {
        "form.teams": "{players: {red: [x-edge], blue: [x-freed], grey: [x-orphan]}, best: 10000}",
        "form.prizes": "[{ranks: 1, amount: 10}, {ranks: 2-3, amount: 1}]",
        "points": "{multipliers: [{times: 0.000000000000000001, weekdays: [sat]}]}",
    }
    for ties, prizes in (("earliest", {1, 10}), ("equal", {10}), ("split", {Decimal("5.5")})):
        campaign, due = variant("team-race", changes | {"form.ties": ties}, history, tmp_path)
        result = evaluation.evaluate(history.settings, campaign, history.moments[1])
        assert plain(result, timed=True) == due
        assert {each.team for each in result.standings} == {"red", "blue"}
        assert not any(each.team_score for each in result.standings)
        assert {each.prize for each in result.standings} == prizes
        assert result.left_out


FALLING = """
name: falling
tenant: borealis
period: {from: 2026-03-14, to: 2026-03-15}
counts: {currency: SEK}
measure: sum_of_wins
form: {kind: leaderboard, prizes: [{ranks: 1-3, amount: 10}]}
"""


def test_a_score_is_the_highest_that_was_reached(history: History, tmp_path: Path) -> None:
    path = tmp_path / "falling.yaml"
    path.write_text(FALLING)
    campaign = load(path).campaign
    as_of = history.moments[1]
    text = compiler.totals(campaign, as_of)
    assert text is not None
    falling = {row["player_id"] for row in ask(history.settings, text) if row["falls"]}
    assert "y-fallen" in falling
    found = plain(evaluation.evaluate(history.settings, campaign, as_of), timed=True)
    assert found == list(
        oracle.standings(path, oracle.books([*history.posts[0], *history.posts[1]]), rates())
    )
    assert ("y-fallen", 20) in [(row[1], row[2]) for row in found]


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_the_order_of_entries_is_left_out_only_where_it_cannot_matter(
    path: Path, history: History
) -> None:
    campaign = load(path).campaign
    text = compiler.totals(campaign, history.moments[1])
    if text is None:
        in_order = campaign.measure == "wins_in_a_row" or campaign.points.in_order
        several = campaign.form.kind == "leaderboard" and campaign.form.stages
        assert in_order or several or campaign.form.kind in ("challenge", "mission")
        return
    found = ask(history.settings, text)
    assert not any(row.pop("falls") for row in found)
    excluded = {row["left_out"]: row["entries"] for row in found if row["left_out"]}
    counted = ask(history.settings, compiler.left_out(campaign, history.moments[1]))
    assert excluded == {row["left_out"]: row["entries"] for row in counted if row["left_out"]}
    scored = [row for row in found if not row.pop("left_out")]
    assert scored == ask(history.settings, compiler.standings(campaign, history.moments[1]))


def _alike(campaign: Campaign) -> list[Campaign]:
    """A campaign, and others that can share its query: of other games, times and prizes."""
    period = campaign.period

    def counting(**changes: Any) -> Campaign:
        return campaign.model_copy(update={"counts": campaign.counts.model_copy(update=changes)})

    found = [campaign, campaign.model_copy(update={"budget": Decimal(7)})]
    found += [
        campaign.model_copy(update={"period": period.model_copy(update={"start": start, "end": end})})
        for start, end in (
            (datetime(2026, 3, 14, 9), datetime(2026, 3, 14, 21)),
            (datetime(2026, 3, 1), datetime(2026, 4, 1)),
            (datetime(2027, 1, 1), datetime(2027, 1, 2)),
        )
    ]
    if campaign.source == ROUNDS:
        found += [
            counting(games=["x-game"]),
            counting(providers=["Halcyon", "Northwind"], minimum_bet=Decimal("0.5")),
            counting(categories=["slots"], games=None),
            counting(features=["free spins"]),
        ]
    return found


VARIED = "afternoon-race", "best-multiplier", "deposit-match", "growing-pool"


def test_campaigns_that_share_a_query_have_the_results_of_their_own(history: History) -> None:
    groups: dict[Any, list[Campaign]] = defaultdict(list)
    for path in EXAMPLES:
        campaign = load(path).campaign
        if (shared := together.shared(campaign)) is not None:
            groups[shared] += _alike(campaign) if path.stem in VARIED else [campaign]
    as_of, excluded = history.moments[1], set[str]()
    assert sorted(map(len, groups.values()))[-3:] == [9, 9, 10]
    for campaigns in groups.values():
        found = evaluation.evaluate_together(history.settings, campaigns, as_of)
        for campaign, result in zip(campaigns, found, strict=True):
            assert result == evaluation.evaluate(history.settings, campaign, as_of)
            excluded |= result.left_out.keys()
        once, again = (
            ask(history.settings, together.totals(campaigns, as_of, merges=True, once=once))
            for once in (True, False)
        )
        for row in (*once, *again):
            row["rank"] = 0 if row["left_out"] else row["rank"]  # these are equal
        assert sorted(map(str, once)) == sorted(map(str, again))
    assert excluded > {"game", "provider", "category", "feature", "player: held back"}


def test_a_score_that_falls_is_the_highest_that_was_reached_also_in_a_shared_query(
    history: History, tmp_path: Path
) -> None:
    path = tmp_path / "falling.yaml"
    path.write_text(FALLING)
    campaigns = _alike(load(path).campaign)
    found = evaluation.evaluate_together(history.settings, campaigns, history.moments[1])
    assert found[0] == evaluation.evaluate(history.settings, campaigns[0], history.moments[1])
    assert ("y-fallen", Decimal(20)) in [(row.player_id, row.score) for row in found[0].standings]


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_a_backtest_equals_what_was_shown_live(path: Path, history: History) -> None:
    live = history.live[path.stem]
    campaign = load(path).campaign
    again = evaluation.backtest(history.settings, campaign, campaign.period, live.as_of)
    assert again == live


def test_the_extra_cases_are_in_the_results(history: History) -> None:
    """Ties, an unblocked and a blocked player, late wins and a rollback have the expected standings."""

    def of(name: str) -> dict[str, Standing]:
        path = next(path for path in EXAMPLES if path.stem == name)
        result = evaluation.evaluate(history.settings, load(path).campaign)
        return {standing.player_id: standing for standing in result.standings}

    race = of("turnover-race")
    assert race["x-freed"].score == race["x-unknown"].score == 5000
    assert "x-blocked" not in race
    assert "x-bonus" not in race
    assert [race[f"x-tie-{c}"].rank - race["x-tie-a"].rank for c in "abc"] == [0, 1, 2]
    assert race["x-foreign"].score == Decimal("3333.33") * Decimal("0.0891")
    assert race["x-edge"].score == 901
    multiplier = of("best-multiplier")
    assert len({multiplier[f"x-tie-{c}"].prize for c in "abc"}) == 1
    assert of("multiplier-hunt")["y-undone"].score == 10  # one win and one bet of twelve taken back
    assert of("vip-login")["x-tie-a"].score == 2


def test_a_result_is_stored_with_what_reproduces_it(history: History) -> None:
    path = next(path for path in EXAMPLES if path.stem == "turnover-race")
    definition: Definition = load(path)
    result = evaluation.evaluate(history.settings, definition.campaign, history.moments[0])
    run_id = stored.store(history.settings, definition, result).run_id
    rows = ask(
        history.settings,
        "SELECT rank, player_id, toString(score) AS score, toString(prize) AS prize "
        f"FROM campaign_results WHERE run_id = '{run_id}' ORDER BY rank",
    )
    assert [
        (int(r["rank"]), r["player_id"], Decimal(r["score"]), Decimal(r["prize"])) for r in rows
    ] == [(s.rank, s.player_id, s.score, s.prize) for s in result.standings]
    named = ask(
        history.settings,
        f"SELECT campaign, title, count() AS n FROM campaign_standings WHERE run_id = '{run_id}' "
        "GROUP BY campaign, title",
    )
    assert [(row["campaign"], row["title"], int(row["n"])) for row in named] == [
        ("turnover-race", definition.campaign.title, len(result.standings))
    ]
    [run] = ask(history.settings, f"SELECT * FROM campaign_runs WHERE run_id = '{run_id}'")
    assert run["definition_sha256"] == definition.campaign.sha256
    assert run["definition"] == path.read_text()
    as_of = datetime.fromisoformat(run["as_of"]).replace(tzinfo=UTC)
    assert (
        evaluation.evaluate(history.settings, definition.campaign, as_of).standings == result.standings
    )


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_is_settled_as_it_is_evaluated(path: Path, history: History) -> None:
    """To the last digit, with a hash that the stored rows have, and each prize awarded once."""
    definition = load(path)
    as_of = history.moments[1]
    result = evaluation.evaluate(history.settings, definition.campaign, as_of)
    order = Order("ann", as_of=as_of, unfinished=path.stem != "turnover-race")  # others need no wait
    settlement, is_new, _ = settle(history.settings, definition, order, print)
    assert is_new
    frozen = stored.stored_standings(history.settings, settlement.run_id)
    assert sorted(frozen) == sorted(result.standings)  # equals of a campaign may have one rank
    assert stored.stored_sha256(history.settings, settlement.run_id) == settlement.result_sha256
    tenant, campaign = definition.campaign.tenant, definition.campaign.name
    awarded = (
        f"SELECT player_id, sum(amount) AS amount FROM awards WHERE tenant = '{tenant}' "
        f"AND campaign = '{campaign}' GROUP BY player_id"
    )
    due = {each.player_id: each.prize for each in result.standings.winners}

    def arrived() -> dict[str, Decimal]:
        found = ask(history.settings, awarded)
        return {row["player_id"]: Decimal(row["amount"]) for row in found}

    wait_until(lambda: len(arrived()) == len(due), "the awards in ClickHouse")
    assert arrived() == due
    assert settle(history.settings, definition, order, print) == (settlement, False, True)


def test_a_late_event_changes_a_settled_campaign_only_by_a_review_that_is_published(
    history: History, tmp_path: Path
) -> None:
    """Settled after the first half of the posts; the second half has more rounds, and rollbacks."""
    path = next(path for path in EXAMPLES if path.stem == "spin-mission")
    early = tmp_path / "early.yaml"
    early.write_text(path.read_text().replace("name: spin-mission", "name: early-mission"))
    definition, settings = load(early), history.settings
    first, second = (Order("ann", "late rounds", at, unfinished=True) for at in history.moments)
    settled = settle(settings, definition, first, print).settlement
    before, after = (
        {place: prize.amount for place, (_, prize) in awards.prizes(result).items()}
        for result in (evaluation.evaluate(settings, definition.campaign, at) for at in history.moments)
    )
    assert before.items() - after.items() or after.items() - before.items()

    def awarded() -> list[dict[str, Any]]:
        return ask(settings, "SELECT * FROM awards WHERE campaign = 'early-mission' ORDER BY number")

    wait_until(lambda: len(awarded()) == len(before), "the awards in ClickHouse")
    shown = review(settings, definition, second, print, publish=False)
    assert shown.published is None
    assert settle(settings, definition, second, print) == (settled, False, True)
    assert len(awarded()) == len(before)
    published = review(settings, definition, second, print, publish=True).published
    assert published is not None
    assert (published.number, published.awards) == (1, len(shown.differences))
    wait_until(lambda: len(awarded()) == len(before) + published.awards, "the corrections")
    rows = awarded()
    now = {
        (row["player_id"], int(row["step"])): Decimal(row["amount"])
        for row in rows
        if Decimal(row["amount"]) or row["kind"] == "correction"
    }
    assert {place: amount for place, amount in now.items() if amount} == after
    ids = {(row["player_id"], int(row["step"])): row["award_id"] for row in rows if not row["number"]}
    for row in rows:
        if row["kind"] == "correction":
            place = row["player_id"], int(row["step"])
            assert row["corrects"] == ids.get(place)
            assert Decimal(row["amount_before"]) == before.get(place, 0)
            assert row["reason"] == "late rounds"
    again = review(settings, definition, second, print, publish=True)
    assert (again.differences, again.published) == ([], None)


def test_explain_gives_a_verdict_on_everything_of_a_player(history: History) -> None:
    path = next(path for path in EXAMPLES if path.stem == "turnover-race")
    campaign = load(path).campaign

    def verdicts(player: str) -> list[str]:
        explained = evaluation.explain(history.settings, campaign, player)
        return [entry.verdict for entry in explained.entries]

    assert verdicts("x-edge") == ["outside the period", "counts", "outside the period"]
    assert verdicts("x-blocked") == ["player: blocked"]
    assert verdicts("x-foreign") == ["counts", "no rate"]
    assert verdicts("x-bonus") == ["bonus money"]
    assert verdicts("x-orphan") == ["no bet"]
    top = evaluation.evaluate(history.settings, campaign).standings[0]
    counted = [
        entry
        for entry in evaluation.explain(history.settings, campaign, top.player_id).entries
        if entry.verdict == "counts"
    ]
    assert (len(counted), sum(entry.amount for entry in counted)) == (top.entries, top.score)


def test_explain_says_for_which_step_of_a_mission_an_entry_counted(history: History) -> None:
    path = next(path for path in EXAMPLES if path.stem == "welcome-path")
    campaign = load(path).campaign
    top = evaluation.evaluate(history.settings, campaign).standings[0]
    entries = evaluation.explain(history.settings, campaign, top.player_id).entries
    counted = [entry.verdict for entry in entries if entry.verdict.endswith("counts")]
    assert len(counted) == top.entries
    assert list(dict.fromkeys(counted)) == [f"step {number}: counts" for number in (1, 2, 3)]
    assert "step 3: before the step was open" in {entry.verdict for entry in entries}


def test_explain_says_how_far_a_player_is_in_each_step_of_a_mission(history: History) -> None:
    path = next(path for path in EXAMPLES if path.stem == "welcome-path")
    campaign = load(path).campaign
    assert isinstance(campaign.form, Mission)
    standings = evaluation.evaluate(history.settings, campaign, history.moments[1]).standings
    first_of = {standing.step: standing for standing in reversed(standings)}
    assert first_of.keys() >= {1, 3}
    for standing in first_of.values():
        found = evaluation.explain(history.settings, campaign, standing.player_id, history.moments[1])
        reached = [step.at is not None for step in found.steps]
        assert reached == [number <= standing.step for number in (1, 2, 3)]
        assert found.steps[standing.step - 1].at == standing.reached_at
        for number, step in enumerate(found.steps, 1):
            counted = [e.points for e in found.entries if e.verdict == f"step {number}: counts"]
            assert step.score == sum(counted)
            assert (step.score >= campaign.form.steps[number - 1].target) == reached[number - 1]


def test_a_result_has_the_pool_that_its_prizes_are_shares_of(history: History) -> None:
    path = next(path for path in EXAMPLES if path.stem == "growing-pool")
    full = evaluation.evaluate(history.settings, load(path).campaign)
    assert full.pool == Decimal(300)
    changes = {"form.pool.cap": "100000", "form.ties": "earliest"}
    grown = evaluation.evaluate(history.settings, load(path, changes).campaign)
    assert grown.pool
    assert grown.pool > 300
    half = (grown.pool / 2).quantize(Decimal("0.01"), ROUND_DOWN)
    assert grown.standings[0].prize == half
    nobody = load(path, {"counts.minimum_bet": "1000000"}).campaign
    assert evaluation.evaluate(history.settings, nobody).pool == Decimal(100)


@pytest.mark.parametrize("name", ["happy-hour", "double-slots"])
def test_explain_says_what_each_entry_was_worth(name: str, history: History) -> None:
    path = next(path for path in EXAMPLES if path.stem == name)
    settings, as_of, campaign = history.settings, history.moments[1], load(path).campaign
    books = oracle.books([*history.posts[0], *history.posts[1]])
    for standing in evaluation.evaluate(settings, campaign, as_of).standings[:2]:
        entries = evaluation.explain(settings, campaign, standing.player_id, as_of).entries
        found = {entry.id: entry.points for entry in entries if entry.verdict == "counts"}
        assert found == oracle.worth(path, books, rates(), standing.player_id)
        assert not any(entry.points for entry in entries if entry.verdict != "counts")


def test_a_tournament_has_standings_after_each_stage_and_no_other_period(history: History) -> None:
    path = next(path for path in EXAMPLES if path.stem == "knockout")
    campaign = load(path).campaign
    settings, as_of = history.settings, history.moments[1]
    first, second, last = (
        evaluation.evaluate(settings, campaign.until_stage(number), as_of) for number in (1, 2, 3)
    )
    assert last == evaluation.evaluate(settings, campaign, as_of)
    assert {standing.stage for standing in first.standings} == {1}
    through = [standing.player_id for standing in first.standings[:8]]
    assert {s.player_id for s in second.standings if s.stage == 2} <= set(through)
    assert [s.stage for s in last.standings] == sorted((s.stage for s in last.standings), reverse=True)
    verdicts = evaluation.explain(settings, campaign, first.standings[8].player_id).entries
    assert "stage 2: player: did not go on" in {entry.verdict for entry in verdicts}
    with pytest.raises(DefinitionError, match="knockout has 3 stages, and none is number 4"):
        campaign.until_stage(4)
    period = campaign.period.model_copy(update={"end": datetime(2026, 3, 16)})
    with pytest.raises(ConfigurationError, match="the stages of knockout have times of their own"):
        evaluation.backtest(settings, campaign, period)


def test_as_many_go_on_from_a_stage_as_its_definition_says(history: History) -> None:
    begin = {"from": "2026-03-14", "to": "2026-03-15"}
    for rule in (
        {"best": 7},
        {"percent": Decimal("12.5")},
        {"percent": 1},
        {"percent": Decimal("99.9")},
    ):
        stage = Stage.model_validate(begin | rule)
        found = ask(
            history.settings,
            f"SELECT placed, countIf({is_through(stage)}) AS through FROM "
            "(SELECT arrayJoin(range(1, 60)) AS placed, arrayJoin(range(1, placed + 1)) AS place) "
            "GROUP BY placed ORDER BY placed",
        )
        assert [int(row["through"]) for row in found] == [stage.going_on(n) for n in range(1, 60)]
    last = Stage.model_validate(begin)
    assert (last.going_on(5), stage.going_on(0)) == (0, 0)


@pytest.mark.parametrize("name", ["spins-and-goods", "spin-ladder"])
def test_the_awards_of_a_result_are_its_prizes_and_items(name: str, history: History) -> None:
    path = next(path for path in EXAMPLES if path.stem == name)
    result = evaluation.evaluate(history.settings, load(path).campaign, history.moments[1])
    money: dict[str, Decimal] = defaultdict(Decimal)
    items: dict[str, list[str]] = defaultdict(list)
    for (player, _), (_, prize) in sorted(awards.prizes(result).items()):
        money[player] += prize.amount
        if prize.item:
            items[player].append(f"{prize.item_count} {prize.item}")
    winners = result.standings.winners
    assert {s.player_id: s.prize for s in winners} == money
    assert (
        {s.player_id: s.items for s in winners if s.items}
        == {player: "; ".join(texts) for player, texts in items.items()}
        != {}
    )


def test_compare_says_who_wins_and_loses_by_a_change(history: History, tmp_path: Path) -> None:
    path = next(path for path in EXAMPLES if path.stem == "turnover-race")
    narrower = tmp_path / "narrower.yaml"
    narrower.write_text(path.read_text().replace("money: real", "money: real\n  games: [x-game]"))
    found = evaluation.compare(history.settings, load(path).campaign, load(narrower).campaign)
    before = {s.player_id for s in found.before.standings if s.prize}
    after = {s.player_id for s in found.after.standings if s.prize}
    assert (set(found.lost), set(found.gained), set(found.kept)) == (
        before - after,
        after - before,
        before & after,
    )
    assert found.lost


def test_a_grid_evaluates_every_combination_of_values(history: History, tmp_path: Path) -> None:
    path = next(path for path in EXAMPLES if path.stem == "turnover-race")
    chart = tmp_path / "grid.svg"
    arguments = [
        "campaign", "grid", str(path), "--vary", "counts.minimum_bet=0.20,1000",
        "--vary", "form.prizes.0.amount=500,900", "--chart", str(chart), "--format", "json",
    ]  # fmt: skip
    found = CliRunner().invoke(main, arguments, env=Stack(history.settings).environment)
    assert found.exit_code == 0, found.output
    rows = json.loads(found.stdout)
    as_given = evaluation.evaluate(history.settings, load(path).campaign)
    assert [(row["counts.minimum_bet"], row["form.prizes.0.amount"]) for row in rows] == [
        ("0.20", "500"), ("0.20", "900"), ("1000", "500"), ("1000", "900"),
    ]  # fmt: skip
    assert (rows[0]["players"], Decimal(rows[0]["cost"])) == (
        len(as_given.standings), as_given.cost,
    )  # fmt: skip
    assert Decimal(rows[1]["cost"]) - Decimal(rows[0]["cost"]) == 400
    assert rows[2]["players"] < rows[0]["players"]
    points = [node for node in ElementTree.parse(chart).iter() if node.tag.endswith("circle")]
    assert len(points) == 4


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"counts.minimum_bet": "much"}, "minimum_bet"),
        ({"form.prizes.9.amount": "1"}, "form.prizes.9.amount"),
        ({"counts.games.x": "1"}, "counts.games"),
        ({"budget": "["}, "not YAML"),
    ],
)
def test_a_change_that_is_none_is_named(changes: dict[str, str], message: str) -> None:
    path = next(path for path in EXAMPLES if path.stem == "turnover-race")
    with pytest.raises(DefinitionError, match=message):
        load(path, changes)


def test_results_have_every_digit_in_every_format(history: History) -> None:
    path = str(next(path for path in EXAMPLES if path.stem == "turnover-race"))
    result = evaluation.evaluate(history.settings, load(Path(path)).campaign, history.moments[1])
    environment = Stack(history.settings).environment
    at = ("--as-of", f"{history.moments[1]:%Y-%m-%dT%H:%M:%S.%f}")

    def run(*arguments: str) -> bytes:
        found = CliRunner().invoke(main, ["campaign", *arguments, *at], env=environment)
        assert found.exit_code == 0, found.output
        return found.stdout_bytes

    frame = frames.standings(result)
    assert [(row["player_id"], row["score"], row["reached_at"]) for row in frame.to_dicts()] == [
        (standing.player_id, standing.score, standing.reached_at) for standing in result.standings
    ]
    assert any(standing.score != round(standing.score, 17) for standing in result.standings)
    leaderboard = run("backtest", path, "--format", "parquet")
    assert polars.read_parquet(leaderboard).equals(frame)
    rows = list(csv.DictReader(run("backtest", path, "--format", "csv").decode().splitlines()))
    assert [(row["player_id"], Decimal(row["score"])) for row in rows] == [
        (standing.player_id, standing.score) for standing in result.standings
    ]
    top = json.loads(run("backtest", path, "--format", "json", "--top", "3"))
    assert [(row["rank"], Decimal(row["prize"])) for row in top] == [
        (standing.rank, standing.prize) for standing in result.standings[:3]
    ]
    found = evaluation.explain(history.settings, load(Path(path)).campaign, "x-edge")
    entries = json.loads(run("explain", path, "x-edge", "--format", "json"))
    assert [(row["id"], row["verdict"]) for row in entries] == [
        (e.id, e.verdict) for e in found.entries
    ]
    both = json.loads(run("compare", path, path, "--format", "json"))
    assert {row["player_id"]: row["prize_after"] for row in both} == {
        row["player_id"]: row["prize_before"] for row in both
    }
    assert len(both) == len(result.standings)


def test_check_names_events_and_tags_that_nobody_has(history: History, tmp_path: Path) -> None:
    for name, old, new, message in (
        (
            "join-race",
            "{event: visit_shop",
            "{event: leave_shop",
            ":6: opt_in.event: no custom event leave",
        ),
        (
            "wheel",
            "event: spin_wheel",
            "event: spin",
            ":6: counts.event: no custom event spin was ever",
        ),
        (
            "team-race",
            '"team:"',
            '"crew:"',
            ":11: form.teams.tag_prefix: no player of tenant aurora ever",
        ),
    ):
        path = next(path for path in EXAMPLES if path.stem == name)
        assert not [
            each for each in evaluation.problems(history.settings, load(path)) if "ever" in each
        ]
        other = tmp_path / path.name
        other.write_text(path.read_text().replace(old, new))
        assert any(message in each for each in evaluation.problems(history.settings, load(other)))


def test_the_commands_say_the_same(history: History, tmp_path: Path) -> None:
    path = str(next(path for path in EXAMPLES if path.stem == "turnover-race"))
    environment = Stack(history.settings).environment

    def run(*arguments: str, status: int = 0) -> str:
        result = CliRunner().invoke(main, ["campaign", *arguments], env=environment)
        assert result.exit_code == status, result.output
        return result.output

    shown = run("leaderboard", path, "--top", "3")
    assert "x-freed" in shown
    moment = shown.split("as of ")[1].split(";")[0]
    again = run("backtest", path, "--top", "3", "--as-of", moment)
    assert again == shown
    teams = run("leaderboard", str(next(p for p in EXAMPLES if p.stem == "team-race")))
    assert "team" in teams
    assert "stage" not in teams
    assert "stored as run" in run("evaluate", path)
    assert "row_number() OVER (ORDER BY score DESC" in run("evaluate", path, "--sql")
    assert "outside the period" in run("explain", path, "x-edge")
    assert "win under both" in run("compare", path, path)
    assert json.loads(run("schema"))["properties"]["measure"]["enum"]
    later = run("backtest", path, "--from", "2026-03-15", "--to", "2026-03-16")
    assert "x-edge" in later
    assert "x-freed" not in later
    wrong = tmp_path / "wrong.yaml"
    text = Path(path).read_text()
    wrong.write_text(text.replace("money: real", "money: real\n  games: [x-game, nobody-knows]"))
    assert f"{wrong}:8: counts.games.1: nobody-knows is unknown" in run("check", str(wrong), status=1)
    assert "GBP" not in run("check", path, status=1)  # says how many, and how to mend it
    assert "rates import" in run("check", path, status=1)
    assert "ends before it begins" in run("backtest", path, "--to", "2026-01-01", status=78)


def test_a_test_event_goes_the_whole_line_and_touches_nothing_of_its_live_tenant(
    history: History,
) -> None:
    """That KPIs and campaigns do not count it is compared with plain Python, which leaves it out."""

    def rows(sql: str) -> list[dict[str, Any]]:
        return ask(history.settings, sql)

    assert accounts(history.settings)[TRIAL] == {
        "received": 4, "accepted": 3, "duplicate": 0, "conflict": 1, "rejected": 0, "settled": 4,
        "stored": 3, "transactions": 1, "in_rounds": 1,
    }  # fmt: skip
    where = "WHERE player_id = 'x-edge' AND tenant"
    assert rows(f"SELECT toFloat64(stake) AS stake FROM rounds {where} = '{TRIAL}'") == [
        {"stake": Decimal(1_000_000)}
    ]
    assert [
        len(rows(f"SELECT * FROM {view} {where} = '{TRIAL}'")) for view in ("payments", "players")
    ] == [1, 1]
    assert [row["code"] for row in rows(f"SELECT code FROM rejects WHERE tenant = '{TRIAL}'")] == [
        "id_conflict"
    ]
    assert rows(f"SELECT * FROM players {where} = 'aurora'") == []
    for view in ("kpi_play", "kpi_cash"):
        kpis = rows(
            f"SELECT DISTINCT tenant FROM {view}(grain = 'month', by = 'tenant', reporting = '')"
        )
        assert "aurora" in (tenants := {row["tenant"] for row in kpis})
        assert TRIAL not in tenants


@pytest.mark.parametrize("reporting", ["", "EUR"])
def test_kpis_are_what_plain_python_adds_up(reporting: str, history: History) -> None:
    play: dict[tuple[Any, ...], list[Any]] = defaultdict(lambda: [0, 0, set(), Decimal(0), Decimal(0)])
    cash: dict[tuple[Any, ...], list[Any]] = defaultdict(lambda: [0, Decimal(0), 0])
    counted = [post for posts in history.posts for post in posts if post.tenant != TRIAL]
    for tenant, found in oracle.books(counted).items():
        for (player, round_id), plays in found.plays.items():
            entry = oracle.round_of(round_id, plays, real=False)
            at = min(play["key"][0] for play in plays)
            rate = day_rate(entry.currency, reporting, at)
            row = play[tenant, f"{at:%Y-%m-%d}", reporting or entry.currency]
            if rate is None:
                row[1] += 1
                continue
            row[0] += 1
            row[2].add(found.person(player))
            row[3] += oracle.cut(entry.amount * rate)
            row[4] += oracle.cut(entry.payout * rate)
        firsts: set[str] = set()
        for (player, _), states in sorted(found.deposits.items(), key=lambda e: e[1][0]["key"]):
            first = min(states, key=lambda state: state["key"])
            rate = day_rate(first["currency"], reporting, first["key"][0])
            row = cash[tenant, f"{first['key'][0]:%Y-%m-%d}", reporting or first["currency"]]
            if rate is not None:
                row[0] += 1
                row[1] += oracle.cut(Decimal(first["amount"]) * rate)
            row[2] += found.person(player) not in firsts
            firsts.add(found.person(player))

    rows = ask(
        history.settings,
        "SELECT tenant, toString(toDate(period)) AS day, currency, rounds, unconverted_rounds, "
        "active_players, toString(turnover) AS turnover, toString(paid_out) AS paid_out "
        f"FROM kpi_play(grain = 'day', by = 'tenant', reporting = '{reporting}')",
    )
    assert {
        (r["tenant"], r["day"], r["currency"]): (
            int(r["rounds"]), int(r["unconverted_rounds"]), int(r["active_players"]),
            Decimal(r["turnover"]), Decimal(r["paid_out"]),
        )
        for r in rows
    } == {key: (row[0], row[1], len(row[2]), row[3], row[4]) for key, row in play.items()}  # fmt: skip
    rows = ask(
        history.settings,
        "SELECT tenant, toString(toDate(period)) AS day, currency, deposits, first_time_depositors, "
        "toString(deposited) AS deposited "
        f"FROM kpi_cash(grain = 'day', by = 'tenant', reporting = '{reporting}')",
    )
    assert {
        (r["tenant"], r["day"], r["currency"]): (
            int(r["deposits"]), Decimal(r["deposited"]), int(r["first_time_depositors"])
        )
        for r in rows
    } == {key: tuple(row) for key, row in cash.items()}  # fmt: skip


def day_rate(base: str, quote: str, at: datetime) -> Decimal | None:
    if quote in ("", base):
        return Decimal(1)
    day = f"{at.astimezone(UTC):%Y-%m-%d}"
    known = [rate for since, rate in sorted(rates().get((base, quote), [])) if since <= day]
    return known[-1] if known else None


def test_rounds_and_profiles_of_merged_players_are_those_of_one_person(history: History) -> None:
    books = oracle.books([post for posts in history.posts for post in posts])
    stakes: dict[tuple[str, str], Decimal] = defaultdict(Decimal)
    countries: dict[tuple[str, str], str | None] = {}
    for tenant, found in books.items():
        assert len(found.persons) == {"aurora": 7, "cascade": 9}.get(tenant, 0)
        for (player, round_id), plays in found.plays.items():
            entry = oracle.round_of(round_id, plays, real=False)
            stakes[tenant, found.person(player)] += entry.amount
        for player in found.players:
            person = found.person(player)
            countries[tenant, person] = found.known(person).get("country")
    rows = ask(
        history.settings,
        "SELECT tenant, person_id, toString(sum(stake)) AS staked FROM rounds_by_person "
        "GROUP BY tenant, person_id",
    )
    assert {(row["tenant"], row["person_id"]): Decimal(row["staked"]) for row in rows} == stakes
    rows = ask(
        history.settings,
        "SELECT tenant, person_id, country FROM persons WHERE country IS NOT NULL",
    )
    assert {(row["tenant"], row["person_id"]): row["country"] for row in rows} == {
        key: country for key, country in countries.items() if country
    }


def test_a_tenant_without_contacts_has_the_same_results_by_the_shorter_query(history: History) -> None:
    campaigns = [load(path).campaign for path in EXAMPLES]
    for campaign in campaigns:
        for compiled in (
            (compiler.standings, compiler.left_out) if campaign.tenant not in MERGING else ()
        ):
            long, short = (
                ask(history.settings, compiled(campaign, history.moments[1], merges=merges))
                for merges in (True, False)
            )
            assert long == short != []


def test_explain_names_merged_players_and_a_correction_holds_for_later_results_alone(
    history: History,
) -> None:
    """The players a to e of :func:`contacts` are one person, of whom a and b are said to be two."""
    settings, environment = history.settings, Stack(history.settings).environment
    path = next(path for path in EXAMPLES if path.stem == "winning-streak")
    posts = [post for posts in history.posts for post in posts]
    books = oracle.books(posts)["aurora"]
    b, a, *_ = dict.fromkeys(player for player, _ in books.held)
    before = evaluation.evaluate(settings, load(path).campaign)

    def run(*arguments: str) -> str:
        result = CliRunner().invoke(main, arguments, env=environment)
        assert result.exit_code == 0, result.output
        return result.output

    def due(apart: list[tuple[str, str]]) -> list[Any]:
        found = oracle.standings(path, oracle.books(posts, apart), rates())
        return [tuple(row) for row in found]

    assert plain(before, timed=True) == due([])
    explained = run("campaign", "explain", str(path), a)
    assert explained.startswith(f"person {b}\n")
    assert f"\n  {a}  email:ann@example.com mobile:358409990000\n" in explained
    assert {
        entry.player_id for entry in evaluation.explain(settings, load(path).campaign, a).entries
    } == {player for player, person in books.persons.items() if person == b}
    run("player", "unmerge", "aurora", a, b, "--reason", "two sisters")
    try:
        after = evaluation.evaluate(settings, load(path).campaign)
        assert plain(after, timed=True) == due([(a, b)]) != due([])
        assert evaluation.evaluate(settings, load(path).campaign, before.as_of) == before
    finally:
        run("player", "unmerge", "aurora", a, b, "--undo", "--reason", "the end of the test")
    assert plain(evaluation.evaluate(settings, load(path).campaign), timed=True) == due([])


def test_a_late_win_changes_the_standings_within_the_line_s_latency(history: History) -> None:
    path = next(path for path in EXAMPLES if path.stem == "best-multiplier")
    campaign = load(path).campaign
    before = evaluation.evaluate(history.settings, campaign)
    keys = demo_keys(Registry(history.settings.tenants_path))
    late = {
        "unique_id": "x-late", "timestamp": "2026-03-20T00:00:00", "player_id": "x-edge",
        "game_id": "x-game", "round_id": "x-x-edge-2", "amount": 901_000, "currency": "EUR",
        "is_win": True, "is_bonus": False,
    }  # fmt: skip
    item = {"items": [{"event": "gameround", "data": late}]}
    url = f"http://{history.settings.edge_host}:{history.settings.edge_port}"
    asyncio.run(feed(url, keys, [Post("aurora", NATIVE, json.dumps(item).encode(), 1, 0)]))

    def leads() -> bool:
        return evaluation.evaluate(history.settings, campaign).standings[0].player_id == "x-edge"

    wait_until(leads, "the late win in the standings")
    assert evaluation.evaluate(history.settings, campaign, before.as_of) == before


def test_rates_of_a_later_import_hold_from_then_on(history: History, tmp_path: Path) -> None:
    path = next(path for path in EXAMPLES if path.stem == "biggest-win")
    campaign = load(path).campaign
    before = evaluation.evaluate(history.settings, campaign)
    file = tmp_path / "corrected.csv"
    file.write_text("day,base,quote,rate\n2026-03-14,SEK,EUR,0.2\n")
    assert import_rates(history.settings, file, source="correction") == 1
    after = evaluation.evaluate(history.settings, campaign, datetime.now(UTC) + timedelta(seconds=1))
    assert after.standings[0].score > before.standings[0].score
    assert evaluation.evaluate(history.settings, campaign, before.as_of) == before
    assert "correction" in query(history.settings, "SELECT DISTINCT source FROM rates", "csv")
