"""Who comes back and buys again: what a log says of shoppers across their visits, and what fitted shoppers make of it.

Shapes: S occasions, E events.
"""

from typing import Any

import numpy as np
import pandas as pd
from foretelling import RESAMPLES
from numpy.typing import NDArray

from slatewise.datasets import ShopLog
from slatewise.simulators import Foretold
from slatewise.simulators.likelihood import bootstrap_mean

WITHIN = (1, 7, 30)
"""Days within which a return is counted."""


def returns(log: ShopLog, seed: int = 0) -> list[dict[str, Any]]:
    """Share of visits that the shopper's next one follows within some days, with intervals over shoppers.

    Only visits count that began so many days before the log's end, for what came later is not known.

    Returns:
        Rows of `days`, `visits`, `observed`, `interval`; a row where the log is shorter is left out.
    """
    visits = log.sessions[["shopper_id", "start"]].sort_values(["shopper_id", "start"], kind="stable")
    day = visits["start"].to_numpy(dtype="datetime64[us]").astype(np.float64) / 86_400e6
    following = pd.Series(day, visits.index).groupby(visits["shopper_id"]).shift(-1)
    apart, left = following.to_numpy(dtype=float) - day, day.max() - day
    owner = pd.factorize(visits["shopper_id"])[0]
    rows = []
    for days in WITHIN:
        told = left >= days
        if told.any():
            row = {"days": days, "visits": int(told.sum())}
            rows.append(row | _rate(apart[told] <= days, owner[told], seed))
    return rows


def bought_again(early: ShopLog, later: ShopLog, seed: int = 0) -> list[dict[str, Any]]:
    """Share of (shopper, item) pairs bought in later sessions, by what the shopper had done with the item before.

    Only shoppers seen in both parts count, so that who never came back says nothing of items.

    Returns:
        Rows of `before` (`bought`, `only viewed`), `pairs`, `observed`, `interval`.
    """
    both = set(early.sessions["shopper_id"]) & set(later.sessions["shopper_id"])
    before, after = _pairs(early), _pairs(later)
    before = before[before["shopper_id"].isin(both)]
    again = after[after["bought"]][["shopper_id", "item_id"]].assign(again=True)
    joined = before.merge(again, on=["shopper_id", "item_id"], how="left")
    bought, owner = joined["bought"].to_numpy(dtype=bool), pd.factorize(joined["shopper_id"])[0]
    happened = joined["again"].notna().to_numpy()
    rows = []
    for name, there in (("bought", bought), ("only viewed", ~bought)):
        if there.any():
            row = {"before": name, "pairs": int(there.sum())}
            rows.append(row | _rate(happened[there], owner[there], seed))
    return rows


def _pairs(log: ShopLog) -> pd.DataFrame:
    """Each shopper and item once, and whether it was bought."""
    events = log.events[["shopper_id", "item_id", "event"]]
    bought = (events["event"] == "purchase").groupby([events["shopper_id"], events["item_id"]]).any()
    return bought.rename("bought").reset_index()


def known_items(whole: ShopLog, later: ShopLog, foretold: dict[str, Foretold], seed: int = 0) -> list[dict[str, Any]]:
    """Purchases of what was viewed in later sessions, by whether the shopper had bought the item on an earlier visit.

    Args:
        whole: all sessions.
        later: those foretold.
        foretold: by model, next views of `later` as of `foretelling.next_views_as_slates`.
        seed: of the intervals.

    Returns:
        Rows of `item` (`bought before`, `not bought before`), `views`, `observed` chance of a purchase with `interval`,
        and `foretold` by model.
    """
    bought = whole.events[whole.events["event"] == "purchase"]
    first = bought.groupby(["shopper_id", "item_id"])["time"].min().rename("first").reset_index()
    seen = next(iter(foretold.values()))
    sessions = later.sessions.iloc[seen.session].reset_index(drop=True)
    ids = later.catalogue.frame["item_id"].to_numpy()[seen.items[:, 0].numpy() - 1]
    asked = sessions[["shopper_id", "start"]].assign(item_id=ids)
    joined = asked.merge(first, on=["shopper_id", "item_id"], how="left")
    known = (joined["first"] < joined["start"]).to_numpy(dtype=bool)
    assert seen.slates is not None
    happened = seen.slates.purchased
    rows = []
    for name, there in (("bought before", known), ("not bought before", ~known)):
        if there.any():
            row = {"item": name, "views": int(there.sum())} | _rate(happened[there], seen.shopper[there], seed)
            rows.append(row | {"foretold": {model: _bought(one, there) for model, one in foretold.items()}})
    return rows


def _bought(seen: Foretold, there: NDArray[np.bool_]) -> float:
    """Mean foretold chance of a purchase given the view."""
    assert seen.cart is not None
    assert seen.purchase is not None
    return float((seen.cart * seen.purchase).numpy()[there].mean())


def _rate(happened: NDArray[np.bool_], owner: NDArray[np.int64], seed: int) -> dict[str, Any]:
    group = np.unique(owner, return_inverse=True)[1]
    interval = bootstrap_mean(happened.astype(np.float64), group, RESAMPLES, seed)
    return {"observed": float(happened.mean()), "interval": list(interval)}
