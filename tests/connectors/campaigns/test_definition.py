"""Wrong definitions and rates: each mistake is named with its line, and how to mend it."""

from pathlib import Path

import pytest

from connectors.campaigns.model.definition import load
from connectors.campaigns.rates import read
from streams.errors import DefinitionError, RatesError

GOOD = """name: good
tenant: acme
period: {from: 2026-03-14, to: 2026-03-15, time_zone: Europe/Helsinki}
counts:
  minimum_bet: 0.1
  currency: EUR
measure: turnover
form:
  kind: challenge
  steps:
    - {target: 10, prize: 1}
    - {target: 20, prize: 2}
"""

LADDER = GOOD[GOOD.index("  kind") :]
BOARD = "  kind: leaderboard\n  prizes:\n    - "
STAGED = BOARD + "{ranks: 1, amount: 1}\n  stages:\n    - "
TEAMED = BOARD + "{ranks: 1, amount: 1}\n  teams: "
LATER = "\n    - {from: 2026-03-14T12:00, to: 2026-03-15}"
POOL = "  kind: leaderboard\n  pool: {percent: 1}\n  prizes:\n    - "
MEASURED = "measure: turnover\nform:\n"


def told(tmp_path: Path, text: str) -> str:
    path = tmp_path / "campaign.yaml"
    path.write_text(text)
    with pytest.raises(DefinitionError) as raised:
        load(path)
    return str(raised.value).replace(str(path), "file")


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("  minimum_bet", "  minimal_bet", "file:5: counts.minimal_bet: is not a field here"),
        ("to: 2026-03-15", "to: 2026-03-14", "file:3: period: ends before it begins"),
        ("Europe/Helsinki", "Helsinki", "file:3: period.time_zone: is not an IANA time zone"),
        ("from: 2026-03-14", "from: 2026-02-30", "file:3: period.from: must be a date"),
        ("from: 2026-03-14", "from: 2026-03-14T00:00Z", "file:3: period.from: must have no offset"),
        ("target: 20", "target: 10", "file:8: form: steps overlap: target 10 must be above"),
        ("prize: 2", "prize: -2", "file:12: form.steps.1.prize: input should be greater than"),
        ("measure: turnover", "measure: luck", "file:7: measure: must be one of turnover, rounds"),
        ("measure: turnover", "measure: deposits", "file:1: counts.minimum_bet says nothing about dep"),
        ("measure: turnover", "measure: net_loss", "file:1: a challenge cannot measure net_loss"),
        ("kind: challenge", "kind: lottery", "file:8: form: input tag 'lottery'"),
        ("currency: EUR", "currency: euro", "file:6: counts.currency: string should match pattern"),
        (
            "kind: challenge", "kind: mission\n  step: 1", "file:10: form.step: is not a field here",
        ),
        (
            "kind: challenge\n  steps:\n",
            "kind: mission\n  steps:\n    - {measure: deposits, target: 1, prize: 1}\n",
            "file:1: step 1 of the mission: counts.minimum_bet says nothing about deposits",
        ),
        (
            "kind: challenge\n  steps:\n",
            "kind: mission\n  steps:\n    - {measure: luck, target: 1, prize: 1}\n",
            "file:11: form.steps.0.measure: must be one of turnover",
        ),
        ("{target: 10, prize: 1}", "{target: 10}", "file:11: form.steps.0: gives nothing: add a prize"),
        (
            "{target: 10, prize: 1}", "{target: 10, item: {count: 3}}",
            "file:11: form.steps.0.item.name: field required",
        ),
        (LADDER, BOARD + "{ranks: 1, share: 5}", "file:8: form: a share is of a pool: add one"),
        (LADDER, BOARD + "{ranks: 1}", "file:11: form.prizes.0: gives nothing: add an amount, an item"),
        (LADDER, BOARD + "{ranks: 1, share: 5, amount: 5}", "form.prizes.0: give either an amount"),
        (LADDER, POOL + "{ranks: 1, amount: 5}", "file:8: form: nobody gets a share of the pool"),
        (LADDER, POOL + "{ranks: 1-3, share: 40}", "shares of all ranks together are 120 percent"),
        (
            "  currency: EUR\n" + MEASURED + LADDER, MEASURED + POOL + "{ranks: 1, share: 5}",
            "file:1: form.pool adds amounts: set counts.currency, like currency: EUR",
        ),
        (
            LADDER, BOARD + "{ranks: 1, item: {name: hat}}\n  ties: split",
            "file:8: form: an item cannot be split: use ties: earliest",
        ),
        (
            LADDER, STAGED + "{from: 2026-03-14, to: 2026-03-15}\n",
            "file:8: form: a tournament has two stages or more",
        ),
        (
            LADDER, STAGED + "{from: 2026-03-14, to: 2026-03-14T12:00}" + LATER,
            "file:8: form: stage 1 must say who goes on, like best: 20 or percent: 50",
        ),
        (
            LADDER, STAGED + "{from: 2026-03-14, to: 2026-03-14T12:01, best: 2}" + LATER,
            "file:8: form: stage 2 begins before stage 1 ends",
        ),
        (
            LADDER, STAGED + "{from: 2026-03-13, to: 2026-03-14T12:00, best: 2}" + LATER,
            "file:1: a stage lies outside the period: widen the period",
        ),
        (
            LADDER, STAGED + "{from: 2026-03-14, to: 2026-03-14T12:00, best: 2, percent: 5}",
            "file:13: form.stages.0: says twice who goes on: give either best or percent",
        ),
        (LADDER, BOARD + "{ranks: 1, amount: 1}\n  carry_over: true", "form: carry_over is for stages"),
        (LADDER, TEAMED + "{best: 2}", "form.teams: give either a tag_prefix like `team:`, or the"),
        (
            LADDER, TEAMED + "{players: {red: [a, b], blue: [b]}}",
            "file:12: form.teams: b is in two teams, red and blue",
        ),
        (
            LADDER, BOARD + "{ranks: 1, item: {name: hat}}\n  teams: {tag_prefix: t}",
            "file:8: form: an item cannot be split among the players of a team: give an amount",
        ),
        ("measure:", "opt_in: {}\nmeasure:", "file:7: opt_in.event: field required"),
        (
            "measure:", "eligible: {behaviour_at: 2026-03-01}\nmeasure:",
            "file:7: eligible: behaviour_at is the moment for deposited and lapsed: add one of them",
        ),
        (
            "measure:", "eligible:\n  deposited: {days: 7, amount: 5}\nmeasure:",
            "file:8: eligible.deposited: amount and currency belong together, like amount: 100",
        ),
        (
            "measure:", "eligible:\n  lapsed: {days: 7, without: fun}\nmeasure:",
            "file:8: eligible.lapsed.without: input should be 'bets' or 'logins'",
        ),
        ("tenant: acme\n", "", "file:1: tenant: field required"),
        ("tenant: acme\n", "tenant: acme\ntenant: other\n", "file:2: tenant stands twice"),
        ("tenant: acme", "tenant: acme.test", "file:2: tenant: acme.test is a test tenant, and no"),
        ("counts:\n", "counts: [\n", "not YAML"),
        ("minimum_bet: 0.1", "minimum_bet: 0.1000000000000000001", "no more than 18 decimal places"),
    ],
)  # fmt: skip
def test_a_mistake_is_named_with_its_line(old: str, new: str, message: str, tmp_path: Path) -> None:
    assert old in GOOD
    assert message in told(tmp_path, GOOD.replace(old, new))


