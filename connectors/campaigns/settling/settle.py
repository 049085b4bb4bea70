"""Settles campaigns: freezes a result, publishes its awards once, and corrects them by review only.

The steps, and the state after a crash at the end of each:

1. Take the campaign's transactional id (:mod:`.ledger`), which ends what another process has begun, and
   read what was published. If the campaign is settled, that is the answer.
2. Wait until the line has read its input, and evaluate. Nothing is written.
3. Store the result in ClickHouse, read it back, and compare its hash. It is an evaluation like any
   other: no settlement names it. The next attempt stores one of its own.
4. Write the settlement and all awards to Kafka in one transaction. The campaign is settled if and only
   if it was committed.

The sink brings both topics to ClickHouse.
"""

from collections.abc import Sequence
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, NamedTuple

from connectors.campaigns.evaluation import Result, evaluate
from connectors.campaigns.model.definition import Campaign, Definition
from connectors.campaigns.settling.awards import (
    AWARD,
    CORRECTION,
    Award,
    Difference,
    Place,
    Prize,
    Published,
    award_id,
    differences,
    newest,
    prizes,
    settlement_id,
)
from connectors.campaigns.settling.ledger import Ledger, Settlement
from connectors.campaigns.standings import Standing
from connectors.campaigns.stored import Run, store, stored_sha256
from connectors.clickhouse.literals import quoted
from connectors.clickhouse.query import query_rows
from streams.core.event import Kind
from streams.errors import AlreadySettled, ConfigurationError, NotSettled, ResultChanged
from streams.kafka.draining import Report, drain
from streams.records.topics import OUTCOMES, REJECTS, ROUNDS
from streams.settings import Settings

_EVALUATED = *(kind.topic for kind in Kind), ROUNDS, REJECTS, OUTCOMES
"""The topics whose rows an evaluation reads."""


class Order(NamedTuple):
    """Who settles or reviews, why, and as of when.

    ``unfinished``: settle although the period is not over, or the line has items without an outcome.
    ``wait_s``: how long the line may take to read its input.
    """

    by: str
    reason: str = ""
    as_of: datetime | None = None
    unfinished: bool = False
    wait_s: float = 60.0


class Settled(NamedTuple):
    """A settlement; ``is_new`` if this call has made it, ``is_intact`` if its stored rows still have
    its hash.
    """

    settlement: Settlement
    is_new: bool
    is_intact: bool


class Review(NamedTuple):
    """How the prizes of a later time differ from those published, and the settlement that published
    the corrections, if they were.
    """

    settled: Settlement
    result: Result
    differences: list[Difference]
    published: Settlement | None


def settle(settings: Settings, definition: Definition, order: Order, report: Report) -> Settled:
    """Settles a campaign, or finds that it is settled.

    Raises ``NotSettled`` with the reason for which it cannot be settled yet, ``AlreadySettled`` if it
    was settled under another definition, and what :meth:`Ledger.publish` raises.
    """
    campaign = definition.campaign
    ledger = Ledger(settings, campaign.tenant, campaign.name)
    ledger.take()
    known = ledger.published()
    if known:
        _check_same(campaign, known[0])
        intact = stored_sha256(settings, known[0].run_id) == known[0].result_sha256
        return Settled(known[0], is_new=False, is_intact=intact)
    result = _final(settings, campaign, order, report)
    run = _stored(settings, definition, result)
    now = datetime.now(UTC)
    awards = _awards(result, now)
    settlement = _settlement(result, run, order, number=0, now=now, awards=len(awards))
    ledger.publish(settlement, awards)
    return Settled(settlement, is_new=True, is_intact=True)


def review(
    settings: Settings, definition: Definition, order: Order, report: Report, *, publish: bool
) -> Review:
    """Compares a settled campaign with its result at a later time; ``publish`` writes corrections.

    Without ``publish`` nothing is written. Raises ``AlreadySettled`` if the campaign was not settled or
    was settled under another definition, and ``NotSettled`` if ClickHouse does not have all awards yet.
    """
    campaign = definition.campaign
    ledger = Ledger(settings, campaign.tenant, campaign.name)
    if publish:
        ledger.take()
    known = ledger.published()
    if not known:
        raise AlreadySettled(
            f"{campaign.name} of {campaign.tenant} is not settled: `roundhouse campaign settle` does it"
        )
    _check_same(campaign, known[0])
    published = _published(settings, campaign, known)
    result = _final(settings, campaign, order, report)
    found = differences(result, published)
    if not publish or not found:
        return Review(known[0], result, found, None)
    run = _stored(settings, definition, result)
    now, number = datetime.now(UTC), known[-1].number + 1
    corrections = _corrections(result, found, published, number, order.reason, now=now)
    settlement = _settlement(result, run, order, number=number, now=now, awards=len(corrections))
    ledger.publish(settlement, corrections)
    return Review(known[0], result, found, settlement)


