"""A stack under load and a fault, and the comparison of what it holds with independent books."""

import asyncio
import json
import os
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path

from connectors.clickhouse.query import query
from connectors.demo.day import TENANTS, Post, day
from connectors.demo.feed import feed
from connectors.demo.run import accounts, demo_keys, is_balanced
from connectors.edge.tenants import Registry
from streams.canonical import Kind
from streams.errors import RoundhouseError
from streams.settings import Settings
from streams.stack import Stack, with_free_ports
from tests.oracle import Expected, expect, read_topic


def wait_until(condition: Callable[[], bool], timeout_s: float = 300) -> None:
    """Waits for what other processes bring about."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "did not come about"
        time.sleep(0.1)


def complete(settings: Settings, expected: Expected) -> bool:
    """Everything posted is settled, stored and folded."""
    try:
        now = accounts(settings)
    except RoundhouseError:  # the sink is being killed and started again
        return False
    return all(
        now[tenant.name]["received"] >= expected.received[tenant.name] and is_balanced(now[tenant.name])
        for tenant in TENANTS
    )


class Proof:
    """A running line that is being fed; every item is posted twice.

    What is posted is cut into slices; a fault calls :meth:`load` before each harm, so that work is
    under way when it strikes and the line cannot have finished before.
    """

    def __init__(self, stack: Stack, seed: int, events: int, harms: int) -> None:
        self.stack = stack
        self.harms = harms
        self.posts = day(seed, events) * 2
        self.expected = expect(self.posts)
        self.retried = False
        self.failures: list[BaseException] = []
        self.released = threading.Semaphore(0)
        self._slices = 0
        self._posted = 0

    @property
    def settings(self) -> Settings:
        """The line's."""
        return self.stack.settings

    def slices(self) -> list[list[Post]]:
        """The posts, in as many parts as can be released."""
        size = len(self.posts) // (self.harms + 1)
        return [self.posts[start : start + size] for start in range(0, len(self.posts), size)]

    def load(self) -> None:
        """Releases the next slice and waits until the line is at work on it."""
        assert self._slices < self.harms, "nothing would be left to post after this harm"
        before = self._posted
        self._posted += sum(post.items for post in self.slices()[self._slices])
        self._slices += 1
        self.released.release()
        wait_until(lambda: bool(self.failures) or self._settled() > before)
        if self.failures:
            raise self.failures[0]

    def _settled(self) -> int:
        try:
            return sum(account["settled"] for account in accounts(self.settings).values())
        except RoundhouseError:
            return 0

    def pid(self, name: str) -> int:
        """A process of the stack."""
        return self.stack.supervisor.pids()[name]

    def signal(self, name: str, number: int) -> None:
        """Sends a signal to a process of the stack."""
        os.kill(self.pid(name), number)


@contextmanager
def proof(home: Path, seed: int, events: int, processes: int = 2, harms: int = 3) -> Iterator[Proof]:
    """Feeds a line while the caller does it harm; on leaving, waits until it has drained."""
    chosen = with_free_ports(Settings(data_dir=home, session_timeout_s=6))
    with Stack(chosen, processes=processes) as stack:
        running = Proof(stack, seed, events, harms)
        keys = demo_keys(Registry(stack.settings.tenants_home))
        failures = running.failures

        def post() -> None:
            for posts in running.slices():
                running.released.acquire()
                asyncio.run(feed(stack.edge_url, keys, posts))

        def guarded(run: Callable[[], None]) -> Callable[[], None]:
            def guard() -> None:
                try:
                    run()
                except BaseException as error:
                    failures.append(error)

            return guard

        posting = threading.Thread(target=guarded(post))
        supervising = threading.Thread(target=guarded(stack.supervisor.run))
        posting.start()
        supervising.start()
        try:
            yield running
            running.released.release(len(running.slices()))
            posting.join()
            wait_until(lambda: bool(failures) or complete(stack.settings, running.expected))
            if not failures:
                wrong = differences(running.expected, held(stack.settings), retried=running.retried)
                assert not wrong, f"{len(wrong)} differences: {wrong[:5]}"
        finally:
            running.released.release(len(running.slices()))
            posting.join()
            stack.supervisor.ask_to_stop()  # last: what this thread started again ends with it
            supervising.join()
        if failures:
            raise failures[0]


