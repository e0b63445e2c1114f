"""How well shoppers fitted on real logs foretell what shoppers did later.

    python benchmarks/real_shoppers.py --data FOLDER    # the public logs, see benchmarks/real_logs.py
    python benchmarks/real_shoppers.py --quick          # the same measurement on less, some 2 CPU minutes
    python benchmarks/real_shoppers.py --log gmerch --pictures FOLDER   # one of the logs; curves and funnel as PNG

Each log is cut by time; shoppers of both families are fitted on the earlier sessions (session encoders too are
pretrained on these alone) and judged on the later ones, beside simpler models fitted on the same sessions. `encoder`
was pretrained on the very sessions that its shopper was fitted on; `encoder of other shoppers`, as `slatewise fit` has
it, on half of the shoppers, and its shopper was fitted on the other half.

  log likelihood  nats a slate, or a next view, and what each model has more of it than the simple one
  AUC             that what was clicked ranks above what was not: of its slate (within), and of all slates (all)
  calibration     expected error of each part's chances, beside what right chances would seem to be off by (floor)
  funnel, time    carts, purchases and pauses against one chance, or one log-normal, for all;
                  pauses are foretold from the session's earlier ones
  telling         AUC at which trees tell simulated sessions from real ones, beside real from real (the floor), and by
                  how much independent clicks are told more easily

The simple model of slates is a multinomial logit of place, slate size and the item's click rate (empirical Bayes); of
next views, a mixture of what followed the item before, drawn to popularity, and of the session's earlier items.
`independent clicks` is the usual open simulator's way, see benchmarks/independent_clicks.py: once with all that the
boosted family knows of the session, once with place and item alone. trivago keeps only slates that were clicked: there
chances are fitted and judged given a click, and how often slates are clicked is a prior. eshop2008, jd_micro and
tmall2013 show no slates: there the next view is foretold among the item viewed and 50 sampled alternatives. Intervals
(95 %) come from resampling shoppers. The last line is one JSON object.
"""

import argparse
import json
import tempfile
import warnings
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from clock import cpu_seconds, told
from foretelling import (
    dwell_gains,
    funnel_gains,
    given_a_click,
    model_table,
    next_views_as_slates,
    place_curve,
    rates,
)
from independent_clicks import PLACE_AND_ITEM, IndependentClicks
from machine import describe
from real_logs import DATA, LOGS
from repeat_purchases import bought_again, known_items, returns
from shopper_tables import draw, printed
from simple_choice import AGAIN, PlaceSizeItem, next_view_models
from telling import telling
from token_parts import parts_in

from slatewise.datasets import Catalogue, ShopLog
from slatewise.encoders import PretrainConfig, TextEncoder
from slatewise.encoders.pretrain import pretrain
from slatewise.errors import SharedSessionsWarning
from slatewise.simulators import (
    FitConfig,
    Foretold,
    calibration_errors,
    calibration_table,
    fit_boosted,
    fit_shopper,
)
from slatewise.simulators.choice_evidence import ALL_CLICKED
from slatewise.simulators.foretold import FITTED
from slatewise.simulators.observed import After, judged_by
from slatewise.simulators.occasions import next_views
from slatewise.simulators.visits import logged_visits, simulated_visits

ENCODER, APART, BOOSTED = "encoder", "encoder of other shoppers", "boosted"
SIMPLE = "place, size and item rate"
PEERS, PEERS_ITEM = "independent clicks", "independent clicks, place and item"
SEED = 0


@dataclass(frozen=True)
class Study:
    """How a log is studied.

    Attributes:
        until: day before which sessions are learnt from; empty for the first four fifths.
        sessions: the latest that are used; all by default.
        pretraining: settings of the encoder, where they are not the package's defaults.
        views: next views learnt from at most.
        telling: whether classifiers tell simulated sessions from real ones.
        runs: of simulated sessions; one of 80 carts tells purchases a cart to some four points in a hundred.
    """

    until: str = ""
    sessions: int | None = None
    pretraining: dict[str, Any] = field(default_factory=dict)
    views: int = 20_000
    telling: bool = False
    runs: int = 10


FULL = {
    "gmerch": Study(until="2017-02-01", telling=True),
    "eshop2008": Study(sessions=10_000, telling=True),
    "trivago": Study(sessions=2_000),
    "jd_micro": Study(),
    "tmall2013": Study(),
}
QUICK = {
    "gmerch": Study(until="2017-02-01", pretraining={"epochs": 4}, telling=True, runs=2),
    "eshop2008": Study(sessions=1_000, pretraining={"epochs": 3}, views=2_000, telling=True),
    "trivago": Study(sessions=400, pretraining={"epochs": 2}),
    "jd_micro": Study(sessions=200, pretraining={"epochs": 2}, views=2_000),
    "tmall2013": Study(sessions=2_000, pretraining={"epochs": 2}, views=2_000),
}


