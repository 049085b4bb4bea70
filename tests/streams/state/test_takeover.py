"""Lanes take a partition over from each other, in every order of their steps."""

from collections.abc import Callable, Collection, Iterator
from typing import NamedTuple

import pytest

from streams.state.takeover import Note, Owners, standing, take_over

OWN = "process-0"


def test_a_claim_stands_until_its_lane_releases_it_or_somebody_retires_it() -> None:
    notes = [Note("a", True, 0), Note("b", True, 1), Note("a", False, 2), Note("c", True, 3)]
    assert standing(notes, None) == ["b", "c"]
    assert standing(notes, 3) == ["b"]
    assert standing([*notes, Note("b", False, 4)], 3) == []  # released meanwhile
    assert standing([*notes, Note("a", True, 5)], 3) == ["b"]  # a later owner


# The model ----------------------------------------------------------------------------------
#
# Kafka is a value (World), and a process is the answers that it has got so far: its next step is found
# by executing the real take_over() with these answers. Every state that some processes can reach is
# visited once. A process that is killed, or stopped for a while, is one whose next step comes late or
# never, so that these states include a crash and a zombie after every step.


class Entry(NamedTuple):
    """A transaction with the changelog: its lane, and after how many others it was decided. It is open,
    committed (but its marker is not written yet), visible, or aborted."""

    lane: str
    after: int
    state: str = "open"


class World(NamedTuple):
    """The log of owners (lane, whether it claims), who initialised each lane last, the changelog."""

    owners: tuple[tuple[str, bool], ...] = ()
    initialised: frozenset[tuple[str, int]] = frozenset()
    changelog: tuple[Entry, ...] = ()

    def fenced(self, lane: str, by: int) -> "World":
        """After the process ``by`` has initialised a lane, which ends its transactions."""
        ends = {"open": "aborted", "committed": "visible"}
        changelog = tuple(
            entry._replace(state=ends.get(entry.state, entry.state)) if entry.lane == lane else entry
            for entry in self.changelog
        )
        others = frozenset(each for each in self.initialised if each[0] != lane)
        return self._replace(initialised=others | {(lane, by)}, changelog=changelog)

    def changed(self, at: int, state: str) -> "World":
        """After a transaction has got another state."""
        entry = self.changelog[at]._replace(state=state)
        return self._replace(changelog=(*self.changelog[:at], entry, *self.changelog[at + 1 :]))

    def doubled(self) -> bool:
        """Whether a transaction has committed that was decided without one that committed before."""
        done = [entry for entry in self.changelog if entry.state in ("committed", "visible")]
        return any(entry.after != count for count, entry in enumerate(done))


class Plan(NamedTuple):
    """A process: its lane, and how often it takes the partition, writes it and releases it."""

    lane: str
    times: int = 1


class Read(NamedTuple):
    """The answer to reading the changelog: the number of transactions in it."""

    transactions: int


Answers = tuple[object, ...]
TakeOver = Callable[[Owners], None]
FENCED = "fenced"


class Step(Exception):
    """The next step of a process."""

    def __init__(self, name: str, *arguments: str) -> None:
        self.name, self.arguments = name, arguments


class Replayed:
    """Gives a process the answers that it has got before, and raises its first new step."""

    own = OWN

    def __init__(self, lane: str, answers: Answers) -> None:
        self.lane = lane
        self._answers = iter(answers)

    def ask(self, name: str, *arguments: str) -> object:
        for answer in self._answers:
            return answer
        raise Step(name, *arguments)

    def claim(self) -> int:
        offset = self.ask("note", self.lane)
        assert isinstance(offset, int)
        return offset

    def fence(self, lane: str) -> None:
        self.ask("fence", lane)

    def notes(self, through: int | None) -> Iterator[Note]:
        found = self.ask("read owners")
        assert isinstance(found, tuple)
        return (Note(lane, claims, offset) for offset, (lane, claims) in enumerate(found))

    def retire(self, lanes: Collection[str]) -> None:
        self.ask("retire", *lanes)


def next_step(plan: Plan, answers: Answers, taking_over: TakeOver, waits: bool) -> Step | None:
    """What a process does next; None at its end."""
    replayed = Replayed(plan.lane, answers)
    try:
        for _ in range(plan.times):
            taking_over(replayed)
            end = replayed.ask("end") if waits else 0
            replayed.ask("read changelog", str(end))
            replayed.ask("send")
            replayed.ask("commit")
            if plan.lane != OWN:
                replayed.ask("retire", plan.lane)
    except Step as step:
        return step
    return None


