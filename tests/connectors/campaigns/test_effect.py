"""The effect of a campaign on a simulated year in ClickHouse, with and without a planted effect."""

import hashlib
import json
from collections import defaultdict
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from io import BytesIO
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import polars
import pytest
from click.testing import CliRunner

from connectors.campaigns.effect.measure import AFTER, BEFORE, DURING, Effect, measure
from connectors.campaigns.effect.population import Windows, query_of, read
from connectors.campaigns.model.definition import Campaign, load
from connectors.cli.main import main
from connectors.clickhouse.client import connect
from connectors.clickhouse.migrate import migrate
from connectors.clickhouse.query import query_rows
from streams.errors import ConfigurationError
from streams.settings import Settings

START, DAYS, PLAYERS = datetime(2026, 3, 1, tzinfo=UTC), (-182, 183), 1500
"""A year of play, with the campaign's week in its middle."""
GIFT = 20.0
"""What the planted campaign adds to a stake of a player who may take part, while it runs."""
AS_OF = datetime(2026, 9, 1, tzinfo=UTC)
DEFINITION = """
name: planted
tenant: {tenant}
period: {{from: 2026-03-01, to: 2026-03-08, time_zone: UTC}}
holdout: {{share: 0.3, salt: "pepper "}}
counts: {{currency: EUR}}
measure: turnover
form: {{kind: leaderboard, prizes: [{{ranks: 1-10, amount: 100}}]}}
"""


class Play(NamedTuple):
    """A bet and its win."""

    player: str
    at: datetime
    stake: float
    payout: float
    bonus: float


def held_back(player: str) -> bool:
    """As docs/campaigns.md describes it."""
    return hashlib.sha256(f"pepper {player}".encode()).hexdigest()[:8] < f"{int(0.3 * 2**32):08x}"


def plays(seed: int, gift: float) -> list[Play]:
    random = np.random.default_rng(seed)
    habit = random.gamma(2.0, 0.15, PLAYERS)
    stake = random.gamma(3.0, 10.0, PLAYERS)
    found = []
    for day in range(*DAYS):
        for number in np.flatnonzero(random.random(PLAYERS) < habit):
            at = START + timedelta(days=day, hours=float(random.integers(0, 24)), minutes=7)
            player, amount = f"p{number}", float(stake[number])
            if 0 <= day < 7 and not held_back(player):
                amount += gift
            amount = round(amount, 2)
            paid = round(amount * float(random.beta(8, 2)), 2)
            found.append(Play(player, at, amount, paid, amount / 4 if number % 7 == 0 else 0.0))
    return found


def _text(at: datetime) -> str:
    return f"{at:%Y-%m-%d %H:%M:%S.%f}"


def rounds(found: list[Play], tenant: str) -> polars.DataFrame:
    """The rows of the rounds, each of a bet and its win."""
    times = ("first_event_at", "last_event_at", "first_bet_at", "last_received_at")
    counts = ("segment", "revision", "bet_count", "win_count")
    values = {
        "tenant": tenant,
        "source_event": "gameround",
        "round_id": [str(index) for index in range(len(found))],
        "player_id": [play.player for play in found],
        "currency": "EUR",
        "counts": True,
        "bet_amount": [play.stake for play in found],
        "bet_bonus_amount": [play.bonus for play in found],
        "win_amount": [play.payout for play in found],
        "largest_win_amount": [play.payout for play in found],
    }
    return polars.DataFrame(
        values | {key: [play.at for play in found] for key in times} | dict.fromkeys(counts, 1)
    )


class Past(NamedTuple):
    """A database with the tenants ``planted`` and ``nothing``, and what was played in each."""

    settings: Settings
    plays: dict[str, list[Play]]
    directory: Path

    def file(self, tenant: str, change: Callable[[str], str] = str) -> Path:
        path = self.directory / f"{tenant}.yaml"
        path.write_text(change(DEFINITION.format(tenant=tenant)))
        return path

    def campaign(self, tenant: str) -> Campaign:
        return load(self.file(tenant)).campaign


