"""How often a running campaign is evaluated, as the setting and the evaluations make it. Pure."""

from collections.abc import Collection, Mapping

from connectors.campaigns.live import AT_LEAST_EVERY_S


def interval_s(campaigns: Collection[str], took_s: Mapping[str, float], share: float) -> float:
    """The longest time between two evaluations of a campaign while all goes well, in seconds.

    A campaign of whose tenant nothing is received is due after :data:`AT_LEAST_EVERY_S`, and then waits
    at most until each of the others had its turn. ``took_s``: the last evaluation of a campaign with
    the writing of it; one that had none yet counts as the mean of the others. All of them together
    take at most a ``share`` of the time.
    """
    known = [took_s[name] for name in campaigns if name in took_s]
    mean_s = sum(known) / len(known) if known else 0.0
    return AT_LEAST_EVERY_S + mean_s * len(campaigns) / share
