"""Computes the expected results of a campaign from posted JSON and its YAML, in the simplest way; has
no code in common with ``connectors/campaigns`` or ``streams``."""

import hashlib
import json
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import ROUND_DOWN, Context, Decimal, localcontext
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import yaml

from connectors.demo.day import GAMEBALL, Post
from tests.merging import compared, persons
from tests.oracle import spoilt

WIDE = Context(prec=80)
DIGITS = Decimal(1).scaleb(-18)
CENTS = Decimal("0.01")
Key = tuple[datetime, str, str]
SAID_AT = datetime(2050, 1, 1, tzinfo=UTC)
"""Stands for the time of Gameball's events, which send none: it is later than 2026, before 2060."""


def cut(amount: Decimal, to: Decimal = DIGITS) -> Decimal:
    return amount.quantize(to, ROUND_DOWN, context=WIDE)


@dataclass
class Entry:
    """A round, deposit or other entry of a player, in its own currency."""

    id: str
    at: datetime
    currency: str = ""
    amount: Decimal = Decimal(0)
    bonus: Decimal = Decimal(0)
    payout: Decimal = Decimal(0)
    payout_bonus: Decimal = Decimal(0)
    odds: Decimal = Decimal(0)
    game: str = ""
    bets: int = 0
    bets_left: int = 0


@dataclass
class Books:
    """All entries that were posted for a tenant."""

    plays: dict[tuple[str, str], list[dict[str, Any]]] = field(
        default_factory=lambda: defaultdict(list)
    )
    deposits: dict[tuple[str, str], list[dict[str, Any]]] = field(
        default_factory=lambda: defaultdict(list)
    )
    bets: dict[tuple[str, str], list[dict[str, Any]]] = field(default_factory=lambda: defaultdict(list))
    logins: list[tuple[str, str, datetime]] = field(default_factory=list)
    events: list[tuple[str, str, str]] = field(default_factory=list)
    players: dict[str, dict[str, tuple[Key, Any]]] = field(default_factory=lambda: defaultdict(dict))
    games: dict[str, dict[str, tuple[Key, Any]]] = field(default_factory=lambda: defaultdict(dict))
    seen: set[tuple[str, str]] = field(default_factory=set)
    held: list[tuple[str, list[str]]] = field(default_factory=list)
    persons: dict[str, str] = field(default_factory=dict)

    def person(self, player: str) -> str:
        """The player, or the person that it is merged into."""
        return self.persons.get(player, player)

    def known(self, person: str) -> dict[str, Any]:
        """The newest value of each field over the players of a person."""
        newest: dict[str, tuple[Key, Any]] = {}
        for player, fields in self.players.items():
            for name, entry in fields.items() if self.person(player) == person else ():
                if name not in newest or newest[name][0] < entry[0]:
                    newest[name] = entry
        return {name: value for name, (_, value) in newest.items()}


def books(
    posts: Iterable[Post],
    apart: Collection[tuple[str, str]] = (),
    disowned: Collection[tuple[str, str]] = (),
) -> dict[str, Books]:
    """The books of each tenant; for ``apart`` and ``disowned`` see :func:`tests.merging.persons`."""
    found: dict[str, Books] = defaultdict(Books)
    for post in posts:
        document = json.loads(post.body, parse_float=Decimal)
        tenant = found[post.tenant]
        if post.path == GAMEBALL:
            said = document.get("mobile"), document.get("email")
            if any(said):
                tenant.held.append((document["playerUniqueId"], compared(*said)))
            for name in document["events"]:
                identity = f"{post.idempotency_key}|{name}"
                if ("event", identity) not in tenant.seen:
                    tenant.seen.add(("event", identity))
                    tenant.events.append((document["playerUniqueId"], identity, name))
            continue
        for item in document["items"] if isinstance(document, dict) else document:
            data = item["data"]
            if not spoilt(data):
                _add(tenant, item["event"], data)
    for tenant in found.values():
        tenant.persons = persons(tenant.held, apart, disowned)
    return found