@pytest.fixture(scope="module")
def past(tmp_path_factory: pytest.TempPathFactory) -> Past:
    settings = Settings(data_dir=tmp_path_factory.mktemp("effect"))
    client = connect(settings)
    migrate(client, settings.clickhouse_database)

    def add(table: str, rows: list[dict[str, Any]]) -> None:
        lines = b"\n".join(json.dumps(row).encode() for row in rows)
        client.raw_insert(table, insert_block=lines, fmt="JSONEachRow", settings={"async_insert": 0})

    played = {"planted": plays(1, GIFT), "nothing": plays(2, 0.0)}
    for tenant, found in played.items():
        common = {"tenant": tenant, "counts": True, "source": "native", "source_event": "gameround"}
        bets = {
            "round_id": [str(index) for index in range(len(found))],
            "player_id": [play.player for play in found],
            "occurred_at": [play.at for play in found],
            "received_at": [play.at for play in found],
        }
        kinds = {
            "bet": ([play.stake for play in found], [play.bonus for play in found]),
            "win": ([play.payout for play in found], [0.0] * len(found)),
        }
        for kind, (amounts, bonuses) in kinds.items():
            frame = polars.DataFrame(bets | {"amount": amounts, "bonus_amount": bonuses}).with_columns(
                polars.lit(value).alias(name)
                for name, value in (common | {"type": kind, "currency": "EUR"}).items()
            )
            file = BytesIO()
            frame.with_columns(event_id=polars.concat_str("round_id", "type")).write_parquet(file)
            client.raw_insert("game_transactions_rows", insert_block=file.getvalue(), fmt="Parquet")
        file = BytesIO()
        rounds(found, tenant).write_parquet(file)
        client.raw_insert("rounds_rows", insert_block=file.getvalue(), fmt="Parquet")
        deposits = [
            common | {
                "received_at": _text(play.at), "occurred_at": _text(play.at), "player_id": play.player,
                "event_id": f"d{index}", "payment_id": f"d{index}", "currency": "EUR",
                "direction": "deposit", "successful": True, "amount": "12.5",
            }
            for index, play in enumerate(found) if index % 5 == 0
        ]  # fmt: skip
        add("payments_rows", deposits)
        about = {"p1": (-1, "is_blocked"), "p2": (3, "is_blocked"), "p3": (4, "is_promo_banned")}
        add("player_events_rows", [
            common | {
                "player_id": player, "event_id": player, field: True,
                "received_at": _text(START), "occurred_at": _text(START + timedelta(days=day)),
            }
            for player, (day, field) in about.items()
        ])  # fmt: skip
    foreign = [
        common | {
            "tenant": "mixed", "type": "bet", "amount": "100", "currency": currency,
            "received_at": _text(START), "occurred_at": _text(START - timedelta(days=1)),
            "player_id": player, "event_id": player,
        }
        for player, currency in (("s", "SEK"), ("g", "GBP"), ("e", "EUR"))
    ]  # fmt: skip
    add("game_transactions_rows", foreign)
    rate = {"base": "SEK", "quote": "EUR", "day": "2026-01-01", "rate": "0.09"}
    add("rates", [rate | {"imported_at": _text(START)}])
    client.close()
    return Past(settings, played, tmp_path_factory.mktemp("definitions"))


def windows(campaign: Campaign) -> Windows:
    return Windows.around(campaign, timedelta(days=28), timedelta(days=14))


def effect(past: Past, tenant: str) -> Effect:
    campaign = past.campaign(tenant)
    population = read(past.settings, campaign, windows(campaign), AS_OF, set())
    return measure(population.players, 0.3, Decimal(0), 0.95)


