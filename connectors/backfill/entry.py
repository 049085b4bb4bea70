"""One item of a file."""

from typing import NamedTuple


class Problem(NamedTuple):
    """Why an item is refused; ``pointer`` is a JSON pointer into the item."""

    code: str
    pointer: str
    message: str


class Entry(NamedTuple):
    """One item of a file, or the problem for which there is no text of it.

    ``number`` is its line, counted from 1; in a JSON body it is its index, counted from 0.
    """

    number: int
    text: bytes
    problem: Problem | None = None
