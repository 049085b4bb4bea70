"""A seeded casino day: the requests of three platforms, in order.

The same seed and size make the same bytes. This package writes the operators' formats and does not
depend on the processing, so that results can be compared with the input.
"""

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any, NamedTuple

import msgspec

DAY = datetime(2026, 3, 14, tzinfo=UTC)
BATCH_ITEMS = 100
RESENT_SHARE = 0.05
INVALID_SHARE = 0.003
ROLLBACK_SHARE = 0.01
LATE_WIN_SHARE = 0.05
BONUS_SHARE = 0.12
WIN_SHARE = 0.32
GAMES = 60
ZIPF = 1.1

NATIVE = "/api/v1/events"
FASTTRACK = "/api/v1/integrations/fasttrack/bulk"
GAMEBALL = "/integrations/event"

_PROVIDERS = ("Northwind", "Blue Lantern", "Foundry Nine", "Halcyon")
_CATEGORIES = ("slots", "live", "table", "crash")
_WORDS = ("Book", "Crown", "Dragon", "Ember", "Fortune", "Gold", "Harvest", "Moon", "Nile", "Tiger")
_MULTIPLIERS = ((0.5, 30), (1, 25), (2, 20), (4, 13), (8, 8), (20, 3.2), (60, 0.7), (300, 0.1))


class Tenant(NamedTuple):
    """A platform of the demo. ``casino`` names how it reports play."""

    name: str
    casino: str
    currency: str
    country: tuple[str, ...]
    channel_merging: bool = False


TENANTS = (
    Tenant("aurora", "gameround", "EUR", ("DE", "FI", "MT")),
    Tenant("borealis", "realtime-casino", "SEK", ("SE", "NO")),
    Tenant("cascade", "realtime-gameround", "USD", ("CA", "BR"), channel_merging=True),
)


class Post(NamedTuple):
    """One request; ``items`` is how many items it holds, valid or not."""

    tenant: str
    path: str
    body: bytes
    items: int
    invalid: int
    idempotency_key: str | None = None


class Play(NamedTuple):
    """One event of a round, independent of a format."""

    kind: str
    at: datetime
    player: str
    game: str
    round_id: str
    event_id: str
    amount: Decimal
    bonus: Decimal


@dataclass
class _Feed:
    """The items of one path, in the order in which they are posted."""

    path: str
    timed: list[tuple[datetime, dict[str, Any]]] = field(default_factory=list)

    def add(self, at: datetime, event: str, **data: Any) -> None:
        self.timed.append((at, {"event": event, "data": data}))


