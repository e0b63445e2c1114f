"""What a log cannot tell about its shoppers: assumptions with a name, a default and a range to sweep.

And the table that says, for every quantity of a fitted shopper, whether the log told it or it was assumed.
"""

import math
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Literal, Self

import pandas as pd

LEARNED = "learned from the log"
ASSUMED = "assumed"


@dataclass(frozen=True, kw_only=True)
class Priors:
    """Values taken where the log is silent. Report only conclusions that hold over `RANGES`."""

    click_rate: float = 0.10
    """Chance that a slate of the most popular items gets a click, in (0, 1); used without logged impressions.

    Real shops lie far apart: 0.4-0.7 % an impression on a fashion front page (Open Bandit), 1.5-3.5 % an impression
    in a shop's own product lists.
    """
    slate_size: int = 10
    """Places of the slate that `click_rate` speaks of, at least 1."""
    position_decay: float = 0.85
    """Chance that a shopper who looked at a place looks at the next one too, in (0, 1).

    Used as it stands without logged impressions, and otherwise as what places with few clicks are drawn towards.
    """
    slates_per_session: float = 6.0
    """Mean number of slates a shopper sees before leaving, at least 1; used where session lengths tell nothing."""
    cart_rate: float = 0.10
    """Chance that a clicked item goes into the cart, in (0, 1); used where the log has too few carts."""
    purchase_rate: float = 0.35
    """Chance that an item in the cart is bought, in (0, 1); used where the log has too few purchases."""
    seconds_per_slate: float = 30.0
    """Median seconds that a shopper spends on a slate, above 0; used where the log has no clock within sessions."""
    arrival_views: int = 1
    """Views that a shopper brings along at most, where no slate marks the end of them; at least 0."""
    come_back: float = 0.3
    """Chance that a shopper comes again after a visit, in (0, 1); used where the log does not tell, and otherwise where
    its estimate begins, as `come_back_after` is."""
    come_back_after: float = 7.0
    """Median days until then, above 0."""
    interest_fading: float = 0.0
    """Share of its weight that an earlier interest loses with each further item taken, in [0, 1); used where the log
    tells no half-life from another. A fifth is a half-life of 3 items."""
    saturation_fading: float = 0.0
    """Share of its weight that a slate shown loses with each further one, in [0, 1), in how tired a shopper is of the
    categories it held; used likewise. A sixth is a half-life of 4 slates."""
    units_per_purchase: float = 1.0
    """Mean quantity of an item that is bought, at least 1; used where the log has no quantities, and otherwise as what
    few are drawn towards."""

    def __post_init__(self) -> None:
        for name in ("click_rate", "position_decay", "cart_rate", "purchase_rate", "come_back"):
            if not 0 < getattr(self, name) < 1:
                raise ValueError(f"{name} must be in (0, 1), got {getattr(self, name)}")
        for name in ("interest_fading", "saturation_fading"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"{name} must be in [0, 1), got {getattr(self, name)}")
        for name, least in (
            ("slate_size", 1),
            ("slates_per_session", 1),
            ("arrival_views", 0),
            ("units_per_purchase", 1),
        ):
            if getattr(self, name) < least:
                raise ValueError(f"{name} must be at least {least}, got {getattr(self, name)}")
        for name in ("seconds_per_slate", "come_back_after"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} must be above 0, got {getattr(self, name)}")

    def to_dict(self) -> dict[str, float]:
        """Plain values by name."""
        return asdict(self)


RANGES: dict[str, tuple[float, float]] = {
    "click_rate": (0.02, 0.30),
    "position_decay": (0.60, 0.97),
    "slates_per_session": (2.0, 20.0),
    "cart_rate": (0.03, 0.25),
    "purchase_rate": (0.10, 0.60),
    "seconds_per_slate": (10.0, 120.0),
    "arrival_views": (0, 3),
    "come_back": (0.05, 0.70),
    "come_back_after": (2.0, 30.0),
    "interest_fading": (0.0, 0.3),
    "saturation_fading": (0.0, 0.5),
    "units_per_purchase": (1.0, 3.0),
}
"""Prior -> lowest and highest value that real shops make believable; sweep them before a conclusion is reported."""


@dataclass(frozen=True, slots=True)
class Evidence:
    """One quantity of a fitted shopper, and where its value comes from.

    Attributes:
        quantity: what it is, in words.
        source: `LEARNED` or `ASSUMED`.
        count: how many observations of what stand behind it, for instance `"5120 clicks"`.
        value: its value.
        low: lower end of the 95 % interval where learned, of the prior's range where assumed; nan where unknown.
        high: upper end.
    """

    quantity: str
    source: Literal["learned from the log", "assumed"]
    count: str
    value: float
    low: float = float("nan")
    high: float = float("nan")

    @classmethod
    def assumed(cls, quantity: str, count: str, prior: str, priors: Priors) -> Self:
        """A quantity that a named prior gives; its range is the prior's."""
        low, high = RANGES[prior]
        return cls(f"{quantity} (prior {prior})", ASSUMED, count, float(getattr(priors, prior)), low, high)

    @classmethod
    def rate(cls, quantity: str, successes: int, trials: int, count: str) -> Self:
        """A rate counted in the log, with its Wilson interval."""
        return cls(quantity, LEARNED, count, successes / trials, *wilson(successes, trials))

    @classmethod
    def drawn(
        cls, quantity: str, count: str, prior: str, priors: Priors, value: float, successes: int, trials: int
    ) -> Self:
        """A rate of few events, `value`, drawn towards a prior; the prior itself where there was no event."""
        if not successes:
            return cls.assumed(quantity, count, prior, priors)
        return cls(f"{quantity} (drawn to prior {prior})", LEARNED, count, value, *wilson(successes, trials))


def wilson(successes: int, trials: int) -> tuple[float, float]:
    """95 % interval of a rate.

    Source: Wilson, "Probable inference, the law of succession, and statistical inference", JASA 1927.
    """
    z = 1.959964
    rate, spread = successes / trials, z * z / trials
    middle = (rate + spread / 2) / (1 + spread)
    half = z * math.sqrt(rate * (1 - rate) / trials + spread / (4 * trials)) / (1 + spread)
    return max(middle - half, 0.0), min(middle + half, 1.0)


def evidence_table(rows: Iterable[Evidence]) -> pd.DataFrame:
    """One row a quantity: `quantity`, `source`, `evidence`, `value`, `low`, `high`."""
    return pd.DataFrame(
        [(row.quantity, row.source, row.count, row.value, row.low, row.high) for row in rows],
        columns=["quantity", "source", "evidence", "value", "low", "high"],
    )
