"""How far fitted shoppers can be believed: fitted on logs of shops whose truth is known, and held against it.

    python benchmarks/known_truth.py                  # four shops, logs of 20,000 sessions; an hour of one processor
    python benchmarks/known_truth.py --quick          # the same measurement on one small shop, some three minutes
    python benchmarks/known_truth.py --keep FOLDER    # shops already measured are read back

For each shop: a log under a logging policy whose propensities are known; the encoder of the shopper from one half of
its shoppers, and the shopper with its ensemble from the other, carts and purchases from both; fifteen policies and one
learnt by PPO in the fitted shopper, each served to shoppers of the truth and of the ensemble until they leave. Then:

  tau       Kendall's rank correlation of the policies' rewards in the fitted shopper and in the truth
  error     median over policies and shops of |fitted - truth| / truth
  coverage  share of (policy, shop) cells in which the 90 % interval of the ensemble holds the truth

What was bought is counted by the chances of the items clicked, but for `boosted`: the luck of few purchases would blur
it. `views` is the same with all slates struck out of the log, so that how shoppers look and how often they click
nothing is assumed. `boosted` is the second family, which has no encoder. Truth and fit meet different shoppers.
Intervals of tau, errors and coverage (95 %) come from resampling shops, or policies where there is one shop. The last
line is one JSON object.
"""

import argparse
import json
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from clock import cpu_seconds, told
from likely_revenue import LikelyRevenue
from machine import describe
from shelf_policies import varied

from slatewise.agents import PPOConfig, train
from slatewise.datasets import KnownShop, KnownShopConfig
from slatewise.encoders import PretrainConfig, TextEncoder
from slatewise.encoders.pretrain import pretrain
from slatewise.envs.sb3 import SB3Bridge
from slatewise.evaluation import judge, summarise
from slatewise.simulators import FitConfig, KnownTruthShopper, collect_log, fit_boosted, fit_shopper
from slatewise.testing import only_views

METRICS = ("reward", "ctr", "conversion", "revenue", "slates")
LEVEL = 0.9
TRUTH, FITTED, VIEWS, BOOSTED = "truth", "fitted", "views", "boosted"
LEARNT = "PPO"


@dataclass(frozen=True)
class Study:
    """What is measured on each shop.

    Attributes:
        shops: their settings.
        sessions: of the log. k: slots. members: of the ensemble.
        shoppers: that judge each policy in the fitted shopper; twice as many in the truth.
        steps: slates that PPO learns on.
        pretraining: settings of the encoders, where they are not the defaults.
    """

    shops: tuple[KnownShopConfig, ...]
    sessions: int
    k: int
    members: int
    shoppers: int
    steps: int
    pretraining: dict[str, Any]


FULL = Study(tuple(KnownShopConfig.demo(seed) for seed in range(101, 105)), 20_000, 8, 20, 4_000, 100_000, {})
QUICK = Study((KnownShopConfig.small(101),), 1_500, 6, 6, 600, 4_000, {"epochs": 2})


def measure(config: KnownShopConfig, study: Study, folder: Path) -> pd.DataFrame:
    """One row a (simulator, policy, metric): mean and interval."""
    kept = folder / "values.json"
    if kept.is_file():
        return pd.DataFrame(json.loads(kept.read_text()))
    seed, shop = config.seed, KnownShop.make(config)
    truth = KnownTruthShopper(shop)
    log = collect_log(truth, shop.catalogue, sessions=study.sessions, k=study.k, seed=seed, again=0.5)
    shopper = log.sessions["shopper_id"].to_numpy()
    half = np.isin(shopper, np.unique(shopper)[::2])
    ours, others = log.part(np.flatnonzero(half)), log.part(np.flatnonzero(~half))
    text = TextEncoder().encode(log.catalogue.texts())
    encoders = {
        name: pretrain(part, folder / name, config=PretrainConfig(seed=seed, **study.pretraining), text=text)
        for name, part in (("policies", ours), ("shopper", others))
    }
    told(f"shop {seed}: {len(log)} sessions, {int((log.slates.clicked >= 0).sum())} clicks; encoders are trained")
    settings = FitConfig(held_out=0, members=study.members, seed=seed)
    fitted = fit_shopper(ours, encoders["shopper"], config=settings, others=others)
    views = fit_shopper(only_views(ours), encoders["shopper"], config=settings)
    boosted = fit_boosted(others, config=settings)
    told(f"shop {seed}: shoppers are fitted")
    encoder, available = encoders["policies"], log.catalogue.available
    policies: dict[str, Any] = varied(ours, encoder, fitted, study.k, seed)
    policies[LEARNT] = train(
        lambda _: SB3Bridge.make(16, shopper=fitted, encoder=encoder, k=study.k, available=available),
        folder / "ppo",
        config=PPOConfig(),
        item_vectors=encoder.item_vectors,
        available=available,
        seeds=[seed],
        total_timesteps=study.steps,
    )[0]
    told(f"shop {seed}: PPO has learnt")
    rows = []
    judges: dict[str, tuple[Any, int]] = {
        TRUTH: (LikelyRevenue(truth), 2),
        FITTED: (LikelyRevenue(fitted.ensemble()), 1),
        VIEWS: (LikelyRevenue(views.ensemble()), 1),
        BOOSTED: (boosted.ensemble(), 1),
    }
    for name, (simulator, many) in judges.items():
        outcomes = judge(
            policies,
            simulator,
            encoder,
            shoppers=many * study.shoppers,
            seed=seed + len(rows),
            k=study.k,
            observation="history",
            available=available,
            shopper_name=name,
        )
        rows.append(summarise(outcomes, METRICS, level=LEVEL, seed=seed))
        told(f"shop {seed}: judged by {name}")
    table = pd.concat(rows, ignore_index=True).assign(shop=seed)
    folder.mkdir(parents=True, exist_ok=True)
    kept.write_text(json.dumps(table.to_dict("records")))
    return table