def _add(tenant: Books, event: str, data: dict[str, Any]) -> None:
    at = datetime.fromisoformat(data["timestamp"])
    at = at.replace(tzinfo=UTC) if at.tzinfo is None else at
    identity = str(data.get("unique_id"))
    if event == "realtime-payment":
        identity = f"{data['payment_id']}|{data['type']}|{data['status']}"
    if event == "realtime-sports-bet":
        identity = f"{data['activity_id']}|{data['type']}|{data['status']}"
    if (event, identity) in tenant.seen:
        return
    tenant.seen.add((event, identity))
    player = str(data.get("player_id") or data.get("user_id"))
    key = (at, event, identity)

    def play(kind: str, amount: Any, bonus: Any, round_id: str) -> None:
        tenant.plays[player, round_id].append(
            {"key": key, "kind": kind, "amount": Decimal(amount), "bonus": Decimal(bonus),
             "currency": data.get("currency") or data.get("user_currency"), "game": data["game_id"]}
        )  # fmt: skip

    if event == "gameround":
        amount = data["amount"]
        play(
            "win" if data["is_win"] else "bet",
            amount,
            amount if data["is_bonus"] else 0,
            data["round_id"],
        )
    elif event == "realtime-casino":
        play(data["type"], data["amount"], data["bonus_wager_amount"], data["round_id"])
    elif event == "realtime-gameround":
        play("bet", data["total_bet_user"], data["bonus_bet_user"], data["unique_id"])
        if data["total_win_user"] > 0:
            play("win", data["total_win_user"], data["bonus_win_user"], data["unique_id"])
    elif event == "deposit" or (
        event == "realtime-payment" and data["type"] == "Deposit" and data["status"] == "Approved"
    ):
        payment = identity if event == "deposit" else data["payment_id"]
        tenant.deposits[player, payment].append({"key": key, **data})
    elif event == "realtime-sports-bet":
        tenant.bets[player, data["activity_id"]].append({"key": key, **data})
    elif event in ("login", "realtime-login"):
        tenant.logins.append((player, f"{event}|{identity}", at))
    elif event in ("player", "realtime-registration"):
        names = {"registration_date": "registered", "segmentation_isPromoBanned": "promo_banned"}
        _learn(tenant.players[player], key, data, names)
    elif event == "game":
        _learn(tenant.games[data["game_id"]], key, data, {})


def _learn(
    known: dict[str, tuple[Key, Any]], key: Key, data: dict[str, Any], names: dict[str, str]
) -> None:
    for name, value in data.items():
        name = names.get(name, name)
        if value is not None and (name not in known or known[name][0] < key):
            known[name] = (key, value)


# A campaign ----------------------------------------------------------------------------------


def standings(
    path: Path, of: dict[str, Books], rates: dict[tuple[str, str], list[tuple[str, Decimal]]]
) -> Any:
    """The expected rows of (rank, player, score, reached_at, entries, step, prize, unpaid)."""
    rules = yaml.load(path.read_text(), yaml.BaseLoader)  # texts only
    with localcontext(WIDE):
        return _Campaign(rules, of[rules["tenant"]], rates).run()


def worth(
    path: Path,
    of: dict[str, Books],
    rates: dict[tuple[str, str], list[tuple[str, Decimal]]],
    person: str,
) -> dict[str, Decimal]:
    """What each entry that counts of a person is worth, by its id."""
    rules = yaml.load(path.read_text(), yaml.BaseLoader)
    with localcontext(WIDE):
        campaign = _Campaign(rules, of[rules["tenant"]], rates)
        entries = campaign.gathered()[person]
        return {entry.id: campaign.worth(entry, campaign.value(entry)) for entry in entries}


def round_of(round_id: str, plays: list[dict[str, Any]], *, real: bool) -> Entry:
    """A round as an entry; ``real`` excludes the bonus part of its amounts."""
    bets = [play for play in plays if play["kind"] == "bet"]
    first = min(bets or plays, key=lambda play: play["key"][0])
    earliest = min(plays, key=lambda play: (play["key"][0], play["game"]))
    entry = Entry(round_id, first["key"][0], plays[0]["currency"], game=earliest["game"])
    for play in plays:
        amount = play["amount"] - (play["bonus"] if real else 0)
        if play["kind"] in ("bet", "rollbackbet"):
            sign = 1 if play["kind"] == "bet" else -1
            entry.amount += sign * amount
            entry.bonus += sign * play["bonus"]
            entry.bets += sign == 1
            entry.bets_left += sign
        elif play["kind"] in ("win", "rollbackwin"):
            entry.payout += amount if play["kind"] == "win" else -amount
    return entry


