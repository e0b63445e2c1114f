"""Fit how many of an item are bought at once, by maximum posterior likelihood.

Shapes: P purchases, G groups of purchases of one item in one quantity, N items, L features.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.optimize import minimize

from ..datasets.log import ShopLog
from ..datasets.schema import Event
from ..datasets.tokens import Ints
from .features import ItemFacts
from .observed import shopper_numbers
from .priors import LEARNED, Evidence, Priors
from .quantities import QUANTITY_FEATURES, Quantities, outnumbering, quantity_features

Doubles = NDArray[np.float64]
CAP_AT = 0.999
"""Share of purchases that are of no more than the cap; larger ones count as the cap. Single orders of tens of
thousands, cancelled later, would otherwise decide the tail."""
LEVEL_SD, WEIGHT_SD = 2.0, 1.0
"""Standard deviations of priors: of the level and the log of the spread, and of a feature's weight."""
UNITS = "mean quantity of a purchase"
_L = len(QUANTITY_FEATURES)
_STEP = 1e-4


@dataclass(frozen=True, slots=True)
class Bought:
    """Purchases of a log whose quantity it tells; what a session bought of one item is one purchase.

    Attributes:
        item: (P,). quantity: (P,), at least 1. session: (P,). shopper: (P,) as a number.
    """

    item: Ints
    quantity: Ints
    session: Ints
    shopper: Ints

    def __len__(self) -> int:
        return len(self.item)

    @classmethod
    def of(cls, log: ShopLog) -> "Bought":
        """The purchases of a log."""
        told = (log.events["event"] == Event.PURCHASE.label) & log.events["quantity"].notna()
        there = np.flatnonzero(told.to_numpy())
        item = log.catalogue.index_of(log.events["item_id"].to_numpy(dtype=object)[there])
        number = log.events["quantity"].iloc[there].to_numpy(dtype=np.int64)
        known = item > 0
        session = log.session_of_event[there][known]
        key, at = np.unique(session * (log.catalogue.n_items + 1) + item[known], return_inverse=True)
        total = np.bincount(at, number[known], len(key)).astype(np.int64)
        session, item = np.divmod(key, log.catalogue.n_items + 1)
        return cls(item, total, session, shopper_numbers(log)[session])


@dataclass(frozen=True, slots=True)
class QuantityFit:
    """Most likely parameters: L weights and the log of the spread.

    Attributes:
        theta: (L + 1,). errors: (L + 1,) standard errors, clustered by shopper; nan where not asked for.
        heavy: whether the law is the heavy-tailed one. cap: see `Quantities`.
        ahead: log likelihood by which it is ahead of the other law.
    """

    theta: Doubles
    errors: Doubles
    heavy: bool
    cap: int
    ahead: float


@dataclass(frozen=True, slots=True)
class LearnedQuantities:
    """How many are bought, the fit (none where there was too little), and what it rests on."""

    quantities: Quantities
    fit: QuantityFit | None
    evidence: Evidence


def learn_quantities(
    bought: Bought,
    weight: Doubles,
    facts: ItemFacts,
    priors: Priors,
    least: int,
    start: LearnedQuantities | None = None,
) -> LearnedQuantities:
    """Fit the quantities of purchases.

    With fewer than `least` purchases of more than one, all items have one geometric law, whose mean counts the prior as
    if it had been seen `least` times; without any quantity it is the prior.

    Args:
        bought: purchases.
        weight: (sessions,) how often each session counts.
        facts: of the items.
        priors: what is assumed.
        least: see above.
        start: a fit of other weights to begin from, whose law and cap are kept; then without errors.
    """
    often, n_items = weight[bought.session], len(facts.price) - 1
    if not often.any() and start is not None:  # of shoppers drawn with replacement none may have bought
        return start
    if not often.any():
        assumed = Evidence.assumed(UNITS, "no quantities", "units_per_purchase", priors)
        return LearnedQuantities(Quantities.constant(priors.units_per_purchase, n_items), None, assumed)
    cap = start.fit.cap if start and start.fit else _cap(bought.quantity)
    held, above = replace(bought, quantity=np.minimum(bought.quantity, cap)), int((bought.quantity > cap).sum())
    capped = f", {above} of more than {cap} counted as {cap}" if above else ""
    if (bought.quantity > 1).sum() < least:
        more = float(often @ (held.quantity - 1)) + least * (priors.units_per_purchase - 1)
        mean = 1 + more / (float(often.sum()) + least)
        told = _evidence(held, often, capped, "")
        if mean != told.value:
            told = replace(told, quantity=f"{UNITS} (drawn to prior units_per_purchase)", value=mean)
        return LearnedQuantities(Quantities.constant(mean, n_items), None, told)
    x = quantity_features(facts)
    if start and start.fit:
        fit = _fitted(held, often, x, cap, start.fit.heavy, start.fit.theta, errors=False)[0]
    else:
        laws = [_fitted(held, often, x, cap, heavy, None, errors=start is None) for heavy in (True, False)]
        (fit, best), (_, other) = sorted(laws, key=lambda one: -one[1])
        fit = replace(fit, ahead=best - other)
    found = Quantities.of(fit.theta[:_L], float(np.exp(fit.theta[_L])), fit.heavy, cap, facts)
    kinds = ("rounded log-normal", "negative binomial")
    kind, rival = kinds if fit.heavy else kinds[::-1]
    words = f"; {kind}, {fit.ahead:.1f} nats ahead of {rival}"
    return LearnedQuantities(found, fit, _evidence(held, often, capped, words))


