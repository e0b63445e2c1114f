"""Whether PPO should clip a slate's probability ratio as a whole or slot by slot, by the number of slots.

On the small known-truth shop: for each number of slots, agents that differ in this alone are trained with several seeds
and judged on the same shoppers. `clip_fraction_slot` is the share of slots whose ratio
left the range, `clip_fraction_slate` that of slates, whichever is clipped; means over all updates.

    python benchmarks/ppo_ratios.py [--quick]
"""

import argparse
import json
import time
from typing import Any

import numpy as np
import pandas as pd
from machine import describe
from stable_baselines3.common.callbacks import BaseCallback

from slatewise.agents import NextItemPolicy, PPOConfig
from slatewise.datasets.known_shop import KnownShop, KnownShopConfig
from slatewise.encoders import MeanEncoder
from slatewise.envs.sb3 import SB3Bridge
from slatewise.evaluation import find, judge
from slatewise.simulators import KnownTruthShopper

RULES = ("slot", "slate")
MOVED = ("clip_fraction_slot", "clip_fraction_slate", "approx_kl", "entropy")


class Figures(BaseCallback):
    """Keeps what each update logged."""

    def __init__(self) -> None:
        super().__init__()
        self.rows: list[dict[str, float]] = []

    def _on_step(self) -> bool:
        return True

    def _on_rollout_start(self) -> None:
        logged = self.model.logger.name_to_value
        if "train/approx_kl" in logged:
            self.rows.append({name.removeprefix("train/"): float(value) for name, value in logged.items()})


def main() -> None:
    """Train, judge, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a short version of the same measurement")
    quick = parser.parse_args().quick
    slots, seeds, steps, shoppers = ((4,), (0, 1), 2_048, 50) if quick else ((1, 4, 10), (0, 1, 2), 20_480, 1_000)
    began = time.monotonic()
    shop = KnownShop.make(KnownShopConfig.small())
    encoder, shopper = MeanEncoder.from_catalogue(shop.catalogue), KnownTruthShopper(shop)
    earned, compared, clipped = [], [], []
    for k in slots:
        policies: dict[str, Any] = {"untrained": NextItemPolicy(encoder.item_vectors, k)}
        for rule in RULES:
            policies[rule] = []
            for seed in seeds:
                env, figures = SB3Bridge.make(64, shopper=shopper, encoder=encoder, k=k), Figures()
                agent = PPOConfig(clip=rule).build(env, item_vectors=encoder.item_vectors, seed=seed)
                # Spread, for env rows are seeded one by one from here.
                env.seed(int(np.random.SeedSequence(seed).generate_state(1)[0]))
                agent.learn(steps, callback=figures, log_interval=10**9)
                policies[rule].append(agent)
                mean = pd.DataFrame(figures.rows)[list(MOVED)].mean()
                clipped.append({"k": k, "rule": rule, "seed": seed} | mean.round(4).to_dict())
        met = judge(policies, shopper, encoder, shoppers=shoppers, seed=10_000, k=k, observation="state")
        found = find(met, references=["slate"])
        earned.append(found.summary[found.summary["metric"].isin(["reward", "ctr", "slates"])].assign(k=k))
        compared.append(found.comparisons.assign(k=k))
    summary, comparisons = pd.concat(earned, ignore_index=True), pd.concat(compared, ignore_index=True)
    shares = pd.DataFrame(clipped)
    means = shares.groupby(["k", "rule"], sort=False)[list(MOVED)].mean()
    for table in (summary, comparisons, means.round(4).reset_index()):
        print(table.to_string(index=False), end="\n\n")
    print(
        json.dumps(
            {
                "benchmark": "ppo_ratios",
                "quick": quick,
                "slots": slots,
                "seeds": seeds,
                "steps": steps,
                "shoppers": shoppers,
                "reward": summary.to_dict("records"),
                "comparisons": comparisons.to_dict("records"),
                "clipped": clipped,
                "seconds": round(time.monotonic() - began, 1),
                "machine": describe(),
            },
            default=str,
        )
    )


if __name__ == "__main__":
    main()