def day(seed: int, events: int) -> list[Post]:
    """About ``events`` events for all tenants together, as requests in the order of posting."""
    posts: list[list[Post]] = [
        list(_TenantDay(tenant, seed, events // len(TENANTS)).posts()) for tenant in TENANTS
    ]
    mixed = random.Random(f"{seed}-order")
    merged: list[Post] = []
    while any(posts):
        merged.append(mixed.choice([queue for queue in posts if queue]).pop(0))
    return merged


class _TenantDay:
    def __init__(self, tenant: Tenant, seed: int, events: int) -> None:
        self.tenant = tenant
        self.rng = random.Random(f"{seed}-{tenant.name}")
        self.events = events
        self.prefix = f"{tenant.name[:2]}{seed}.{events}"  # days of other seeds and sizes share no id
        self.players = [f"{self.prefix}-p{n:05d}" for n in range(max(12, events // 60))]
        self.games = [f"{self.prefix}-g{n:03d}" for n in range(GAMES)]
        self.weights = [1 / (rank + 1) ** ZIPF for rank in range(GAMES)]
        self.native = _Feed(NATIVE)
        self.fasttrack = _Feed(FASTTRACK)
        self.rounds = 0

    def posts(self) -> Iterator[Post]:
        """All posts of this tenant."""
        self._catalogue()
        for player in self.players:
            self._register(player)
        while len(self.native.timed) + len(self.fasttrack.timed) < self.events:
            self._session(self.rng.choice(self.players))
        feeds = [list(self._batches(feed)) for feed in (self.native, self.fasttrack)]
        if self.tenant.channel_merging:
            feeds.append(list(self._custom_events()))
        for posts in feeds:
            for index, post in enumerate(posts):
                yield post
                if index and self.rng.random() < RESENT_SHARE:
                    yield posts[index - 1]

    # What happens ----------------------------------------------------------------------------

    def _catalogue(self) -> None:
        for number, game in enumerate(self.games):
            category = self.rng.choice(_CATEGORIES)
            self.native.add(
                DAY,
                "game",
                unique_id=f"{game}-v1",
                timestamp=_iso(DAY),
                game_id=game,
                name=f"{self.rng.choice(_WORDS)} of {self.rng.choice(_WORDS)} {number}",
                provider=self.rng.choice(_PROVIDERS),
                categories=[category],
                features=["free spins"] if category == "slots" else [],
                has_freespins="yes" if category == "slots" else "no",
            )

    def _register(self, player: str) -> None:
        country = self.rng.choice(self.tenant.country)
        at = DAY + timedelta(seconds=self.rng.randrange(600))
        registered = _iso(DAY - timedelta(days=self.rng.randrange(900), hours=3))
        if self.tenant.casino == "gameround":
            self.native.add(
                at, "player", unique_id=f"{player}-v1", timestamp=_iso(at), player_id=player,
                username=f"user {player}", registration_date=registered, country=country,
                currency=self.tenant.currency, tags=["vip"] if self.rng.random() < 0.1 else [],
                consent_email=self.rng.random() < 0.7, is_blocked=False,
            )  # fmt: skip
        else:
            self.fasttrack.add(
                at, "realtime-registration", unique_id=f"{player}-v1", timestamp=_iso(at),
                user_id=player, username=f"user {player}", registration_date=registered,
                country=country, currency=self.tenant.currency, gender=None,
                consent_email=self.rng.random() < 0.7, segmentation_isPromoBanned=False,
            )  # fmt: skip

    def _session(self, player: str) -> None:
        at = DAY + timedelta(seconds=600 + self.rng.randrange(80_000))
        self._login(player, at)
        self._deposit(player, at + timedelta(seconds=20))
        game = self.rng.choices(self.games, self.weights)[0]
        stake = Decimal(self.rng.choice((20, 40, 50, 100, 200, 500))) / 100
        for _ in range(self.rng.randrange(5, 40)):
            at += timedelta(seconds=self.rng.randrange(3, 12))
            self._round(player, game, stake, at)
        if self.tenant.name == "cascade" and self.rng.random() < 0.5:
            self._sports_bet(player, at + timedelta(seconds=30))

    def _round(self, player: str, game: str, stake: Decimal, at: datetime) -> None:
        self.rounds += 1
        round_id = f"{self.prefix}-r{self.rounds:07d}"
        bonus = stake if self.rng.random() < BONUS_SHARE else Decimal(0)
        win = Decimal(0)
        if self.rng.random() < WIN_SHARE:
            factors, weights = zip(*_MULTIPLIERS, strict=True)
            win = (stake * Decimal(str(self.rng.choices(factors, weights)[0]))).quantize(
                Decimal("0.01")
            )
        bet = Play("bet", at, player, game, round_id, f"{round_id}-b", stake, bonus)
        plays = [bet]
        if win:
            late = self.rng.random() < LATE_WIN_SHARE
            when = at + (timedelta(hours=2) if late else timedelta(milliseconds=900))
            won_bonus = win if bonus else Decimal(0)
            plays.append(Play("win", when, player, game, round_id, f"{round_id}-w", win, won_bonus))
        if self.tenant.casino == "realtime-casino" and self.rng.random() < ROLLBACK_SHARE:
            plays.append(
                bet._replace(
                    kind="rollbackbet", event_id=f"{round_id}-rb", at=at + timedelta(minutes=5)
                )
            )
        if self.tenant.casino == "realtime-gameround":
            self._whole_round(bet, win, bonus)
        else:
            for play in plays:
                _WRITERS[self.tenant.casino](self, play)

    def _native_play(self, play: Play) -> None:
        self.native.add(
            play.at, "gameround", unique_id=play.event_id, timestamp=_iso(play.at),
            player_id=play.player, game_id=play.game, round_id=play.round_id, amount=play.amount,
            currency=self.tenant.currency, is_win=play.kind == "win", is_bonus=play.bonus > 0,
        )  # fmt: skip

    def _fasttrack_play(self, play: Play) -> None:
        self.fasttrack.add(
            play.at, "realtime-casino", unique_id=play.event_id, timestamp=_iso(play.at),
            user_id=play.player, game_id=play.game, round_id=play.round_id, type=play.kind,
            amount=play.amount, currency=self.tenant.currency, bonus_wager_amount=play.bonus,
        )  # fmt: skip

    def _whole_round(self, bet: Play, win: Decimal, bonus: Decimal) -> None:
        self.fasttrack.add(
            bet.at, "realtime-gameround", unique_id=bet.round_id, timestamp=_iso(bet.at),
            user_id=bet.player, game_id=bet.game, user_currency=self.tenant.currency,
            bonus_bet_user=bonus, total_bet_user=bet.amount, bonus_win_user=win if bonus else 0,
            total_win_user=win,
        )  # fmt: skip

    def _login(self, player: str, at: datetime) -> None:
        login = f"{player}-l{len(self.native.timed) + len(self.fasttrack.timed)}"
        if self.tenant.casino == "gameround":
            self.native.add(at, "login", unique_id=login, timestamp=_iso(at), player_id=player)
        else:
            self.fasttrack.add(
                at, "realtime-login", unique_id=login, timestamp=_iso(at), user_id=player
            )

    def _deposit(self, player: str, at: datetime) -> None:
        amount = Decimal(self.rng.choice((10, 20, 50, 100)))
        payment = f"{player}-d{len(self.native.timed) + len(self.fasttrack.timed)}"
        if self.tenant.casino == "gameround":
            self.native.add(
                at, "deposit", unique_id=payment, timestamp=_iso(at), player_id=player, amount=amount,
                currency=self.tenant.currency, method="card",
            )  # fmt: skip
            return
        for seconds, status in ((0, "Requested"), (4, "Approved")):
            when = at + timedelta(seconds=seconds)
            self.fasttrack.add(
                when, "realtime-payment", payment_id=payment, timestamp=_iso(when), user_id=player,
                type="Deposit", status=status, amount=amount, currency=self.tenant.currency,
                vendor_name="card",
            )  # fmt: skip

    def _sports_bet(self, player: str, at: datetime) -> None:
        odds = Decimal(self.rng.randrange(120, 900)) / 100
        slip = f"{player}-s{len(self.fasttrack.timed)}"
        self.fasttrack.add(
            at, "realtime-sports-bet", activity_id=slip, activity_id_reference=slip,
            timestamp=_iso(at), user_id=player, amount=Decimal("5.00"), bet_type="Single",
            total_odds=odds, bonus_wager_amount=0, currency=self.tenant.currency, status="Approved",
            type="Bet",
            bets=[{"sports_name": "Football", "tournament_name": "Cup", "odds": odds, "is_live": True}],
        )  # fmt: skip

    def _custom_events(self) -> Iterator[Post]:
        for number, player in enumerate(self.rng.sample(self.players, len(self.players) // 3)):
            request = {
                "playerUniqueId": player,
                "email": f"{player}@example.com",
                "events": {
                    "spin_wheel": {"prize": self.rng.choice(("coins", "spins")), "value": number % 7},
                    "visit_shop": {"items": ["hat", "mug"]},
                },
            }
            yield Post(self.tenant.name, GAMEBALL, _json(request), 2, 0, f"wheel-{player}")

    # How it is posted ------------------------------------------------------------------------

    def _batches(self, feed: _Feed) -> Iterator[Post]:
        """Batches in the order of time; a few items are made invalid."""
        ordered = [item for _, item in sorted(feed.timed, key=lambda entry: entry[0])]
        for start in range(0, len(ordered), BATCH_ITEMS):
            items, invalid = [], 0
            for item in ordered[start : start + BATCH_ITEMS]:
                if self.rng.random() < INVALID_SHARE:
                    items.append(self._spoilt(item))
                    invalid += 1
                items.append(item)
            body = {"items": items} if self.rng.random() < 0.5 else items
            yield Post(self.tenant.name, feed.path, _json(body), len(items), invalid)

    def _spoilt(self, item: dict[str, Any]) -> dict[str, Any]:
        data = dict(item["data"])
        field_name = self.rng.choice([name for name in data if name.endswith(("_id", "timestamp"))])
        data[field_name] = 12
        return {"event": item["event"], "data": data}


_WRITERS: dict[str, Callable[[_TenantDay, Play], None]] = {
    "gameround": _TenantDay._native_play,
    "realtime-casino": _TenantDay._fasttrack_play,
}


def _iso(at: datetime) -> str:
    return at.strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3] + "Z"


def _json(document: Any) -> bytes:
    return msgspec.json.Encoder(decimal_format="number").encode(document)
