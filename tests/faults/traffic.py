"""Endless seeded traffic: casino days, some with wrong times, and many of the posts sent again."""

import itertools
import json
import random
from collections.abc import Iterator
from datetime import datetime, timedelta
from decimal import Decimal

import msgspec

from connectors.demo.day import GAMEBALL, Post, day

EVENTS = 3_000
AGAIN_SHARE = 0.3
STRANGE_EVERY = 3

_encode = msgspec.json.Encoder(decimal_format="number").encode
_YEARS = (-120, -30, 0, 30, 250)


def traffic(seed: int) -> Iterator[Post]:
    """Yields posts without end. A part of every day is posted again after it, in another order.

    Every third day has wrong times: its posts and the items in them come in reverse order, the times of
    bets are decades or centuries off, and wins come a week later.
    """
    rng = random.Random(seed)
    for number in itertools.count():
        posts = day(seed * 100_000 + number, EVENTS)
        if number % STRANGE_EVERY == STRANGE_EVERY - 1:
            posts = [_strange(post) for post in reversed(posts)]
        yield from posts
        yield from rng.sample(posts, int(len(posts) * AGAIN_SHARE))


def _strange(post: Post) -> Post:
    if post.path == GAMEBALL:
        return post
    document = json.loads(post.body, parse_float=Decimal)
    items = document["items"] if isinstance(document, dict) else document
    rng = random.Random(post.body)  # the same post, sent again, is the same
    for item in items:
        data = item["data"]
        if isinstance(data["timestamp"], str):
            at = datetime.fromisoformat(data["timestamp"].replace("Z", "+00:00"))
            won = data.get("is_win") or data.get("type") == "win"
            at = at + timedelta(days=7) if won else at.replace(year=at.year + rng.choice(_YEARS), day=1)
            data["timestamp"] = at.isoformat()
    items.reverse()
    return post._replace(body=_encode(document))
