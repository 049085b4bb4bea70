"""The effect of a campaign over the stored data, for the command and the console."""

from datetime import datetime, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from connectors.campaigns.evaluation import Result, evaluate
from connectors.campaigns.model.definition import Campaign
from streams.errors import ConfigurationError
from streams.settings import Settings

if TYPE_CHECKING:
    from connectors.campaigns.effect.measure import Effect
    from connectors.campaigns.effect.population import Population, Windows

BEFORE_DAYS, AFTER_DAYS, CONFIDENCE = 28.0, 14.0, 0.95


def effect_of(
    settings: Settings,
    campaign: Campaign,
    as_of: datetime,
    *,
    before_days: float = BEFORE_DAYS,
    after_days: float = AFTER_DAYS,
    confidence: float = CONFIDENCE,
    result: Result | None = None,
) -> "Effect":
    """The effect by what was received until ``as_of``. ``result``: the standings as of then, if known.

    Raises ``ConfigurationError`` without SciPy, and if there are too few players to compare.
    """
    check_scipy()
    from connectors.campaigns.effect.measure import measure
    from connectors.campaigns.effect.population import Windows, read

    result = result or evaluate(settings, campaign, as_of)
    windows = Windows.around(campaign, timedelta(days=before_days), timedelta(days=after_days))
    took_part = set(result.standings.player_ids)
    population = read(settings, campaign, windows, as_of, took_part)
    share = float(campaign.holdout.share) if campaign.holdout else None
    try:
        found = measure(population.players, share, result.cost, confidence)
    except ValueError as error:
        raise ConfigurationError(
            f"{campaign.name}: {error}: too few to compare. Only eligible players who bet or deposited "
            f"in the {before_days:g} days before the campaign are compared; --before-days changes it"
        ) from None
    return found._replace(warnings=[*_of_data(windows, as_of, population), *found.warnings])


def _of_data(windows: "Windows", as_of: datetime, population: "Population") -> list[str]:
    found = []
    if as_of < windows.after:
        found.append(f"the window after the campaign ends at {windows.after:%Y-%m-%dT%H:%M}, not yet")
    if population.unconverted:
        found.append(f"{population.unconverted} amounts have no rate and are left out")
    return found


def check_scipy() -> None:
    """Raises ``ConfigurationError`` that says how to install SciPy, if it is not."""
    try:
        import scipy  # noqa: F401
    except ImportError:
        raise ConfigurationError(
            "effect and plan need SciPy: install Roundhouse with the extra `effect`, "
            "`pipx install '.[effect]'`"
        ) from None


def document(value: Any) -> Any:
    """Named tuples as JSON objects; exact amounts as text."""
    if isinstance(value, tuple) and hasattr(value, "_asdict"):
        return {name: document(each) for name, each in value._asdict().items()}
    if isinstance(value, dict):
        return {name: document(each) for name, each in value.items()}
    if isinstance(value, list):
        return [document(each) for each in value]
    return f"{value:f}" if isinstance(value, Decimal) else value
