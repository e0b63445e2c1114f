"""What a log lacks, and what a fit takes instead: rows of the table that says what was learned and what assumed."""

import numpy as np

from ..datasets.log import ShopLog
from ..datasets.schema import Event
from .priors import ASSUMED, Evidence


def gaps(log: ShopLog, from_slates: bool) -> list[Evidence]:
    """What was taken for facts that the log lacks; no rows for a log that lacks none.

    Args:
        log: the sessions learnt from.
        from_slates: whether choices are learnt from slates.
    """
    rows = []
    shoppers, unpriced = log.sessions["shopper_id"].nunique(), ~np.isfinite(log.catalogue.known_prices[1:])
    if unpriced.any():
        middle, count = float(log.catalogue.prices[1:][unpriced][0]), f"{unpriced.sum()} of {len(unpriced)} items"
        rows.append(Evidence("price of an item without one (the median of the others)", ASSUMED, count, middle))
    if shoppers == 1:
        rows.append(Evidence("sessions as unlike as those of different shoppers", ASSUMED, "1 shopper", float("nan")))
    shown = log.events[(log.events["event"] == Event.IMPRESSION.label) & log.events["slate_id"].notna()]
    unplaced = int(shown["position"].isna().sum())
    if from_slates and unplaced:
        count = f"{unplaced} of {len(shown)} impressions without a position"
        rows.append(Evidence("place on the slate (by the order logged)", ASSUMED, count, float("nan")))
    if log.clicks_elsewhere:
        clicks = int((log.events["event"] == Event.CLICK.label).sum())
        count = f"{log.clicks_elsewhere} of {clicks} clicks"
        rows.append(Evidence("no click on a slate that did not show its item", ASSUMED, count, float("nan")))
    return rows


def slates_are_short(log: ShopLog) -> str:
    """What the log has of slates, where that is too little to learn choices from."""
    slates = log.slates
    return f"{(slates.clicked >= 0).sum()} clicks on {len(slates)} slates" if len(slates) else "no slates"


def lengths_untold(log: ShopLog, from_slates: bool, clicks_known: bool) -> str | None:
    """Why the log cannot tell how many slates a session has; none where it can.

    Args:
        log: the sessions learnt from.
        from_slates: whether choices are learnt from slates.
        clicks_known: whether slates were kept that were not clicked.
    """
    if not from_slates:
        return slates_are_short(log)
    if not clicks_known:
        return f"{slates_are_short(log)}, and none without one"
    return "sessions sampled by length" if log.facts.get("length_biased") else None