def last_of(period: Any) -> Any:
    """The last day of a period that recurs every day."""
    assert period["every"] == "day"
    start, end = (datetime.fromisoformat(period[name]) for name in ("from", "to"))
    while start + timedelta(days=1) < end:
        start += timedelta(days=1)
    return {**period, "from": start.isoformat()}


@dataclass
class Facts:
    """What a person did: deposits with time, currency and amount; times of bets and logins; events."""

    deposits: list[tuple[datetime, str, Decimal]] = field(default_factory=list)
    bets: list[datetime] = field(default_factory=list)
    logins: list[datetime] = field(default_factory=list)
    events: list[str] = field(default_factory=list)


class _Campaign:
    def __init__(self, rules: Any, tenant: Books, rates: Any) -> None:
        self.rules, self.tenant, self.rates = rules, tenant, rates
        self.known_facts: dict[str, Facts] = {}
        self.stages: dict[str, int] = defaultdict(int)
        self.counts = rules.get("counts", {})
        self.points = rules.get("points", {})
        self.measure = rules["measure"]
        self.zone = ZoneInfo(rules["period"].get("time_zone", "UTC"))
        if "every" in rules["period"]:
            self.rules = rules = {**rules, "period": last_of(rules["period"])}
        self.start, self.end = (self.local(rules["period"][name]) for name in ("from", "to"))

    def local(self, text: str) -> datetime:
        return datetime.fromisoformat(text).replace(tzinfo=self.zone)

    def run(self) -> Any:
        if self.rules["form"]["kind"] == "mission":
            return self.prizes(self.mission())
        if "stages" in self.rules["form"]:
            return self.prizes(self.tournament())
        if "teams" in self.rules["form"]:
            return self.of_teams(self.scores(self.gathered()))
        return self.prizes(self.scores(self.gathered()))

    def team(self, person: str) -> str:
        """The team of a person, empty if it is in none."""
        teams = self.rules["form"]["teams"]
        if "players" in teams:
            mine = (
                team
                for team, players in teams["players"].items()
                if any(self.tenant.person(player) == person for player in players)
            )
            return min(mine, default="")
        prefix = teams["tag_prefix"]
        tags = (tag for tag in self.tenant.known(person).get("tags", ()) if tag.startswith(prefix))
        return min((tag.removeprefix(prefix) for tag in tags if tag != prefix), default="")

    def of_teams(self, scores: list[Any]) -> Any:
        """The rows of players by the ranks of their teams."""
        members: dict[str, list[Any]] = defaultdict(list)
        for row in sorted(scores, key=lambda row: (-row[1], row[2], row[0])):
            if team := self.team(row[0]):
                members[team].append(row)
        best = int(self.rules["form"]["teams"].get("best", 0))
        teams: list[Any] = []
        for team, rows in members.items():
            counted = rows[:best] if best else rows
            score = sum((row[1] for row in counted), Decimal(0))
            entries = [entry for row in rows for entry in row[3]]
            reached = max(row[2] for row in counted)
            teams.append((team, cut(score / best) if best else score, reached, entries, []))
        found = []
        for rank, team, score, _, _, step, prize, unpaid, *rest in self.prizes(teams):
            for player, own, reached, entries, _ in members[team]:
                shares = [cut(each / len(members[team]), CENTS) for each in (prize, unpaid)]
                found.append(
                    (rank, player, own, reached, len(entries), step, *shares, *rest[:3], team, score)
                )
        return sorted(found, key=lambda row: (row[0], row[1]))

    def scores(self, gathered: dict[str, list[Entry]]) -> list[Any]:
        """Person, score, when it was reached, the entries, and the score after each."""
        scores = []
        for player, entries in gathered.items():
            progress = self.progress(entries)
            final = progress[-1] if self.measure == "net_loss" else max(progress)
            reached = next(e.at for e, p in zip(entries, progress, strict=True) if p == final)
            if self.measure == "net_loss":
                reached = entries[-1].at
            if final > 0 and len(entries) >= int(self.rules.get("minimum_entries", 1)):
                scores.append((player, final, reached, entries, progress))
        return scores

    def mission(self) -> list[Any]:
        """For each person with a step: the number of steps, when the last was reached, the entries."""
        reached: dict[str, list[datetime]] = defaultdict(list)
        counted: dict[str, list[Entry]] = defaultdict(list)
        for number, step in enumerate(self.rules["form"]["steps"]):
            changes = {name: step[name] for name in ("measure", "counts") if name in step}
            own = _Campaign({**self.rules, **changes}, self.tenant, self.rates)
            open_since = {
                person: times[-1] for person, times in reached.items() if len(times) == number
            }

            def admits(
                person: str, entry: Entry, number: int = number, since: Any = open_since
            ) -> bool:
                return not number or (person in since and entry.at > since[person])

            for person, entries in own.gathered(admits).items():
                counted[person] += entries
                for entry, score in zip(entries, own.progress(entries), strict=True):
                    if score >= Decimal(step["target"]):
                        reached[person].append(entry.at)
                        break
        return [
            (person, Decimal(len(times)), times[-1], counted[person], [])
            for person, times in reached.items()
        ]

    def tournament(self) -> list[Any]:
        """Each person with a score, as in the last stage in which the person has one."""
        stages = self.rules["form"]["stages"]
        windows = [(self.local(stage["from"]), self.local(stage["to"])) for stage in stages]
        found: dict[str, Any] = {}
        through: set[str] | None = None
        for number, stage in enumerate(stages):
            first = 0 if self.rules["form"].get("carry_over") == "true" else number
            during = windows[first : number + 1]

            def admits(person: str, entry: Entry, during: Any = during, among: Any = through) -> bool:
                inside = any(start <= entry.at < end for start, end in during)
                return inside and (among is None or person in among)

            scores = self.scores(self.gathered(admits))
            scores.sort(key=lambda row: (-row[1], row[2], row[0]))
            for row in scores:
                found[row[0]] = row
                self.stages[row[0]] = number + 1
            best = int(stage.get("best", 0))
            if "percent" in stage:
                best = max(1, int(len(scores) * Decimal(stage["percent"]) / 100))
            through = {row[0] for row in scores[:best]}
        return list(found.values())

    def gathered(
        self, admits: Callable[[str, Entry], bool] = lambda person, entry: True
    ) -> dict[str, list[Entry]]:
        """The entries that count of each person, in order, of those that are admitted."""
        by_person: dict[str, list[Entry]] = defaultdict(list)
        known: dict[str, dict[str, Any]] = {}
        for player, entry in self.entries():
            person = self.tenant.person(player)
            if person not in known:
                known[person] = self.tenant.known(person)
            if player != person:
                entry.id += f"|{player}"
            if (
                admits(person, entry)
                and self.eligible(person, known[person])
                and self.behaves(person)
                and self.joined(person, entry)
                and self.counted(entry)
            ):
                by_person[person].append(entry)
        for entries in by_person.values():
            entries.sort(key=lambda entry: (entry.at, entry.id))
        return {person: self.limited(entries) for person, entries in by_person.items()}

    def entries(self) -> Iterable[tuple[str, Entry]]:
        real = self.counts.get("money") == "real"
        if self.measure in ("deposits", "deposit_count"):
            for (player, payment), states in self.tenant.deposits.items():
                first = min(states, key=lambda state: state["key"])
                yield (
                    player,
                    Entry(payment, first["key"][0], first["currency"], Decimal(first["amount"])),
                )
        elif self.measure == "login_days":
            for player, identity, at in self.tenant.logins:
                yield player, Entry(identity, at)
        elif self.measure == "custom_events":
            for player, identity, name in self.tenant.events:
                if name == self.counts["event"]:
                    yield player, Entry(identity, SAID_AT)
        elif self.measure == "sports_turnover":
            opposed = self.opposed()
            for (player, slip), states in self.tenant.bets.items():
                approved = [s for s in states if s["type"] == "Bet" and s["status"] == "Approved"]
                if approved and (player, slip) not in opposed:
                    first = min(approved, key=lambda state: state["key"])
                    bonus = Decimal(first["bonus_wager_amount"])
                    amount = Decimal(first["amount"]) - (bonus if real else 0)
                    odds = Decimal(first["total_odds"])
                    yield (
                        player,
                        Entry(slip, first["key"][0], first["currency"], amount, bonus, odds=odds),
                    )
        else:
            for (player, round_id), plays in self.tenant.plays.items():
                yield player, round_of(round_id, plays, real=real)

    def opposed(self) -> set[tuple[str, str]]:
        """The players and slips on different outcomes of a market, if they are excluded."""
        slips: dict[Any, dict[tuple[str, ...], set[tuple[str, str]]]] = defaultdict(
            lambda: defaultdict(set)
        )
        if self.counts.get("exclude_opposite_bets") != "true":
            return set()
        for (player, slip), states in self.tenant.bets.items():
            for leg in (leg for state in states for leg in state["bets"]):
                names = tuple(sorted(each.get("name", "") for each in leg.get("outcomes", ())))
                if leg.get("event_name") and leg.get("market") and any(names):
                    market = leg["event_name"], leg["market"], leg.get("match_start")
                    slips[self.tenant.person(player), market][names].add((player, slip))
        several = [by_names for by_names in slips.values() if len(by_names) > 1]
        return {slip for by_names in several for found in by_names.values() for slip in found}

    def eligible(self, person: str, known: dict[str, Any]) -> bool:
        wanted = self.rules.get("eligible", {})
        registered = known.get("registered")
        since = datetime.fromisoformat(registered) if registered else None
        tags = set(known.get("tags", ()))
        holdout = self.rules.get("holdout", {"share": "0", "salt": ""})
        digest = hashlib.sha256((holdout["salt"] + person).encode()).digest()
        if int.from_bytes(digest[:4], "big") < int(Decimal(holdout["share"]) * 2**32):
            return False
        return (
            not known.get("is_blocked")
            and not known.get("promo_banned")
            and ("countries" not in wanted or known.get("country") in wanted["countries"])
            and known.get("country") not in wanted.get("not_countries", ())
            and ("any_tag" not in wanted or bool(tags & set(wanted["any_tag"])))
            and not tags & set(wanted.get("no_tag", ()))
            and (wanted.get("consent_email") != "true" or known.get("consent_email") is True)
            and (
                "registered_before" not in wanted
                or (since is not None and since < self.local(wanted["registered_before"]))
            )
        )

    def facts(self, person: str) -> Facts:
        """What a person did, at any time."""
        if person not in self.known_facts:

            def mine(player: str) -> bool:
                return self.tenant.person(player) == person

            found = self.known_facts[person] = Facts()
            for (player, _), states in self.tenant.deposits.items():
                if mine(player):
                    first = min(states, key=lambda state: state["key"])
                    found.deposits.append(
                        (first["key"][0], first["currency"], Decimal(first["amount"]))
                    )
            for (player, _), plays in self.tenant.plays.items():
                if mine(player):
                    found.bets += [play["key"][0] for play in plays if play["kind"] == "bet"]
            for (player, _), states in self.tenant.bets.items():
                if mine(player):
                    found.bets += [state["key"][0] for state in states if state["type"] == "Bet"]
            found.logins = [at for player, _, at in self.tenant.logins if mine(player)]
            found.events = [name for player, _, name in self.tenant.events if mine(player)]
        return self.known_facts[person]

    def behaves(self, person: str) -> bool:
        """Whether a person did before the campaign what the campaign asks for."""
        wanted = self.rules.get("eligible", {})
        naive = datetime.fromisoformat(wanted.get("behaviour_at", self.rules["period"]["from"]))
        at = naive.replace(tzinfo=self.zone)

        def since(days: str) -> datetime:
            return (naive - timedelta(days=int(days))).replace(tzinfo=self.zone)

        if asked := wanted.get("deposited"):
            inside = [d for d in self.facts(person).deposits if since(asked["days"]) <= d[0] < at]
            total = Decimal(0)
            for when, currency, amount in inside:
                rate = self.rate(currency, asked.get("currency", currency), when)
                total += cut(amount * rate) if rate is not None else 0
            if len(inside) < int(asked.get("times", 1)) or total < Decimal(asked.get("amount", 0)):
                return False
        if asked := wanted.get("lapsed"):
            found = self.facts(person)
            times = found.logins if asked.get("without") == "logins" else found.bets
            before = [when for when in times if when < at]
            if not before or max(before) >= since(asked["days"]):
                return False
        if wanted.get("first_deposit_in_period") == "true":
            firsts = sorted(when for when, _, _ in self.facts(person).deposits)
            if not firsts or not self.start <= firsts[0] < self.end:
                return False
        return True

    def joined(self, person: str, entry: Entry) -> bool:
        """Whether a person joined, and before an entry if that is asked for."""
        asked = self.rules.get("opt_in")
        if asked is None:
            return True
        if asked["event"] not in self.facts(person).events or self.end <= SAID_AT:
            return False
        return asked.get("counts_before") == "true" or entry.at >= SAID_AT

    def counted(self, entry: Entry) -> bool:
        """Whether an entry counts; also converts its amounts."""
        rounds = self.measure not in (
            "deposits", "deposit_count", "login_days", "custom_events", "sports_turnover"
        )  # fmt: skip
        if not self.start <= entry.at < self.end:
            return False
        if rounds and (entry.bets == 0 or entry.bets_left <= 0):
            return False
        game = {name: value for name, (_, value) in self.tenant.games.get(entry.game, {}).items()}
        if "games" in self.counts and entry.game not in self.counts["games"]:
            return False
        if "providers" in self.counts and game.get("provider") not in self.counts["providers"]:
            return False
        for name in ("categories", "features"):
            if name in self.counts and not set(self.counts[name]) & set(game.get(name, ())):
                return False
        if self.counts.get("money") == "real" and entry.bonus > 0 and entry.amount <= 0:
            return False
        if not self.convert(entry):
            return False
        for name, value in (
            ("minimum_bet", entry.amount),
            ("minimum_deposit", entry.amount),
            ("minimum_odds", entry.odds),
        ):
            if name in self.counts and value < Decimal(self.counts[name]):
                return False
        if "minimum_multiplier" in self.counts or self.measure == "best_multiplier":
            if entry.amount <= 0:
                return False
            least = Decimal(self.counts.get("minimum_multiplier", "-Infinity"))
            if entry.payout < entry.amount * least:
                return False
        return True

    def convert(self, entry: Entry) -> bool:
        to = self.counts.get("currency")
        if to is None or entry.currency == to:
            return True
        rate = self.rate(entry.currency, to, entry.at)
        if rate is None:
            return False
        entry.amount, entry.payout = cut(entry.amount * rate), cut(entry.payout * rate)
        return True

    def rate(self, base: str, to: str, at: datetime) -> Decimal | None:
        """The newest rate on the day of a moment."""
        if base == to:
            return Decimal(1)
        day = f"{at.astimezone(UTC):%Y-%m-%d}"
        known: list[Decimal] = [
            rate for since, rate in sorted(self.rates.get((base, to), [])) if since <= day
        ]
        return known[-1] if known else None

    def limited(self, entries: list[Entry]) -> list[Entry]:
        if self.measure == "login_days":
            first_of: dict[Any, Entry] = {}
            for entry in entries:
                first_of.setdefault(entry.at.astimezone(self.zone).date(), entry)
            return list(first_of.values())
        return entries[: int(self.counts.get("first", len(entries)))]

    def worth(self, entry: Entry, value: Decimal) -> Decimal:
        """What an entry with a value is worth in points."""
        local = entry.at.astimezone(self.zone)
        game = {name: known for name, (_, known) in self.tenant.games.get(entry.game, {}).items()}
        for factor in self.points.get("multipliers", ()):
            start, _, end = factor.get("hours", "00:00-24:00").partition("-")
            now = f"{local:%H:%M}"
            inside = start <= now < end if start < end else now >= start or now < end
            if (
                inside
                and f"{local:%a}".lower() in factor.get("weekdays", [f"{local:%a}".lower()])
                and entry.game in factor.get("games", [entry.game])
                and ("providers" not in factor or game.get("provider") in factor["providers"])
                and (
                    "categories" not in factor
                    or set(factor["categories"]) & set(game.get("categories", ()))
                )
                and ("minimum_odds" not in factor or entry.odds >= Decimal(factor["minimum_odds"]))
            ):
                value = cut(value * Decimal(factor["times"]))
        return min(value, Decimal(self.points.get("most_an_entry", value)))

    def value(self, entry: Entry) -> Decimal:
        """What an entry is worth by the measure, for a measure that adds up."""
        if self.measure in ("turnover", "deposits", "sports_turnover"):
            return entry.amount
        return entry.payout if self.measure == "sum_of_wins" else Decimal(1)

    def added(self, entries: list[Entry]) -> list[Decimal]:
        """The score after each entry, for a measure that adds up."""
        found: list[Decimal] = []
        days: dict[Any, Decimal] = defaultdict(Decimal)
        for entry in entries:
            value = self.value(entry)
            days[entry.at.astimezone(self.zone).date()] += self.worth(entry, value)
            most = self.points.get("most_a_day")
            total = sum((min(day, Decimal(most or day)) for day in days.values()), Decimal(0))
            found.append(min(total, Decimal(self.points.get("most_a_player", total))))
        return found

    def progress(self, entries: list[Entry]) -> list[Decimal]:
        if self.measure not in ("net_loss", "largest_win", "best_multiplier", "wins_in_a_row"):
            return self.added(entries)
        found, total, streak = [], Decimal(0), 0
        for entry in entries:
            if self.measure == "net_loss":
                total += entry.amount - entry.payout
            elif self.measure == "largest_win":
                total = max(total, entry.payout)
            elif self.measure == "best_multiplier":
                total = max(total, cut(entry.payout / entry.amount))
            else:
                streak = streak + 1 if entry.payout > 0 else 0
                total = Decimal(streak)
            found.append(total)
        return found

    def prizes(self, scores: list[Any]) -> Any:
        scores.sort(key=lambda row: (-self.stages[row[0]], -row[1], row[2], row[0]))
        form, rows = self.rules["form"], []
        self.pool = self.grown(scores)
        for position, (player, score, reached, entries, progress) in enumerate(scores, 1):
            rank, step, due, order = position, 0, Decimal(0), (reached, player)
            if form["kind"] == "leaderboard":
                stage = self.stages[player]
                tied = [
                    n
                    for n, row in enumerate(scores, 1)
                    if row[1] == score and self.stages[row[0]] == stage
                ]
                if form.get("ties", "earliest") != "earliest":
                    rank = tied[0]
                due = self.by_rank(rank)
                if form.get("ties") == "split":
                    due = cut(sum((self.by_rank(n) for n in tied), Decimal(0)) / len(tied), CENTS)
            elif form["kind"] == "mission":
                step, order = int(score), (reached, player)
                due = sum((Decimal(each.get("prize", 0)) for each in form["steps"][:step]), Decimal(0))
            elif form["kind"] == "challenge":
                for target in form["steps"]:
                    at = [
                        e.at
                        for e, p in zip(entries, progress, strict=True)
                        if p >= Decimal(target["target"])
                    ]
                    if at:
                        step, due, order = (
                            step + 1,
                            due + Decimal(target.get("prize", 0)),
                            (min(at), player),
                        )
            else:
                due = min(Decimal(form["cap"]), cut(score * Decimal(form["percent"]) / 100, CENTS))
            rows.append([rank, player, score, reached, len(entries), step, due, order])
        if form["kind"] == "leaderboard":
            rows.sort(key=lambda row: (row[0], row[1]))
        else:
            rows.sort(key=lambda row: row[7])
        spent, budget = Decimal(0), self.rules.get("budget")
        for row in rows:
            items = self.items(row[0], row[5])
            cost = sum((count * each for _, count, each in items), Decimal(0))
            spent += row[6] + cost
            fits = budget is None or spent <= Decimal(budget)
            won = "; ".join(f"{count} {name}" for name, count, _ in items)
            row[6:] = [row[6], Decimal(0), won, cost] if fits else [Decimal(0), row[6], "", Decimal(0)]
            row += [self.stages[row[1]], "", Decimal(0)]
        return sorted((tuple(row) for row in rows), key=lambda row: (row[0], row[1]))

    def items(self, rank: int, step: int) -> list[tuple[str, int, Decimal]]:
        """What is won beside money: name, count, and cost of each."""
        form = self.rules["form"]
        found = form["steps"][:step] if "steps" in form else []
        if form["kind"] == "leaderboard":
            found = [self.prize(rank)]
        return [
            (item["name"], int(item.get("count", 1)), Decimal(item.get("cost", 0)))
            for item in (each["item"] for each in found if "item" in each)
        ]

    def prize(self, rank: int) -> Any:
        for prize in self.rules["form"]["prizes"]:
            first, _, last = prize["ranks"].partition("-")
            if int(first) <= rank <= int(last or first):
                return prize
        return {}

    def by_rank(self, rank: int) -> Decimal:
        prize = self.prize(rank)
        if "share" in prize:
            return cut(self.pool * Decimal(prize["share"]) / 100, CENTS)
        return Decimal(prize.get("amount", 0))

    def grown(self, scores: list[Any]) -> Decimal:
        """What is in the pool."""
        pool = self.rules["form"].get("pool")
        if pool is None:
            return Decimal(0)
        amounts = sum((entry.amount for row in scores for entry in row[3]), Decimal(0))
        grown = Decimal(pool.get("base", 0)) + cut(amounts * Decimal(pool["percent"]) / 100)
        return min(grown, Decimal(pool.get("cap", grown)))