def cells(table: pd.DataFrame, simulator: str, metric: str) -> pd.DataFrame:
    """One row a (shop, policy): `truth`, and `mean`, `low`, `high` in the simulator."""
    wanted = table[table["metric"] == metric].set_index(["shop", "policy"])
    ours = wanted[wanted["simulator"] == simulator][["mean", "low", "high"]]
    return ours.join(wanted[wanted["simulator"] == TRUTH]["mean"].rename("truth"))


def error(part: pd.DataFrame) -> float:
    """Median relative error."""
    return float(((part["mean"] - part["truth"]).abs() / part["truth"].clip(lower=1e-9)).median())


def tau(part: pd.DataFrame) -> float:
    """Mean over shops of the rank correlation of policies."""
    return float(part.groupby("shop").apply(lambda one: one["mean"].corr(one["truth"], method="kendall")).mean())


def covered(part: pd.DataFrame) -> float:
    """Share of cells whose interval holds the truth."""
    return float(((part["low"] <= part["truth"]) & (part["truth"] <= part["high"])).mean())


def with_interval(part: pd.DataFrame, of: Callable[[pd.DataFrame], float], draws: int = 1_000) -> list[float]:
    """A figure, and its 95 % interval."""
    rng, names = np.random.default_rng(0), part.index.names
    flat = part.reset_index()
    by = "shop" if flat["shop"].nunique() > 1 else "policy"
    groups = [group for _, group in flat.groupby(by)]
    found = []
    for _ in range(draws):
        numbers = enumerate(rng.integers(len(groups), size=len(groups)).tolist())
        drawn = pd.concat([groups[one].assign(**{by: place}) for place, one in numbers])
        found.append(of(drawn.set_index(list(names))))
    low, high = np.nanquantile(found, [0.025, 0.975])
    return [of(part), float(low), float(high)]


def figures(table: pd.DataFrame) -> dict[str, dict[str, list[float]]]:
    """Figures of each simulator, each with its interval."""
    found: dict[str, dict[str, list[float]]] = {}
    for simulator in (FITTED, VIEWS, BOOSTED):
        mine = {"kendall_tau": with_interval(cells(table, simulator, "reward"), tau)}
        mine |= {f"{metric}_error": with_interval(cells(table, simulator, metric), error) for metric in METRICS}
        for metric in METRICS:
            mine[f"{metric}_coverage"] = with_interval(cells(table, simulator, metric), covered)
        found[simulator] = mine
    return found


def printed(table: pd.DataFrame, found: dict[str, dict[str, list[float]]]) -> str:
    """The tables for people."""
    lines = []
    for shop, part in table.groupby("shop"):
        lines.append(f"\nshop {shop}: clicks a slate and reward a session, truth | fitted | views | boosted")
        shown = part[part["metric"].isin(["ctr", "reward"])]
        by = shown.pivot(index="policy", columns=["metric", "simulator"], values="mean")
        for policy, row in by.sort_values(("reward", TRUTH), ascending=False).iterrows():
            values = [
                "  ".join(f"{row[(metric, simulator)]:.3f}" for simulator in (TRUTH, FITTED, VIEWS, BOOSTED))
                for metric in ("ctr", "reward")
            ]
            lines.append(f"  {policy!s:<26}{values[0]}    {values[1]}")
    for simulator, mine in found.items():
        lines.append(f"\n{simulator}")
        lines += [f"  {name:<22}{value:.3f} [{low:.3f}, {high:.3f}]" for name, (value, low, high) in mine.items()]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--keep", type=Path, help="folder that keeps what was measured; otherwise it is thrown away")
    args = parser.parse_args()
    torch.set_num_threads(1)
    study = QUICK if args.quick else FULL
    with tempfile.TemporaryDirectory() as temporary:
        home = args.keep or Path(temporary)
        parts = []
        for config in study.shops:
            folder = home / f"{'quick' if args.quick else 'full'}-{config.seed}"
            folder.mkdir(parents=True, exist_ok=True)
            parts.append(measure(config, study, folder))
    table = pd.concat(parts, ignore_index=True)
    found = figures(table)
    print(printed(table, found))
    main_ = found[FITTED]
    print(
        json.dumps(
            {
                "benchmark": "known_truth",
                "date": datetime.now(UTC).date().isoformat(),
                "quick": args.quick,
                "seeds": [config.seed for config in study.shops],
                "sessions": study.sessions,
                "policies": int(table["policy"].nunique()),
                "cells": len(cells(table, FITTED, "ctr")),
                "machine": describe(),
                "cpu_seconds": cpu_seconds(),
                "kendall_tau": main_["kendall_tau"][0],
                "ctr_error": main_["ctr_error"][0],
                "purchase_error": main_["revenue_error"][0],
                "coverage": main_["ctr_coverage"][0],
                "figures": found,
            }
        )
    )


if __name__ == "__main__":
    main()
