"""The newest value of each field wins, whatever the order."""

from streams.core import profile as profiles
from streams.core.event import Kind
from streams.core.identity import erased_mark, partition_of
from streams.core.profile import Value, erased_key, is_of_partition


def test_null_says_nothing_and_an_empty_list_clears() -> None:
    event = {
        "occurred_at": 5, "source_event": "game", "event_id": "e", "name": None, "provider": "N",
        "has_categories": True, "categories": [], "has_features": False, "features": [],
        "has_themes": False, "themes": [], "device": None, "has_freespins": "yes",
    }  # fmt: skip
    said = profiles.profile_in(Kind.GAME, event)
    assert {field: entry.value for field, entry in said.items()} == {
        "provider": "N",
        "categories": [],
        "has_freespins": "yes",
    }


def test_a_profile_survives_its_encoding() -> None:
    profile = {
        "country": Value(5, "player", "e", "FI"),
        "tags": Value(6, "player", "f", ["a", "b"]),
        "is_blocked": Value(7, "player", "g", False),
    }
    assert profiles.decode(profiles.encode(Kind.PLAYER, "t", "p", profile)) == profile


def test_of_two_events_at_the_same_time_the_ids_decide() -> None:
    older = {"country": Value(5, "player", "a", "FI")}
    newer = {"country": Value(5, "player", "b", "SE")}
    assert profiles.merge(older, newer) == profiles.merge(newer, older) == newer


def test_every_partition_that_a_growth_adds_knows_games_and_erased_players() -> None:
    player = "acme|p-1"
    own = partition_of(player, 8)
    erased = erased_key(erased_mark(player))
    for partition in range(8):
        assert is_of_partition(erased, partition, 8)
        assert is_of_partition("game|acme|g-1", partition, 8)
        assert is_of_partition(f"player|{player}", partition, 8) == (partition == own)