def test_a_population_is_what_plain_python_adds_up(past: Past) -> None:
    campaign = past.campaign("planted")
    due: dict[str, dict[str, float]] = defaultdict(lambda: defaultdict(float))
    days: dict[tuple[str, str], set[Any]] = defaultdict(set)
    first = START - timedelta(days=28)
    for index, play in enumerate(past.plays["planted"]):
        if not first <= play.at < START + timedelta(days=21):
            continue
        window = BEFORE if play.at < START else DURING if play.at < START + timedelta(days=7) else AFTER
        of = due[play.player]
        of[f"ggr_{window}"] += play.stake - play.payout
        of[f"ngr_{window}"] += play.stake - play.bonus - play.payout
        of[f"deposits_{window}"] += 12.5 if index % 5 == 0 else 0
        days[play.player, f"active_days_{window}"].add(play.at.date())
        if play.at.hour < 6:
            days[play.player, f"nights_{window}"].add(play.at.date())
    found = query_rows(past.settings, query_of(campaign, windows(campaign), AS_OF))
    before = {play.player for play in past.plays["planted"] if first <= play.at < START}
    assert [row["player_id"] for row in found] == sorted(before - {"p1"}), "p1 was blocked before"
    for row in found:
        player = row["player_id"]
        assert row["held_back"] == held_back(player)
        assert row["stopped"] == (player in ("p2", "p3"))
        for window in (BEFORE, DURING, AFTER):
            for name in ("ggr", "ngr", "deposits"):
                column = f"{name}_{window}"
                assert float(row[column]) == pytest.approx(due[player][column], abs=1e-6)
            for name in ("active_days", "nights"):
                column = f"{name}_{window}"
                assert int(row[column]) == len(days[player, column]), (player, column)


def test_a_population_holds_who_behaved_so_before_and_not_who_did_afterwards(past: Past) -> None:
    def of(change: str) -> set[str]:
        path = past.file("planted", lambda text: text + change)
        campaign = load(path).campaign
        rows = query_rows(past.settings, query_of(campaign, windows(campaign), AS_OF))
        return {row["player_id"] for row in rows}

    week = {
        play.player
        for index, play in enumerate(past.plays["planted"])
        if index % 5 == 0 and START - timedelta(days=7) <= play.at < START
    }
    assert week - {"p1"} == of("eligible: {deposited: {days: 7}}\n") < of("")
    teams = "teams: {players: {red: [p3, p5], blue: [p8]}}, prizes:"
    path = past.file("planted", lambda text: text.replace("prizes:", teams))
    campaign = load(path).campaign
    rows = query_rows(past.settings, query_of(campaign, windows(campaign), AS_OF))
    assert {row["player_id"] for row in rows} == {"p3", "p5", "p8"} & of("")
    for late in ("first_deposit_in_period: true", "lapsed: {days: 7}, behaviour_at: 2026-03-02"):
        path = past.file("planted", lambda text, late=late: f"{text}eligible: {{{late}}}\n")  # type: ignore[misc]
        campaign = load(path).campaign
        with pytest.raises(ConfigurationError, match="after the beginning of the period"):
            read(past.settings, campaign, windows(campaign), AS_OF, set())


def test_amounts_are_converted_and_one_without_a_rate_is_left_out_and_counted(past: Past) -> None:
    campaign = past.campaign("mixed")
    found = read(past.settings, campaign, windows(campaign), AS_OF, {"s"})
    assert found.unconverted == 1
    assert found.players.values["ggr", BEFORE].tolist() == [100, 0, pytest.approx(9)]
    assert found.players.took_part.tolist() == [False, False, True]
    counts = campaign.counts.model_copy(update={"currency": None})
    with pytest.raises(ConfigurationError, match="players use EUR, GBP, SEK"):
        read(
            past.settings,
            campaign.model_copy(update={"counts": counts}),
            windows(campaign),
            AS_OF,
            set(),
        )


def test_a_planted_effect_is_found_and_only_there(past: Past) -> None:
    found = effect(past, "planted")
    by_name = {(each.name, each.window): each for each in found.estimates}
    ggr = by_name["ggr", DURING]
    bets = [play for play in past.plays["planted"] if START <= play.at < START + timedelta(days=7)]
    true = GIFT * 0.2 * len(bets) / PLAYERS  # a fifth of what is staked is kept
    assert ggr.best.low < true < ggr.best.high
    assert ggr.best.low > 0
    assert found.returned.incremental_ngr
    assert found.returned.incremental_ngr.low > 0
    for name, window in (("ggr", AFTER), ("active_days", DURING), ("retained", AFTER)):
        none = by_name[name, window].best
        assert none.low < 0 < none.high, name
    assert found.sample_ratio_p is not None
    assert found.sample_ratio_p > 0.001