def after(
    world: World, number: int, plan: Plan, answers: Answers, step: Step
) -> list[tuple[World, object]]:
    """The state after a step and the answer to it; none while the process has to wait."""
    holds = (plan.lane, number) in world.initialised
    match step.name:
        case "fence":
            [lane] = step.arguments
            return [(world.fenced(lane, number), None)]
        case "read owners":
            return [(world, world.owners)]
        case "end":
            return [(world, len(world.changelog))]
        case "read changelog":
            open_at = [at for at, e in enumerate(world.changelog) if e.state in ("open", "committed")]
            stable = world.changelog[: min(open_at, default=len(world.changelog))]
            if len(stable) < int(step.arguments[0]):
                return []
            return [(world, Read(sum(entry.state == "visible" for entry in stable)))]
        case _ if not holds:
            return [(world, FENCED)]
        case "note":
            return [(world._replace(owners=(*world.owners, (plan.lane, True))), len(world.owners))]
        case "retire":
            ends = tuple((lane, False) for lane in step.arguments)
            return [(world._replace(owners=world.owners + ends), None)]
        case "send":
            [read] = [answer for answer in answers[-1:] if isinstance(answer, Read)]
            entry = Entry(plan.lane, read.transactions)
            return [(world._replace(changelog=(*world.changelog, entry)), None)]
        case "commit":
            at = max(at for at, entry in enumerate(world.changelog) if entry.lane == plan.lane)
            committed = world.changelog[at]._replace(state="committed")
            return [
                (
                    world._replace(
                        changelog=(*world.changelog[:at], committed, *world.changelog[at + 1 :])
                    ),
                    None,
                )
            ]
    raise AssertionError(step.name)


def markers(world: World) -> Iterator[World]:
    """The states after Kafka has written the marker of one more transaction."""
    for at, entry in enumerate(world.changelog):
        if entry.state == "committed":
            visible = entry._replace(state="visible")
            yield world._replace(changelog=(*world.changelog[:at], visible, *world.changelog[at + 1 :]))


def explored(
    plans: list[Plan], taking_over: TakeOver = take_over, *, waits: bool = True
) -> Iterator[tuple[World, tuple[Answers, ...]]]:
    """Every state that the processes can reach: Kafka's, and the answers of each process."""
    # a lane that belongs to one process is initialised before anything else
    lanes = frozenset((plan.lane, number) for number, plan in enumerate(plans) if plan.lane != OWN)
    start: tuple[World, tuple[Answers, ...]] = (World(initialised=lanes), tuple(() for _ in plans))
    seen, left = {start}, [start]
    while left:
        world, all_answers = left.pop()
        yield world, all_answers
        found = [(marked, all_answers) for marked in markers(world)]
        for number, (plan, answers) in enumerate(zip(plans, all_answers, strict=True)):
            if FENCED in answers or not (answers or begins(plans, all_answers, number)):
                continue
            step = next_step(plan, answers, taking_over, waits)
            for then, answer in after(world, number, plan, answers, step) if step else ():
                answered = (*all_answers[:number], (*answers, answer), *all_answers[number + 1 :])
                found.append((then, answered))
        for state in found:
            if state not in seen:
                seen.add(state)
                left.append(state)


def begins(plans: list[Plan], all_answers: tuple[Answers, ...], number: int) -> bool:
    """Whether a process may begin: of processes that are alike, one order of their begins is enough."""
    kinds = [(plan.times, plan.lane == OWN) for plan in plans]
    return all(all_answers[each] for each in range(number) if kinds[each] == kinds[number])


GROUPS = {
    "two workers with lanes of their own": [Plan("a"), Plan("b")],
    "one of them takes it a second time": [Plan("a", times=2), Plan("b")],
    "three workers": [Plan("a"), Plan("b"), Plan("c")],
    "two that use the partition's lane": [Plan(OWN), Plan(OWN)],
    "one of each kind": [Plan(OWN), Plan("a")],
    "two and one": [Plan(OWN), Plan(OWN), Plan("a")],
    "one and two": [Plan(OWN), Plan("a"), Plan("b")],
    "one of each kind, there and back": [Plan(OWN, times=2), Plan("a", times=2)],
}


@pytest.mark.parametrize("plans", GROUPS.values(), ids=GROUPS)
def test_no_two_lanes_write_a_partition_whatever_the_order_of_their_steps(plans: list[Plan]) -> None:
    most = 0
    for world, _ in explored(plans):
        assert not world.doubled(), world
        most = max(most, sum(entry.state == "visible" for entry in world.changelog))
    assert most == sum(plan.times for plan in plans)  # one after another, all of them write


def fences_first(owners: Owners) -> None:
    """Claims only after the partition's own lane is fenced."""
    owners.fence(owners.own)
    claimed = owners.claim() if owners.lane != owners.own else None
    for lane in standing(owners.notes(claimed), claimed):
        if lane != owners.lane:
            owners.fence(lane)


def without_the_own_lane(owners: Owners) -> None:
    """Does not fence the lane that needs no claim."""
    if owners.lane == owners.own:
        take_over(owners)
        return
    claimed = owners.claim()
    for lane in standing(owners.notes(claimed), claimed):
        if lane != owners.lane:
            owners.fence(lane)


def without_claims_of_others(owners: Owners) -> None:
    """As release 0.1.0 takes over."""
    owners.fence(owners.own)


@pytest.mark.parametrize(
    ("taking_over", "waits", "plans"),
    [
        (fences_first, True, [Plan(OWN), Plan("a")]),
        (without_the_own_lane, True, [Plan(OWN), Plan("a")]),
        (without_claims_of_others, True, [Plan("a"), Plan("b")]),
        (take_over, False, [Plan("a"), Plan("b")]),
    ],
)
def test_the_model_finds_what_each_step_is_for(
    taking_over: TakeOver, waits: bool, plans: list[Plan]
) -> None:
    assert any(world.doubled() for world, _ in explored(plans, taking_over, waits=waits))
