"""How real a simulated shopper is: what it foretells of sessions it was not fitted on, and what it does in their place.

Everything is judged on sessions held out, with intervals over shoppers, and beside a floor: how far real shoppers are
from each other, or what a perfect simulator would come to.
"""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import pandas as pd

from ..datasets.log import ShopLog
from ..datasets.tokens import Ints
from ..errors import EvidenceError
from .calibration import calibration_errors, calibration_table
from .choice_evidence import ALL_CLICKED
from .distances import Measure, distance_table, halvings
from .foretold import Foretells, Foretold
from .likelihood import auc_intervals, slate_likelihood
from .replay import Progress
from .report import records
from .session_measures import Comparable, ItemColumns, measures_of, session_features
from .shopper import Shopper
from .two_sample import classifier_two_sample
from .visits import Visits, logged_visits, next_views_made, simulated_visits

_BARS = 24  # of a distribution's picture, at most
_FEWEST = 100  # halvings, permutations and resamples: with fewer no distance could be more than chance
_HALVED = 20  # halvings that classifiers learn from


@dataclass(frozen=True)
class Realism:
    """What a comparison found, as plain tables; a table that does not apply is empty.

    Attributes:
        facts: `sessions`, `shoppers`, `slates` (or next views) and `clicks` of the log; `simulated_slates`; `borrowed`,
            the share of them that other sessions of the log were shown; `from_slates`; `seed`, `resamples`.
        notes: sentences for the reader: what could not be compared and why.
        likelihood: see `slate_likelihood`; and `auc_low`, `auc_high` of the AUC's 95 % interval.
        calibration: see `calibration_table`. errors: see `calibration_errors`.
        distances: see `distance_table`.
        shapes: distributions to draw, a row a bar: `measure`, `unit`, `start`, `end`, `real` and `simulated` share.
        places: a row a place of the slate: `place` from 1; `real` and `simulated` share of slates with an item there
            that were clicked there, with `real_low`, `real_high`, `simulated_low`, `simulated_high`.
        classifier, telling: see `TwoSample`.
    """

    facts: Mapping[str, Any]
    notes: tuple[str, ...]
    likelihood: pd.DataFrame
    calibration: pd.DataFrame
    errors: pd.DataFrame
    distances: pd.DataFrame
    shapes: pd.DataFrame
    places: pd.DataFrame
    classifier: pd.DataFrame
    telling: pd.DataFrame

    def to_rows(self) -> dict[str, Any]:
        """Plain JSON values; what is not a number is null."""
        tables = {name: getattr(self, name) for name in _TABLES}
        rows = {name: {"columns": list(table.columns), "rows": records(table)} for name, table in tables.items()}
        return {"facts": dict(self.facts), "notes": list(self.notes), **rows}

    @classmethod
    def from_rows(cls, rows: Mapping[str, Any]) -> "Realism":
        """What `to_rows` wrote."""
        tables = {name: pd.DataFrame(rows[name]["rows"], columns=rows[name]["columns"]) for name in _TABLES}
        return cls(dict(rows["facts"]), tuple(rows["notes"]), **tables)


_TABLES = tuple(one.name for one in fields(Realism) if one.name not in ("facts", "notes"))