def cut(log: ShopLog, study: Study) -> tuple[ShopLog, ShopLog]:
    """Sessions to learn from and sessions to judge by."""
    if study.sessions and study.sessions < len(log):
        log = with_its_items(log.part(np.arange(len(log) - study.sessions, len(log))))
    if not study.until:
        early, later = log.split_at(0.8)
        return early, later
    late = log.sessions["start"].to_numpy(dtype="datetime64[us]") >= np.datetime64(study.until)
    return log.part(~late), log.part(late)


def with_its_items(log: ShopLog) -> ShopLog:
    """The log with a catalogue of the items that occur in it."""
    frame = log.catalogue.frame
    there = frame["item_id"].isin(log.events["item_id"].unique())
    return ShopLog(log.events, Catalogue(frame[there].reset_index(drop=True)), log.facts)


def fitted(name: str, early: ShopLog, study: Study, scratch: Path) -> dict[str, Any]:
    """Shoppers of both families, one of them twice."""
    parts = tuple(parts_in(early))
    width = TextEncoder().dim if "text" in parts else 0
    n = early.catalogue.n_items
    text = TextEncoder().encode(early.catalogue.texts()) if width else np.zeros((n, 0), np.float32)
    config = PretrainConfig(seed=SEED, parts=parts, **study.pretraining)
    settings = FitConfig(held_out=0, members=0, max_next_views=study.views, seed=SEED)
    halves, found = [early.shopper_half(half) for half in (0, 1)], {}
    for model, (before, here) in {ENCODER: (early, early), APART: halves}.items():
        folder = scratch / "shoppers" / f"{name}-{model.replace(' ', '-')}"
        encoder = pretrain(before, folder, config=config, text=text, force=True)
        told(f"{name}: {model}: the encoder is trained")
        with warnings.catch_warnings():
            if model == ENCODER:  # to show what comes of it
                warnings.simplefilter("ignore", SharedSessionsWarning)
            found[model] = fit_shopper(here, encoder, config=settings)
        told(f"{name}: {model}: the shopper is fitted")
    found[BOOSTED] = fit_boosted(early, config=settings)
    told(f"{name}: {BOOSTED}: the shopper is fitted")
    return found


def peers(early: ShopLog, study: Study) -> dict[str, IndependentClicks]:
    """Shoppers of the usual way."""
    settings = FitConfig(held_out=0, max_next_views=study.views, alternatives=15, seed=SEED)
    return {
        PEERS: IndependentClicks(early, config=settings),
        PEERS_ITEM: IndependentClicks(early, PLACE_AND_ITEM, config=settings),
    }


def of_slates(name: str, early: ShopLog, later: ShopLog, study: Study, scratch: Path) -> dict[str, Any]:
    """Everything measured on a log with slates."""
    ours, others = fitted(name, early, study, scratch), peers(early, study)
    told(f"{name}: independent clicks are fitted")
    every_click = float((early.slates.clicked >= 0).mean()) > ALL_CLICKED
    seen = {model: one.foretell(later, seed=SEED) for model, one in (ours | others).items()}
    first = seen[ENCODER]
    choices = {model: one.choices[FITTED] for model, one in seen.items()}
    simple = PlaceSizeItem.fit(early, first.items.shape[1])
    choices[SIMPLE] = simple.foretell(first.items, first.clicked)
    for model in (APART, BOOSTED):
        choices |= {f"{model}: {rival}": one for rival, one in seen[model].choices.items() if rival != FITTED}
    whole = replace(first, choices=choices)
    if every_click:
        whole, seen = given_a_click(whole), {model: given_a_click(one) for model, one in seen.items()}
    found = _counts(early, later) | {"given_a_click": every_click}
    found["models"] = model_table(whole, whole.choices, SIMPLE, every_slot=True, seed=SEED)
    found["places"] = place_curve(whole, whole.choices, SEED)
    found |= _parts(ours, {model: seen[model] for model in ours}, After.of_slates(early.slates), clock=True)
    told(f"{name}: everything is foretold")
    if not every_click:
        found["rates"] = {"real": rates([logged_visits(later)[0]], SEED)}
        for model, shopper in (ours | others).items():
            lengths = bool(later.facts.get("length_biased"))
            runs = [simulated_visits(shopper, later, seed=seed, same_length=lengths) for seed in range(study.runs)]
            found["rates"][model] = rates(runs, SEED)
    if study.telling:
        found["telling"] = telling(ours | others, later, PEERS, SEED, told)
    return found