Key = tuple[str, ...]
Sums = tuple[Decimal, ...]
_COLUMNS = ("bet_amount", "win_amount", "rollback_bet_amount", "bet_bonus_amount")


@dataclass
class Held:
    """What the line holds: events with how often each stands, newest rounds twice over, accounts."""

    events: Counter[Key]
    rounds: dict[Key, Sums]
    stored_rounds: dict[Key, Sums]
    accounts: dict[str, dict[str, int]]


def held(settings: Settings) -> Held:
    """Reads the canonical topics and ``rounds`` (read committed), and ClickHouse."""
    events: Counter[Key] = Counter()
    for kind in Kind:
        topic = settings.topic_prefix + kind.topic
        for event in read_topic(settings.kafka_bootstrap, topic, kind.contract, settings.partitions):
            if kind is Kind.PLAYER and event["source_event"] == "event":
                continue  # derived from a custom event, not an item
            leg = event["type"] if kind is Kind.GAME_TRANSACTION else ""
            events[event["tenant"], event["source_event"], event["event_id"], leg] += 1

    rounds: dict[Key, Sums] = {}
    revisions: dict[Key, int] = {}
    topic = settings.topic_prefix + "rounds"
    for record in read_topic(settings.kafka_bootstrap, topic, "round", settings.partitions):
        key = record["tenant"], record["player_id"], record["round_id"]
        assert record["revision"] == revisions.get(key, 0) + 1, "a revision was lost or doubled"
        revisions[key] = record["revision"]
        rounds[key] = tuple(record[column] for column in _COLUMNS)

    texts = ", ".join(f"toString({column})" for column in _COLUMNS)
    rows = query(settings, f"SELECT tenant, player_id, round_id, {texts} FROM rounds", "json")
    stored: dict[Key, Sums] = {}
    for row in json.loads(rows)["data"]:
        values = list(row.values())
        assert tuple(values[:3]) not in stored, "a round stands twice in ClickHouse"
        stored[tuple(values[:3])] = tuple(map(Decimal, values[3:]))
    return Held(events, rounds, stored, accounts(settings))


def differences(expected: Expected, found: Held, *, retried: bool = False) -> list[str]:
    """What is lost, doubled or wrong; nothing if the line kept its promise.

    ``retried``: clients may have posted requests again, so more may have been received than posted.
    """
    events: Counter[Key] = Counter({key[:3]: 1 for key in found.events})
    wrong = [f"lost event {key}" for key in expected.events - set(events)]
    wrong += [f"event out of nowhere {key}" for key in set(events) - expected.events]
    wrong += [f"doubled event {key}: {n} times" for key, n in found.events.items() if n > 1]
    books = {
        key: (round_.bets, round_.wins, round_.bets_back, round_.bonus_bets)
        for key, round_ in expected.rounds.items()
    }
    for name, rounds in (("topic", found.rounds), ("ClickHouse", found.stored_rounds)):
        for key in books.keys() | rounds.keys():
            due, has = books.get(key), rounds.get(key)
            if due != has:
                wrong.append(f"round {key} in {name}: {has}, due {due}")
    for tenant, account in found.accounts.items():
        due_events = sum(1 for event in expected.events if event[0] == tenant)
        if account["accepted"] != due_events or account["conflict"]:
            wrong.append(f"{tenant} accepted {account['accepted']}, due {due_events}: {account}")
        if not retried and (
            account["received"] != expected.received[tenant]
            or account["rejected"] != expected.rejected[tenant]
        ):
            wrong.append(f"{tenant} received other than was posted: {account}")
    return wrong