def realism(
    shopper: Shopper,
    log: ShopLog,
    *,
    seed: int = 0,
    resamples: int = 200,
    progress: Progress | None = None,
) -> Realism:
    """Hold a simulated shopper against sessions that it was not fitted on.

    In a log with slates, simulated shoppers take the real ones' places and are shown their slates, see
    `simulated_visits`; in one without, they draw the next views among sampled alternatives, see `next_views_made`,
    which says how they choose but not how sessions unfold.

    Args:
        shopper: of either fitted family; or any other, of which only what it does is compared, not what it foretells.
        log: sessions held out, of the shopper's catalogue.
        seed: of the simulation, the halves and the resamples.
        resamples: halvings and bootstrap samples behind the intervals, and permutations, at least 100.
        progress: told of (done, total, words).

    Returns:
        The tables, the same for the same arguments, whatever the order of the log's sessions.

    Raises:
        EvidenceError: the log is of another catalogue, holds nothing to compare by, or fewer than 10 shoppers.
        ValueError: `resamples` is out of range.
    """
    if resamples < _FEWEST:
        raise ValueError(f"resamples must be at least {_FEWEST}, got {resamples}")
    if log.catalogue.n_items != shopper.n_items:
        raise EvidenceError(
            f"the log has {log.catalogue.n_items} items and the shopper {shopper.n_items}; fit it on this catalogue"
        )
    seen, judged = None, {name: pd.DataFrame() for name in ("likelihood", "calibration", "errors")}
    if isinstance(shopper, Foretells):
        seen = shopper.foretell(log, seed=seed, progress=progress)
        spans = auc_intervals(seen, resamples=resamples, seed=seed)
        table = slate_likelihood(shopper, seen, seed=seed).table
        judged["likelihood"] = table.assign(
            auc_low=[spans[name][0] for name in table["model"]], auc_high=[spans[name][1] for name in table["model"]]
        )
        judged["calibration"] = calibration_table(shopper, seen)
        judged["errors"] = calibration_errors(shopper, seen, resamples=resamples, seed=seed)
    can = _comparable(log, seen)
    if can.slates:
        real, _ = logged_visits(log)
        same_length = not (can.length and can.click_rate)
        simulated = simulated_visits(shopper, log, seed=seed, same_length=same_length, progress=progress)
    elif seen is not None and seen.correction is not None:
        real, simulated = next_views_made(log, seen, seed)
    else:
        raise EvidenceError(
            f"{len(log)} sessions show no slate, so only a fitted shopper's next views can be held against them; "
            f"{type(shopper).__name__} foretells none"
        )
    shoppers = int(real.shopper.max()) + 1
    if shoppers < 10:
        raise EvidenceError(f"the sessions held out are of {shoppers} shoppers; 10 are needed; hold out more")
    columns = ItemColumns.of(log.catalogue, real.items)
    measures = measures_of(real, simulated, columns, can)
    halves = halvings(shoppers, resamples, seed)
    if progress:
        progress(0, 2, "measuring distances")
    distances = distance_table(measures, halves, seed)
    if progress:
        progress(1, 2, "telling real sessions from simulated ones")
    names, ours = session_features(real, columns, can)
    _, theirs = session_features(simulated, columns, can)
    told = classifier_two_sample(names, ours, theirs, real.shopper, halves[:_HALVED], seed=seed)
    return Realism(
        facts=_facts(log, real, simulated, can, seed, resamples),
        notes=tuple(_notes(can, simulated, real)),
        **judged,
        distances=distances,
        shapes=_shapes(measures),
        places=_places(real, simulated, resamples, seed) if can.slates and can.click_rate else pd.DataFrame(),
        classifier=told.table,
        telling=told.telling,
    )


def _comparable(log: ShopLog, seen: Foretold | None) -> Comparable:
    """What the log, or what was foretold of it, can be compared in."""
    slates = log.slates if seen is None else seen.slates
    shown = slates is not None and len(slates) > 0
    every = shown and slates is not None and float((slates.clicked >= 0).mean()) <= ALL_CLICKED
    return Comparable(shown, not log.facts.get("length_biased"), bool(every))


def _facts(log: ShopLog, real: Visits, simulated: Visits, can: Comparable, seed: int, resamples: int) -> dict[str, Any]:
    return {
        "source": str(log.facts.get("source", "")),
        "sessions": len(real.shopper),
        "shoppers": int(real.shopper.max()) + 1,
        "slates": len(real),
        "clicks": int((real.clicked >= 0).sum()),
        "simulated_slates": len(simulated),
        "borrowed": float(simulated.borrowed.mean()),
        "from_slates": can.slates,
        "length_biased": not can.length,
        "seed": seed,
        "resamples": resamples,
    }


