"""Every kind of every format: the sample becomes exactly these canonical events."""

import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from streams.core.event import Batch, Kind, decode, encode, to_json
from streams.formats import READERS, fasttrack, native
from streams.formats.bulk_body import bulk_reader
from streams.formats.validation import Data, Invalid, ItemError

SAMPLES = Path(__file__).parents[3] / "connectors" / "edge" / "samples"
BATCH = Batch("acme", "native", "batch-1", 1_773_500_000_000_000, True, False, None)
NOON = 1_773_489_600_000_000  # 2026-03-14T12:00:00Z


def canonical(source: str, name: str, **batch: Any) -> list[tuple[Kind, dict[str, Any]]]:
    """The events of a sample as JSON, without the leading batch fields."""
    body = (SAMPLES / source / f"{name}.json").read_bytes()
    where = BATCH._replace(source=source, **batch)
    found = []
    for position, item in enumerate(READERS[source](body, where, 100)):
        assert not isinstance(item, Invalid), item
        translated = item.translate(where)
        for datum in encode(where, position, translated):
            event = json.loads(to_json(translated.kind.contract, decode(translated.kind, datum)))
            assert event.pop("tenant") == "acme"
            assert event.pop("source") == source
            assert event.pop("batch_id") == "batch-1"
            assert event.pop("received_at") == BATCH.received_at
            assert event.pop("counts") is True
            found.append((translated.kind, event))
    return found


def money(text: str) -> str:
    return format(Decimal(text).quantize(Decimal(1).scaleb(-18)), "f")


def test_every_kind_of_every_format_has_a_sample() -> None:
    wanted = {f"native/{name}" for name in native.KINDS} | {
        f"fasttrack/{name}" for name in fasttrack.KINDS
    }
    found = {f"{path.parent.name}/{path.stem}" for path in SAMPLES.glob("*/*.json")}
    assert found == wanted | {"gameball/event"}


def test_native_gameround_is_a_bet_or_a_win() -> None:
    (kind, bet), (_, win) = canonical("native", "gameround")
    assert kind is Kind.GAME_TRANSACTION
    assert bet == {
        "position": 0,
        "source_event": "gameround",
        "event_id": "gr-1",
        "occurred_at": NOON,
        "player_id": "p-1",
        "round_id": "r-1",
        "game_id": "g-1",
        "type": "bet",
        "amount": money("1.25"),
        "bonus_amount": money("0"),
        "currency": "EUR",
        "base_amount": None,
        "reporting_currency": None,
    }
    assert (win["type"], win["amount"], win["occurred_at"]) == ("win", money("3"), NOON + 1_500_000)


def test_native_payments_have_moved_money() -> None:
    (_, deposit), (_, withdrawal) = canonical("native", "deposit") + canonical("native", "withdraw")
    assert (deposit["direction"], deposit["amount_eur"]) == ("deposit", money("20"))
    assert (withdrawal["direction"], withdrawal["amount"]) == ("withdrawal", money("15.5"))
    assert deposit["successful"] is withdrawal["successful"] is True


def test_native_player_says_only_what_it_names() -> None:
    [(kind, player)] = canonical("native", "player")
    assert kind is Kind.PLAYER
    assert player["registered_at"] == 1_735_787_045_000_000  # no offset means UTC
    assert (player["username"], player["tags"], player["has_tags"]) == ("Åsa", ["vip", "slots"], True)
    assert player["email"] is player["is_promo_banned"] is None


@pytest.mark.parametrize("gender", ["M", "F", None])
def test_the_genders_of_a_native_player_are_accepted_as_they_stand(gender: str | None) -> None:
    [item] = READERS["native"](_player(gender), BATCH, 1)
    assert not isinstance(item, Invalid)
    assert item.translate(BATCH).bodies[0]["gender"] == gender


@pytest.mark.parametrize("gender", ["f", "X", "", "Female"])
def test_another_gender_of_a_native_player_is_refused(gender: str) -> None:
    [item] = READERS["native"](_player(gender), BATCH, 1)
    assert isinstance(item, Invalid)
    assert item.errors == (
        ItemError("not_allowed", "/0/data/gender", "gender must be one of 'M' or 'F'"),
    )


def _player(gender: str | None) -> bytes:
    [player] = json.loads((SAMPLES / "native" / "player.json").read_bytes())
    return json.dumps([player | {"data": player["data"] | {"gender": gender}}]).encode()


def test_native_game() -> None:
    [(kind, game)] = canonical("native", "game")
    assert kind is Kind.GAME
    assert (game["game_id"], game["name"], game["has_freespins"]) == ("g-1", "Book of Rails", "yes")
    assert (game["device"], game["themes"]) == (None, ["trains"])


