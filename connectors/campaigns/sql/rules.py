"""The rules that exclude an entry or its player; each has the name that ``explain`` shows."""

from collections.abc import Sequence
from datetime import datetime, tzinfo
from zoneinfo import ZoneInfo

from connectors.campaigns.model.counts import LOGINS, ROUNDS, SPORTS
from connectors.campaigns.model.definition import Campaign
from connectors.campaigns.model.who import Holdout
from connectors.campaigns.sql.expressions import any_of, money, one_of
from connectors.campaigns.sql.steps import Fact, Rule
from connectors.clickhouse.literals import moment, quoted


def ruled(campaign: Campaign, facts: Sequence[Fact] = ()) -> str:
    """Each entry with the first rule that excludes it: those about the game come first, then those
    about the player.
    """
    about_entries = [fact for fact in facts if fact.key != "person_id"]
    rules = [*game_rules(campaign), *player_rules(campaign)]
    rules += [rule for fact in facts if fact not in about_entries for rule in fact.rules]
    start, end = map(moment, campaign.period.utc())
    rules.append(Rule(f"at < {start} OR at >= {end}", "outside the period"))
    rules += entry_rules(campaign)
    rules += [rule for fact in about_entries for rule in fact.rules]
    joins = ["LEFT JOIN player USING (person_id)"]
    if campaign.source == ROUNDS:
        joins.append("LEFT JOIN game USING (game_id)")
    joins += [f"LEFT JOIN {fact.name} USING ({fact.key})" for fact in facts if fact.text]
    text = "\n".join(joins)
    return f"""
SELECT
    *,
    {first_of(rules)} AS rule
FROM priced
{text}"""


def first_of(rules: Sequence[Rule]) -> str:
    """The name of the first of some rules that excludes an entry, as an expression; '' if none does."""
    if not rules:
        return "''"
    cases = ",\n        ".join(f"{rule.excludes}, {quoted(rule.name)}" for rule in rules)
    return f"multiIf(\n        {cases},\n        ''\n    )"


def held_back(holdout: Holdout) -> str:
    """A condition for the persons who are held back."""
    digits = f"substring(lower(hex(SHA256(concat({quoted(holdout.salt)}, person_id)))), 1, 8)"
    return f"{digits} < {quoted(holdout.threshold)}"


def player_rules(campaign: Campaign) -> list[Rule]:
    """The rules that exclude a player, over the columns of the step ``player``."""
    wanted, zone = campaign.eligible, ZoneInfo(campaign.period.time_zone)
    rules = [Rule("ifNull(newest_is_blocked, false)", "player: blocked")]
    if campaign.holdout:
        rules.append(Rule(held_back(campaign.holdout), "player: held back"))
    if not wanted.promo_banned:
        rules.append(Rule("ifNull(newest_is_promo_banned, false)", "player: banned from promotions"))
    country = "ifNull(newest_country, '')"
    if wanted.countries:
        rules.append(Rule(f"NOT {one_of(country, wanted.countries)}", "player: country"))
    if wanted.not_countries:
        rules.append(Rule(one_of(country, wanted.not_countries), "player: excluded country"))
    if wanted.any_tag:
        rules.append(Rule(f"NOT {any_of('newest_tags', wanted.any_tag)}", "player: tags"))
    if wanted.no_tag:
        rules.append(Rule(any_of("newest_tags", wanted.no_tag), "player: excluded tag"))
    if wanted.affiliates:
        affiliate = "ifNull(newest_affiliate, '')"
        rules.append(Rule(f"NOT {one_of(affiliate, wanted.affiliates)}", "player: affiliate"))
    registered = "ifNull(newest_registered_at {} {}, true)"
    if wanted.registered_from:
        since = moment(_in(wanted.registered_from, zone))
        rules.append(Rule(registered.format("<", since), "player: registered too early"))
    if wanted.registered_before:
        until = moment(_in(wanted.registered_before, zone))
        rules.append(Rule(registered.format(">=", until), "player: registered too late"))
    if wanted.consent_email:
        rules.append(Rule("NOT ifNull(newest_consent_email, false)", "player: no consent"))
    return rules


def game_rules(campaign: Campaign) -> list[Rule]:
    """The rules that exclude a game, over its id and the columns of the step ``game``."""
    counts, rules = campaign.counts, []
    if counts.games:
        rules.append(Rule(f"NOT {one_of('game_id', counts.games)}", "game"))
    if counts.providers:
        provider = "ifNull(newest_provider, '')"
        rules.append(Rule(f"NOT {one_of(provider, counts.providers)}", "provider"))
    if counts.categories:
        rules.append(Rule(f"NOT {any_of('newest_categories', counts.categories)}", "category"))
    if counts.features:
        rules.append(Rule(f"NOT {any_of('newest_features', counts.features)}", "feature"))
    return rules


def entry_rules(campaign: Campaign) -> list[Rule]:
    """The rules that exclude an entry of the period by what it is itself."""
    counts = campaign.counts
    rules = [Rule("NOT enabled", "campaigns were disabled")]
    if campaign.source == ROUNDS:
        rules += [Rule("bets = 0", "no bet"), Rule("bets_left <= 0", "rolled back")]
    if counts.money == "real" and campaign.source == ROUNDS:
        rules.append(Rule("bonus > 0 AND own_amount <= 0", "bonus money"))
    if counts.money == "real" and campaign.source == SPORTS:
        rules.append(Rule("own_amount <= 0", "bonus money"))
    if counts.currency:
        rules.append(Rule("NOT has_rate", "no rate"))
    if counts.minimum_bet is not None:
        rules.append(Rule(f"amount < {money(counts.minimum_bet)}", "below the minimum bet"))
    if counts.minimum_deposit is not None:
        rules.append(Rule(f"amount < {money(counts.minimum_deposit)}", "below the minimum deposit"))
    if counts.minimum_odds is not None:
        rules.append(Rule(f"odds < {money(counts.minimum_odds)}", "below the minimum odds"))
    if counts.minimum_multiplier is not None or campaign.measure == "best_multiplier":
        rules.append(Rule("amount <= 0", "nothing staked"))
    if counts.minimum_multiplier is not None:
        due = f"toDecimal256(amount, 18) * {money(counts.minimum_multiplier)}"
        rules.append(Rule(f"payout < {due}", "below the minimum multiplier"))
    return rules


def _in(local: datetime, zone: tzinfo) -> datetime:
    return local.replace(tzinfo=zone)


def ranged(campaign: Campaign) -> str:
    """Rules that depend on a person's other entries."""
    rule = "rule"
    if campaign.source == LOGINS:
        zone = quoted(campaign.period.time_zone)
        day = f"person_id, rule, toDate(at, {zone})"
        number = f"row_number() OVER (PARTITION BY {day} ORDER BY at, id)"
        rule = f"if(rule = '' AND {number} > 1, 'a later login of the same day', rule)"
    elif campaign.counts.first:
        number = "row_number() OVER (PARTITION BY person_id, rule ORDER BY at, id)"
        most = campaign.counts.first
        rule = f"if(rule = '' AND {number} > {most}, 'after the first {most}', rule)"
    return f"SELECT * EXCEPT (rule), {rule} AS rule\nFROM ruled"
