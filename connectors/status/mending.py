"""How to mend each error of an item; docs/operators.md has the same texts."""

MENDING = {
    "required": "add the field",
    "wrong_type": "send the JSON type that the message names, numbers without quotes",
    "not_allowed": "send one of the values in the message",
    "unknown_event": "send the name of a kind of this format",
    "malformed": "send a value that matches the pattern in the message",
    "malformed_timestamp": "send a date and a time, such as 2026-03-14T12:00:00Z",
    "out_of_range": "send a value within the limits in the message",
    "exceeds_whole": "send the whole amount with the bonus part in it",
    "too_short": "send at least as much as the message says",
    "too_long": "shorten the text or the list",
    "duplicate_event": "send each event name once in a request",
    "duplicate_key": "send each key once",
    "id_conflict": "give a new event an id of its own; if the accepted one is wrong, ask the team that "
    "runs Roundhouse for a correction",
    "round_reported_twice": "send the events of a round as one kind only",
    "round_currency_conflict": "send all events of a round in one currency",
    "round_overflow": "check the amounts: the sums of the round exceed 20 digits",
    "erased_player": "do not send events of the player; a person who returns needs a new player id",
}
"""What to do, by the code of the error."""