def _notes(can: Comparable, simulated: Visits, real: Visits) -> list[str]:
    """What a reader has to know of the comparison."""
    if not can.slates:
        return [
            "The log shows no slates. Compared is what was viewed next, one step ahead and each after what the shopper "
            "really did; how often slates are clicked, how far shoppers look, when they buy or leave and how popular "
            "what they choose is cannot be compared."
        ]
    said = []
    if not can.length:
        said.append(
            "The log’s sessions were sampled by length, so neither session length nor clicks and purchases of a "
            "session are compared. Simulated shoppers were shown as many slates as the real ones, whenever they would "
            "leave."
        )
    if not can.click_rate:
        said.append(
            "The log keeps only slates that were clicked, so how often slates are clicked and how long sessions are is "
            "not compared; figures of clicks are of those that simulated shoppers made on the same slates."
        )
    borrowed = float(simulated.borrowed.mean())
    if borrowed > 0:
        said.append(
            f"{100 * borrowed:.0f} % of the simulated slates were shown to shoppers who stayed longer than the session "
            "whose place they took, and come from other sessions of the log."
        )
    said.append(
        "Slates are the log’s: they do not answer what simulated shoppers do. Where the shop chose them by what the "
        "real shopper had just done, simulated clicks are fewer than they would be."
    )
    thin = int((real.clicked >= 0).sum())
    if thin < 200:
        said.append(f"Only {thin} clicks were held out: what differs little cannot be told.")
    return said


def _shapes(measures: list[Measure]) -> pd.DataFrame:
    """Shares of real and simulated values by bar, for every measure of numbers."""
    rows = []
    for one in measures:
        if one.kind != "numbers":
            continue
        both = np.concatenate([one.real.values, one.simulated.values])
        low, high = np.quantile(both, (0.005, 0.995))
        whole = bool((both == np.round(both)).all()) and high - low < _BARS
        edges = np.arange(np.floor(low), np.floor(high) + 2) - 0.5 if whole else np.linspace(low, high, _BARS + 1)
        edges = edges if len(edges) > 1 and edges[-1] > edges[0] else np.array([low - 0.5, low + 0.5])
        ours, theirs = (
            np.histogram(side.values.clip(edges[0], edges[-1]), edges)[0] / len(side.values)
            for side in (one.real, one.simulated)
        )
        rows += [(one.name, one.unit, *bar) for bar in zip(edges[:-1], edges[1:], ours, theirs, strict=True)]
    return pd.DataFrame(rows, columns=["measure", "unit", "start", "end", "real", "simulated"])


def _places(real: Visits, simulated: Visits, resamples: int, seed: int) -> pd.DataFrame:
    """Clicks by place, each side with its own interval over shoppers."""
    k, shoppers = real.items.shape[1], int(real.shopper.max()) + 1
    weights = np.random.default_rng(seed).multinomial(shoppers, np.full(shoppers, 1 / shoppers), size=resamples)
    found: dict[str, Any] = {"place": np.arange(1, k + 1)}
    for name, side in (("real", real), ("simulated", simulated)):
        owner = side.shopper[side.session]
        filled, clicked = _by_place(side.items > 0, owner, shoppers), np.zeros((shoppers, k))
        hit = np.flatnonzero(side.clicked >= 0)
        np.add.at(clicked, (owner[hit], side.clicked[hit]), 1)
        resampled = (weights @ clicked) / np.maximum(weights @ filled, 1)
        found[name] = clicked.sum(0) / np.maximum(filled.sum(0), 1)
        found[f"{name}_low"], found[f"{name}_high"] = np.quantile(resampled, (0.025, 0.975), axis=0)
    return pd.DataFrame(found)


def _by_place(filled: Any, owner: Ints, shoppers: int) -> Any:
    """(P, K) how often each place was filled before each shopper's eyes."""
    total = np.zeros((shoppers, filled.shape[1]))
    np.add.at(total, owner, filled)
    return total
