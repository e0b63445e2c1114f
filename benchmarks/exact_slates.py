"""What is lost by filling a slate with the top k items instead of finding the best slate.

Shoppers choose by a multinomial logit with an outside option. The best slate maximises a ratio, which Dinkelbach's
iteration solves exactly; ranking items by what each earns (attraction times gain) does not: an item of small gain takes
clicks from one of large gain. Two kinds of problems: random ones, and purchases of a shopper fitted on a known shop's
log.

    python benchmarks/exact_slates.py [--quick]
"""

import argparse
import json
import time
from typing import Any

import numpy as np
import pandas as pd
import torch
from machine import describe
from torch import Tensor

from slatewise.agents.slate_choice import NEVER, best_slate, slate_value
from slatewise.datasets.known_shop import KnownShop, KnownShopConfig
from slatewise.encoders import MeanEncoder
from slatewise.simulators import FitConfig, KnownTruthShopper, collect_log, fit_shopper

Problem = tuple[Tensor, Tensor, Tensor]
"""Utilities and gains (B, N), and utilities of nothing (B,)."""


def random_problems(rows: int, items: int, click_rate: float, k: int) -> Problem:
    """Normal utilities, exponential gains; nothing as attractive as makes the k best-liked items this often clicked."""
    rng = torch.Generator().manual_seed(0)
    utility = torch.randn(rows, items, generator=rng)
    gain = torch.empty(rows, items).exponential_(generator=rng)
    liked = torch.logsumexp(utility.topk(k).values, 1)
    return utility, gain, liked + float(np.log(1 / click_rate - 1))


def fitted_problems(rows: int, sessions: int, revenue: bool) -> Problem:
    """Purchases, or revenue, of shoppers fitted on a known shop's log, as they arrive."""
    shop = KnownShop.make(KnownShopConfig.small())
    encoder = MeanEncoder.from_catalogue(shop.catalogue)
    log = collect_log(KnownTruthShopper(shop), shop.catalogue, sessions=sessions, k=8, seed=1)
    shopper = fit_shopper(log, encoder, config=FitConfig(members=0))
    scores = shopper.choice_scores(shopper.reset(torch.arange(rows)).arrival)
    price = shopper.prices[1:] if revenue else 1.0
    return scores.utility[:, 1:], scores.purchase_chance[:, 1:] * price, scores.outside


def compared(problem: Problem, k: int) -> dict[str, Any]:
    """How often and by how much the top k by attraction times gain fall behind the best slate."""
    utility, gain, outside = problem
    place, allowed = torch.zeros(k), torch.ones(utility.shape[1], dtype=torch.bool)
    began = time.perf_counter()
    best = best_slate(utility, gain, outside, place, allowed)
    took = time.perf_counter() - began
    plain = (torch.exp(utility) * gain).masked_fill(~allowed, NEVER).topk(k).indices
    earned = slate_value(utility.gather(1, plain), gain.gather(1, plain), outside, place)
    loss = (1 - earned / best.value).clamp(min=0).double().numpy()
    means = np.random.default_rng(0).choice(loss, (2_000, len(loss))).mean(1)
    low, high = np.quantile(means, [0.025, 0.975])
    return {
        "k": k,
        "problems": len(loss),
        "suboptimal": float((loss > 1e-5).mean()),
        "loss": float(loss.mean()),
        "low": float(low),
        "high": float(high),
        "largest": float(loss.max()),
        "microseconds_each": round(1e6 * took / len(loss), 1),
    }


def main() -> None:
    """Make problems, compare, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a short version of the same measurement")
    quick = parser.parse_args().quick
    rows, sessions = (100, 200) if quick else (1_000, 2_000)
    found = []
    for click_rate in (0.1, 0.5, 0.9):
        for k in (3, 10):
            problem = random_problems(rows, 200, click_rate, k)
            found.append({"problems of": f"random, click rate {click_rate}", **compared(problem, k)})
    for revenue in (False, True):
        problem = fitted_problems(rows, sessions, revenue)
        for k in (3, 10):
            found.append({"problems of": f"fitted, {'revenue' if revenue else 'purchases'}", **compared(problem, k)})
    print(pd.DataFrame(found).round(4).to_string(index=False), end="\n\n")
    print(json.dumps({"benchmark": "exact_slates", "quick": quick, "found": found, "machine": describe()}, default=str))


if __name__ == "__main__":
    main()
