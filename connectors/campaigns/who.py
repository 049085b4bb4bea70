"""Who takes part in a campaign."""

from decimal import Decimal

from pydantic import Field

from connectors.campaigns.parts import LocalTime, Names, Part


class Eligible(Part):
    """The players that take part; a condition that is absent does not restrict. Blocked players never
    take part.
    """

    countries: Names | None = Field(None, description="One of these.")
    not_countries: Names | None = Field(None, description="None of these.")
    any_tag: Names | None = Field(None, description="At least one of these segment tags.")
    no_tag: Names | None = Field(None, description="None of these segment tags.")
    affiliates: Names | None = Field(None, description="Brought by one of these.")
    registered_from: LocalTime | None = Field(None, description="Registered at or after, local time.")
    registered_before: LocalTime | None = Field(None, description="Registered before, local time.")
    consent_email: bool = Field(False, description="Only players who consented to e-mail.")
    promo_banned: bool = Field(False, description="Also players who are banned from promotions.")


class Holdout(Part):
    """The players who are held back from the campaign, so that its effect can be measured.

    A player is held back if the first 8 hexadecimal digits of the SHA-256 of ``salt`` followed by the
    player id are below :attr:`threshold`.
    """

    share: Decimal = Field(gt=0, le=Decimal("0.9"), description="Share of the players, e.g. 0.1.")
    salt: str = Field(
        min_length=1,
        max_length=256,
        description="Text of this campaign alone; with equal salts the same players are held back.",
    )

    @property
    def threshold(self) -> str:
        """The first hash that is not held back: 8 hexadecimal digits."""
        return f"{int(self.share * 2**32):08x}"