def test_no_effect_is_found_where_none_was_planted(past: Past) -> None:
    for each in effect(past, "nothing").estimates:
        assert each.best.p > 0.01, each.name


def test_players_who_were_blocked_while_it_ran_are_no_success(past: Past) -> None:
    campaign = past.campaign("planted")
    players = read(past.settings, campaign, windows(campaign), AS_OF, set()).players
    assert players.stopped.sum() == 2
    rich = {key: np.where(players.stopped, 1e9, value) for key, value in players.values.items()}
    rich = {key: players.values[key] if key[1] == BEFORE else value for key, value in rich.items()}
    found = measure(players._replace(values=rich), 0.3, Decimal(0), 0.95)
    assert found.estimates == effect(past, "planted").estimates
    guarded = {each.name: each for each in found.guardrails}
    stopped = guarded["blocked or banned"]
    assert stopped.treated + stopped.control > 0
    assert max(guarded["nights"].treated, guarded["nights"].control) > 1e5, "they count in guardrails"


def run(past: Past, monkeypatch: pytest.MonkeyPatch, *arguments: str) -> str:
    monkeypatch.setenv("ROUNDHOUSE_DATA_DIR", str(past.settings.data_dir))
    command = ["campaign", *arguments, "--as-of", f"{AS_OF:%Y-%m-%d}"]
    result = CliRunner().invoke(main, command)
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result.output


def test_the_command_shows_the_effect_and_what_it_cost(
    past: Past, monkeypatch: pytest.MonkeyPatch
) -> None:
    document = json.loads(
        run(past, monkeypatch, "effect", str(past.file("planted")), "--format", "json")
    )
    assert document["design"] == "hold-out"
    assert Decimal(document["returned"]["prizes"]) == 1000
    assert document["returned"]["incremental_ngr"]["low"] > 0
    shown = run(past, monkeypatch, "effect", str(past.file("planted")))
    assert "in the control group (hold-out)" in shown
    assert "incremental NGR for each 1 of prize +" in shown


def test_without_a_hold_out_the_command_says_what_matched_controls_cannot_show(
    past: Past, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = past.file("planted", lambda text: "\n".join(
        line for line in text.splitlines() if "holdout" not in line))  # fmt: skip
    document = json.loads(run(past, monkeypatch, "effect", str(path), "--format", "json"))
    assert document["design"] == "matched controls"
    assert document["sample_ratio_p"] is None
    assert "not its effect" in document["warnings"][0]
    assert document["returned"]["incremental_ngr"] is None
    assert {each["window"] for each in document["estimates"]} == {"after"}
    assert document["treated"] + document["control"] == 1446 - 2, "without the two who were stopped"
    differing = [name for name, difference in document["alike"].items() if abs(difference) > 0.1]
    assert "active_days" in differing, "who plays more takes part: no match is as active"
    for name in differing:
        assert f"the groups differed before in {name}" in str(document["warnings"])
    shown = run(past, monkeypatch, "effect", str(path))
    assert "incremental" not in shown


def test_a_campaign_that_compares_nobody_says_why(past: Past, monkeypatch: pytest.MonkeyPatch) -> None:
    path = past.file("planted", lambda text: text.replace("tenant: planted", "tenant: nobody"))
    assert "too few to compare" in run(past, monkeypatch, "effect", str(path))
    assert "no past to plan by" in run(past, monkeypatch, "plan", str(path))


def test_a_plan_finds_the_effect_that_was_planted_with_its_players(
    past: Past, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = past.file("nothing", lambda text: text.replace("2026-03-08", "2026-03-04"))
    options = ("--effect", "5", "--before-days", "14", "--after-days", "7")
    document = json.loads(run(past, monkeypatch, "plan", str(path), *options, "--format", "json"))
    assert 1000 < document["players"] <= PLAYERS
    assert 0.05 < document["explained"] < 0.9
    assert document["needed_cuped"] < document["needed"]
    again = document["smallest"] * (document["players"] / document["needed"]) ** 0.5
    assert again == pytest.approx(5, rel=0.01)
    assert "with CUPED" in run(past, monkeypatch, "plan", str(path), *options)