def of_views(name: str, early: ShopLog, later: ShopLog, study: Study, scratch: Path) -> dict[str, Any]:
    """Everything measured on a log without slates."""
    ours = fitted(name, early, study, scratch)
    seen = {model: one.foretell(later, seed=SEED) for model, one in ours.items()}
    choices = {model: one.choices[FITTED] for model, one in seen.items()}
    _, occasions = judged_by(later, later.catalogue.n_items, False, SEED)
    choices |= next_view_models(early, later, occasions)
    others = peers(early, study) if study.telling else {}
    choices |= {model: one.foretell(later, seed=SEED).choices[FITTED] for model, one in others.items()}
    found = _counts(early, later)
    found["models"] = model_table(seen[ENCODER], choices, AGAIN, every_slot=False, seed=SEED)
    dressed = {model: next_views_as_slates(one, later, SEED) for model, one in ours.items()}
    rng = np.random.default_rng(SEED)
    learnt = next_views(early, alternatives=1, most=study.views, rng=rng)
    found |= _parts(ours, dressed, After.of_views(early, learnt), clock=early.facts.get("clock") != "order")
    told(f"{name}: everything is foretold")
    if study.telling:
        found["telling"] = telling(ours | others, later, PEERS, SEED, told)
    if early.sessions["shopper_id"].nunique() < len(early):  # else every visit is another shopper's
        whole = ShopLog(pd.concat([early.events, later.events], ignore_index=True), early.catalogue, early.facts)
        found["returns"] = returns(whole, SEED)  # observed alone: the shoppers fitted here foretell no return
        found["bought_again"] = bought_again(early, later, SEED)
        found["known_items"] = known_items(whole, later, dressed, SEED)
    return found


def _parts(ours: dict[str, Any], seen: dict[str, Foretold], early: After, clock: bool) -> dict[str, Any]:
    """Calibration, funnel, time and evidence of both families."""
    found: dict[str, Any] = {name: {} for name in ("calibration", "bins", "funnel", "time", "evidence")}
    for model, shopper in ours.items():
        one = seen[model]
        assert one.slates is not None
        kept = ["examination", "choice", "leaving"] if shopper.model.from_slates else ["choice"]
        kept += ["cart", "purchase"] if (early.outcome > 1).any() else []  # of what the log tells nothing of
        errors, bins = calibration_errors(shopper, one, seed=SEED), calibration_table(shopper, one)
        found["calibration"][model] = errors[errors["part"].isin(kept)].to_dict("records")
        found["bins"][model] = bins[bins["part"].isin(kept)].to_dict("records")
        found["funnel"][model] = funnel_gains(one, early.outcome, SEED)
        later = After.of_slates(one.slates)
        pauses = shopper.model.own.dwell
        found["time"][model] = dwell_gains(pauses, early, later, one.session, one.shopper, SEED) if clock else {}
        found["evidence"][model] = shopper.report["evidence"]
    return found


def _counts(early: ShopLog, later: ShopLog) -> dict[str, Any]:
    found = {}
    for name, log in (("learnt_from", early), ("judged_by", later)):
        found[name] = {"sessions": len(log), "shoppers": int(log.sessions["shopper_id"].nunique())}
        if len(log.slates):
            found[name] |= {"slates": len(log.slates), "clicks": int((log.slates.clicked >= 0).sum())}
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=DATA, help=f"folder of the logs; {DATA}")
    parser.add_argument("--log", action="append", choices=FULL, help="once or more; all")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--pictures", type=Path, help="folder for pictures of places, funnel and calibration")
    parser.add_argument("--keep", type=Path, help="folder that keeps logs and encoders; otherwise they are thrown away")
    args = parser.parse_args()
    torch.set_num_threads(1)
    studies, tables = QUICK if args.quick else FULL, {}
    with tempfile.TemporaryDirectory() as temporary:
        scratch = args.keep or Path(temporary)
        scratch.mkdir(parents=True, exist_ok=True)
        for name in args.log or studies:
            early, later = cut(LOGS[name](args.data, scratch), studies[name])
            measure = of_slates if len(early.slates) else of_views
            tables[name] = measure(name, early, later, studies[name], scratch)
            print(printed(name, tables[name]), flush=True)
            if args.pictures:
                draw(name, tables[name], (ENCODER, APART, BOOSTED), (SIMPLE, PEERS), args.pictures)
    print(
        json.dumps(
            {
                "benchmark": "real_shoppers",
                "date": datetime.now(UTC).date().isoformat(),
                "quick": args.quick,
                "seeds": [SEED],
                "machine": describe(),
                "cpu_seconds": cpu_seconds(),
                **{
                    f"{name}_{row['model']}_gain": row["gain"]
                    for name, found in tables.items()
                    for row in found["models"]
                    if row["model"] in (ENCODER, APART, BOOSTED)
                },
                "rows": tables,
            }
        )
    )


if __name__ == "__main__":
    main()