def _check_same(campaign: Campaign, settled: Settlement) -> None:
    if settled.definition_sha256 != campaign.sha256:
        raise AlreadySettled(
            f"{campaign.name} of {campaign.tenant} was settled on {settled.settled_at:%Y-%m-%d} under "
            f"another definition, {settled.definition_sha256[:12]}…, which run {settled.run_id} in "
            "campaign_runs has. A changed campaign needs a name of its own"
        )


def _final(settings: Settings, campaign: Campaign, order: Order, report: Report) -> Result:
    """The result as of a time until which everything that was received is known."""
    now = datetime.now(UTC)
    as_of = order.as_of or now
    if as_of > now:
        raise ConfigurationError(f"--as-of {as_of:%Y-%m-%dT%H:%M:%SZ} is in the future")
    ended_at = campaign.period.utc()[1]
    if not order.unfinished:
        if as_of < ended_at:
            raise NotSettled(
                f"the period of {campaign.name} ends at {ended_at:%Y-%m-%dT%H:%M:%SZ}, after the time "
                f"that the result is as of ({as_of:%Y-%m-%dT%H:%M:%SZ}). --unfinished settles it all "
                "the same: what is played later then changes prizes by a review only"
            )
        drain(settings, _EVALUATED, report, order.wait_s)
    result = evaluate(settings, campaign, as_of)
    if result.unsettled and not order.unfinished:
        raise NotSettled(
            f"{result.unsettled} items of {campaign.tenant} that were received until then have no "
            "outcome yet. Wait for the line, or settle with --unfinished: what they change is then "
            "changed by a review only"
        )
    return result


def _stored(settings: Settings, definition: Definition, result: Result) -> Run:
    run = store(settings, definition, result)
    if stored_sha256(settings, run.run_id) != run.result_sha256:
        raise ResultChanged(
            f"ClickHouse does not answer what was stored as run {run.run_id}, so nothing is settled"
        )
    return run


def _awards(result: Result, now: datetime) -> list[Award]:
    return [_award(result, 0, now, place, due) for place, due in prizes(result).items()]


def _corrections(
    result: Result,
    found: Sequence[Difference],
    published: dict[Place, Published],
    number: int,
    reason: str,
    *,
    now: datetime,
) -> list[Award]:
    return [
        _award(result, number, now, place, (standing, after))._replace(
            kind=CORRECTION,
            corrects=published[place].award_id if place in published else None,
            before=before,
            reason=reason,
        )
        for place, standing, before, after in found
    ]


def _award(
    result: Result, number: int, now: datetime, place: Place, due: tuple[Standing | None, Prize]
) -> Award:
    """An award; without a standing, of a player who has no score any more."""
    campaign = result.campaign
    (player_id, step), (standing, prize) = place, due
    return Award(
        award_id=award_id(campaign.tenant, campaign.name, number, place),
        kind=AWARD,
        tenant=campaign.tenant,
        campaign=campaign.name,
        title=campaign.title,
        settlement_id=settlement_id(campaign.tenant, campaign.name, number),
        number=number,
        player_id=player_id,
        rank=standing.rank if standing else 0,
        step=step,
        score=standing.score if standing else Decimal(0),
        prize=prize,
        currency=campaign.counts.currency,
        corrects=None,
        before=None,
        reason="",
        definition_sha256=campaign.sha256,
        as_of=result.as_of,
        settled_at=now,
    )


def _settlement(
    result: Result, run: Run, order: Order, *, number: int, now: datetime, awards: int
) -> Settlement:
    campaign = result.campaign
    return Settlement(
        settlement_id=settlement_id(campaign.tenant, campaign.name, number),
        tenant=campaign.tenant,
        campaign=campaign.name,
        title=campaign.title,
        number=number,
        run_id=run.run_id,
        definition_sha256=campaign.sha256,
        result_sha256=run.result_sha256,
        as_of=result.as_of,
        ended_at=campaign.period.utc()[1],
        settled_at=now,
        settled_by=order.by,
        reason=order.reason,
        unsettled=result.unsettled,
        players=len(result.standings),
        prizes=result.cost,
        awards=awards,
    )


def _published(
    settings: Settings, campaign: Campaign, known: Sequence[Settlement]
) -> dict[Place, Published]:
    """What was published, from ClickHouse. Raises ``NotSettled`` if a record of Kafka is missing."""
    rows = awards_of(settings, campaign)
    due = sum(settlement.awards for settlement in known)
    if len(rows) != due:
        raise NotSettled(
            f"ClickHouse has {len(rows)} of the {due} awards of {campaign.name}: the sink is behind. "
            "Run the command again when it has inserted them"
        )
    return newest(rows)


def awards_of(settings: Settings, campaign: Campaign) -> list[dict[str, Any]]:
    """The awards and corrections of a campaign that ClickHouse has, by rising ``number``."""
    return query_rows(
        settings,
        "SELECT award_id, settlement_id, player_id, step, toString(amount) AS amount, item, item_count "
        f"FROM awards WHERE tenant = {quoted(campaign.tenant)} AND campaign = {quoted(campaign.name)} "
        "ORDER BY number, award_id",
    )