def quantity_calibration(quantities: Quantities, bought: Bought, *, bins: int = 5) -> pd.DataFrame:
    """Foretold and observed mean quantities, grouped by what is foretold.

    Args:
        quantities: how many are bought.
        bought: purchases that it was not fitted on; more than the cap count as the cap.
        bins: groups of about equal size.

    Returns:
        One row a group: `group`, from the smallest; `count`; `predicted` and `observed` mean; `low` and `high`, the
        95 % interval of what was observed, over shoppers.
    """
    foretold = quantities.mean.cpu().double().numpy()[bought.item]
    number = np.minimum(bought.quantity, int(quantities.cap))
    edges = np.unique(np.quantile(foretold, np.arange(1, bins) / bins)) if len(bought) else []
    group, rows = np.searchsorted(edges, foretold, side="right"), []
    for one in np.unique(group):
        there = group == one
        mean, margin = _mean(number[there], np.ones(int(there.sum())), bought.shopper[there])
        rows.append((1 + int(one), int(there.sum()), float(foretold[there].mean()), mean, mean - margin, mean + margin))
    return pd.DataFrame(rows, columns=["group", "count", "predicted", "observed", "low", "high"])


def _mean(number: Ints, often: Doubles, shopper: Ints) -> tuple[float, float]:
    """A mean and the half of its 95 % interval, over shoppers."""
    mean = float(np.average(number, weights=often))
    excess = np.bincount(shopper, often * (number - mean))
    return mean, 1.96 * float(np.sqrt((excess**2).sum())) / float(often.sum())


def _cap(quantity: Ints) -> int:
    """The quantity that `CAP_AT` of all do not exceed, nor the third largest: of few, two may still be odd."""
    beyond = max(int((1 - CAP_AT) * len(quantity)), min(2, len(quantity) - 1))
    return int(np.sort(quantity)[-1 - beyond])


def log_chances(quantity: Ints, location: Doubles, spread: float, heavy: bool, cap: int) -> Doubles:
    """(G,) log chance of each quantity (G,) at most the cap, which stands for all above."""
    at_least = outnumbering(quantity - 1, location, spread, heavy)
    above = np.where(quantity < cap, outnumbering(quantity, location, spread, heavy), 0.0)
    return np.log(np.maximum(at_least - above, 1e-300))


def _fitted(
    bought: Bought, often: Doubles, x: Doubles, cap: int, heavy: bool, begin: Doubles | None, *, errors: bool
) -> tuple[QuantityFit, float]:
    """The fit of one law, and its log posterior; purchases alike in item and quantity are added up."""
    key, at = np.unique(bought.item * (cap + 1) + bought.quantity, return_inverse=True)
    item, quantity = np.divmod(key, cap + 1)
    count, features = np.bincount(at, often, len(key)), x[item]
    spread = np.array([LEVEL_SD, *[WEIGHT_SD] * (_L - 1), LEVEL_SD])

    def told(theta: Doubles) -> Doubles:
        return log_chances(quantity, features @ theta[:_L], float(np.exp(theta[_L])), heavy, cap)

    def loss(theta: Doubles) -> float:
        return float(0.5 * ((theta / spread) ** 2).sum() - count @ told(theta))

    def slope(theta: Doubles) -> Doubles:
        return theta / spread**2 - count @ _slopes(told, theta)

    first = np.append(np.log(np.average(bought.quantity, weights=often)), np.zeros(_L)) if begin is None else begin
    found = minimize(loss, first, jac=slope, method="BFGS", options={"gtol": 1e-5 * float(count.sum())}).x
    doubt = np.full(_L + 1, np.nan)
    if errors:
        bread = np.linalg.inv(_slopes(slope, found))
        summed = np.zeros((int(bought.shopper.max()) + 1, _L + 1))
        np.add.at(summed, bought.shopper, often[:, None] * _slopes(told, found)[at])
        doubt = np.sqrt(np.diag(bread @ summed.T @ summed @ bread))
    return QuantityFit(found, doubt, heavy, cap, 0.0), -loss(found)


def _slopes(of: Callable[[Doubles], Doubles], theta: Doubles) -> Doubles:
    """(..., P) slopes of a function of parameters (P,), by central differences."""
    steps = _STEP * np.eye(len(theta))
    return np.stack([(of(theta + step) - of(theta - step)) / (2 * _STEP) for step in steps], -1)


def _evidence(bought: Bought, often: Doubles, capped: str, words: str) -> Evidence:
    """What the mean quantity rests on; its interval is over shoppers."""
    mean, margin = _mean(bought.quantity, often, bought.shopper)
    low = max(mean - margin, 1.0)
    return Evidence(UNITS, LEARNED, f"{len(bought)} purchases{capped}{words}", mean, low, mean + margin)