def test_all_mistakes_are_named_at_once(tmp_path: Path) -> None:
    text = (
        GOOD.replace("2026-03-15", "never").replace("currency: EUR", "currency: 5").replace("10,", "x,")
    )
    assert len(told(tmp_path, text).splitlines()) == 3


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(DefinitionError, match=r"none\.yaml: cannot be read"):
        load(tmp_path / "none.yaml")


def test_the_hash_is_of_what_is_meant_and_not_of_how_it_is_written(tmp_path: Path) -> None:
    one, other, third = (tmp_path / f"{n}.yaml" for n in range(3))
    one.write_text(GOOD)
    other.write_text("# a remark\n" + GOOD.replace("{target: 10, prize: 1}", "{prize: 1, target: 10}"))
    third.write_text(GOOD.replace("prize: 1", "prize: 3"))
    hashes = [load(path).campaign.sha256 for path in (one, other, third)]
    assert hashes[0] == hashes[1] != hashes[2]


def test_numbers_are_read_exactly(tmp_path: Path) -> None:
    path = tmp_path / "exact.yaml"
    path.write_text(GOOD.replace("minimum_bet: 0.1", "minimum_bet: 0.123456789012345678"))
    assert str(load(path).campaign.counts.minimum_bet) == "0.123456789012345678"


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("2026-02-30,SEK,EUR,1", "file:3: day '2026-02-30' is not a date"),
        ("2026-02-03,sek,EUR,1", "file:3: base 'sek' is not a currency code"),
        ("2026-02-03,EUR,EUR,1", "file:3: base and quote are both EUR"),
        ("2026-02-03,SEK,EUR,much", "file:3: rate 'much' is not a number"),
        ("2026-02-03,SEK,EUR,0", "file:3: rate 0 must be above zero"),
        ("2026-02-03,SEK,EUR,1e-19", "file:3: rate 1E-19 must be above zero"),
        ("2026-02-03,SEK,EUR,NaN", "file:3: rate NaN must be above zero"),
    ],
)
def test_a_wrong_rate_is_named_with_its_line(row: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "rates.csv"
    path.write_text(f"day,base,quote,rate\n2026-02-01,SEK,EUR,0.09\n{row}\n")
    with pytest.raises(RatesError) as raised:
        read(path, "bank")
    assert message in str(raised.value).replace(str(path), "file")


def test_rates_without_a_source_or_a_header_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "rates.csv"
    path.write_text("day,base,quote,rate\n2026-02-01,SEK,EUR,0.09\n")
    with pytest.raises(RatesError, match="no source"):
        read(path)
    path.write_text("2026-02-01,SEK,EUR,0.09\n")
    with pytest.raises(RatesError, match="header lacks day, base, quote, rate"):
        read(path)