@pytest.mark.parametrize(("source", "name"), [("native", "login"), ("fasttrack", "realtime-login")])
def test_login(source: str, name: str) -> None:
    [(kind, login)] = canonical(source, name)
    assert (kind, login["player_id"]) == (Kind.LOGIN, "p-1")


def test_fasttrack_casino_has_five_types_and_bonus_within_the_amount() -> None:
    events = [event for _, event in canonical("fasttrack", "realtime-casino")]
    assert [event["type"] for event in events] == [
        "bet",
        "win",
        "loss",
        "rollback_bet",
        "rollback_win",
    ]
    assert (events[0]["amount"], events[0]["bonus_amount"]) == (money("10"), money("2.5"))


def test_fasttrack_payment_is_one_event_for_each_state() -> None:
    (_, requested), (_, approved) = canonical("fasttrack", "realtime-payment")
    assert requested["event_id"] == "pay-1|Deposit|Requested"
    assert approved["event_id"] == "pay-1|Deposit|Approved"
    assert (requested["successful"], approved["successful"]) == (False, True)
    assert approved["amount"] == money("100.1")
    assert approved["base_amount"] == money("9.01")


def test_fasttrack_registration() -> None:
    [(_, player)] = canonical("fasttrack", "realtime-registration")
    assert (player["is_promo_banned"], player["consent_email"], player["country"]) == (True, None, "SE")


def test_fasttrack_gameround_becomes_a_bet_and_a_win_if_there_was_one() -> None:
    bet, win, lost = (event for _, event in canonical("fasttrack", "realtime-gameround"))
    assert (bet["type"], bet["amount"], bet["base_amount"]) == (
        "bet",
        money("0.00000001"),
        money("0.5"),
    )
    assert (win["type"], win["amount"], win["bonus_amount"]) == ("win", money("2"), money("1"))
    assert bet["round_id"] == win["round_id"] == bet["event_id"] == win["event_id"] == "grd-1"
    assert (lost["type"], lost["base_amount"], lost["currency"]) == ("bet", None, "BTC")


def test_fasttrack_sports_bet_keeps_its_legs() -> None:
    [(kind, bet)] = canonical("fasttrack", "realtime-sports-bet")
    assert (kind, bet["bet_type"], bet["event_id"]) == (Kind.SPORTS_BET, "multi", "s-1|Bet|Approved")
    football, tennis = bet["selections"]
    assert json.loads(football["outcomes"]) == [{"name": "A", "price": 2.1}]
    assert json.loads(football["meta"]) == {"channel": "app"}
    assert (tennis["odds"], tennis["event_name"], tennis["outcomes"]) == (money("2"), None, "[]")


def test_gameball_events_are_named_by_the_batch_and_drop_the_contact_by_default() -> None:
    (kind, order), (_, review) = canonical("gameball", "event")
    assert kind is Kind.CUSTOM_EVENT
    assert order["event_id"] == "batch-1|place_order"
    assert order["occurred_at"] == BATCH.received_at
    assert order["numbers"] == {"total_amount": money("100.5")}
    assert order["lists"] == {"category": ["electronics", "cosmetics"]}
    assert order["email"] is order["mobile"] is None
    assert review["name"] == "review"


def test_gameball_contact_is_kept_where_channels_are_merged() -> None:
    (_, order), _ = canonical("gameball", "event", merges_channels=True, idempotency_key="k")
    assert (order["email"], order["mobile"]) == ("asa@example.com", "+358401234567")
    assert order["event_id"] == "k|place_order"


@pytest.mark.parametrize("form", [native, fasttrack], ids=["native", "fasttrack"])
def test_all_kinds_but_the_sports_bet_have_the_fast_reading(form: Any) -> None:
    source = form.__name__.rpartition(".")[2]
    validated = {
        kind
        for kind in form.KINDS
        for item in form.read((SAMPLES / source / f"{kind}.json").read_bytes(), BATCH, 100)
        if isinstance(item, Data)
    }
    assert validated == ({"realtime-sports-bet"} if form is fasttrack else set())


def test_a_field_without_a_fast_reading_is_refused_unless_its_kind_is_only_validated() -> None:
    class Odd(Data):
        ratio: float

    with pytest.raises(TypeError, match=r"Odd\.ratio.*validated_only"):
        bulk_reader({"fine": native.Login, "odd": Odd})
    bulk_reader({"fine": native.Login, "odd": Odd}, validated_only={"odd"})
