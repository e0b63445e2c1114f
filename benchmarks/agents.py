"""What every agent and baseline earns from shoppers whose truth is known, all learnt from the same log.

A small known shop writes a log with propensities; shoppers are fitted on it. SlatePPO and SlateDQN, with each of its
options, learn on the fitted shoppers; offline agents and bandits learn from the log's slates; and all meet the truth.

    python benchmarks/agents.py [--quick] [--keep FOLDER]   # --keep: trainings and judgements are kept, done is done
"""

import argparse
import json
import re
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import torch
from contestants import Ground
from machine import describe
from survival import plain

from slatewise.agents import (
    BCConfig,
    DQNConfig,
    ItemKNNPolicy,
    LastItemPolicy,
    LinUCBPolicy,
    LoggedPolicy,
    LoggedSlates,
    MyopicPolicy,
    NextItemPolicy,
    OraclePolicy,
    PopularPolicy,
    PPOConfig,
    RandomPolicy,
    ReinforceConfig,
    train_offline,
)
from slatewise.datasets.known_shop import KnownShop, KnownShopConfig
from slatewise.encoders import MeanEncoder
from slatewise.evaluation import find, judge
from slatewise.simulators import FitConfig, KnownTruthShopper, collect_log, fit_shopper

K = 8
REWARD = "clicks_and_purchases"
ONLINE: dict[str, Any] = {
    "ppo": PPOConfig(),
    "ppo, slate clipped whole": PPOConfig(clip="slate"),
    "ppo, discount 0": PPOConfig(gamma=0.0),
    "dqn": DQNConfig(),
    "dqn, discount 0": DQNConfig(gamma=0.0),
    "dqn, 3 steps": DQNConfig(n_steps=3),
    "dqn, priority 0.6": DQNConfig(priority=0.6),
    "dqn, not double": DQNConfig(double=False),
    "dqn, shopper's clicks": DQNConfig(choice="shopper"),
}
OFFLINE: dict[str, Any] = {
    "behaviour cloning": BCConfig(),
    "reinforce": ReinforceConfig(),
    "reinforce, discount 0": ReinforceConfig(gamma=0.0),
    "reinforce, estimated": ReinforceConfig(behaviour="estimated"),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a short version of the same measurement")
    parser.add_argument("--keep", type=Path, help="folder that keeps trainings and judgements; done is done")
    args = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as temporary:
        home = args.keep or Path(temporary)
        measure(args.quick, home / ("quick" if args.quick else "full"))


def measure(quick: bool, folder: Path) -> None:
    """All of it; trainings and judgements are written into the folder."""
    sessions, seeds, steps, met = (300, (0, 1), 2_048, 60) if quick else (4_000, (0, 1, 2, 3, 4), 16_384, 1_000)
    began, seconds = time.process_time(), {}
    shop = KnownShop.make(KnownShopConfig.small())
    truth, encoder = KnownTruthShopper(shop), MeanEncoder.from_catalogue(shop.catalogue)
    log = collect_log(truth, shop.catalogue, sessions=sessions, k=K, seed=1, again=0.5)
    fitted = fit_shopper(log, encoder, config=FitConfig(members=0))
    data, vectors, n = LoggedSlates.from_log(log, encoder), encoder.item_vectors, log.catalogue.n_items
    bandit = LinUCBPolicy(vectors, K, alpha=0.0)
    bandit.update(data.states, data.slates, data.clicked)
    policies: dict[str, Any] = {
        "random": RandomPolicy(np.ones(n + 1), K),
        "logged slates": LoggedPolicy.from_slates(log.slates, K),
        "popular": PopularPolicy.from_tokens(log.tokens, n, K),
        "item-kNN": ItemKNNPolicy.from_tokens(log.tokens, n, K),
        "last item": LastItemPolicy(vectors, K),
        "next item": NextItemPolicy(vectors, K),
        "contextual bandit": bandit,
        **{f"myopic {value}": MyopicPolicy(fitted, K, value) for value in ("click", "purchase", "revenue")},
        "oracle of a click": OraclePolicy(truth, K, "click", exact=False),
        "oracle of a purchase": OraclePolicy(truth, K, "purchase", exact=False),
    }
    ground = Ground(fitted, encoder, K, REWARD, told={"sessions": sessions})
    for name, config in {**ONLINE, **OFFLINE}.items():
        started, out = time.process_time(), folder / re.sub("[^a-z0-9]+", "-", name)
        if name in ONLINE:
            policies[name] = ground.learnt(config, out, seeds=seeds, steps=steps)
        else:
            policies[name] = train_offline(
                data,
                out,
                config=config,
                item_vectors=vectors,
                k=K,
                seeds=seeds,
                total_timesteps=60_000,
                settings={"sessions": sessions},
            )
        seconds[name] = round((time.process_time() - started) / len(seeds), 1)
        print(f"[{time.process_time() - began:6.0f} s] {name} has learnt", flush=True)
    outcomes = judge(
        policies,
        truth,
        encoder,
        shoppers=met,
        seed=10_000,
        k=K,
        reward=REWARD,
        folder=folder / "judged",
    )
    references = ["behaviour cloning", "dqn"]
    found = find(outcomes, references=references)
    summary = found.summary[found.summary["metric"].isin(["reward", "ctr", "slates"])]
    wide = summary.assign(
        told=[f"{row.mean:.3f} [{row.low:.3f}, {row.high:.3f}]" for row in summary.itertuples(index=False)]
    ).pivot(index="policy", columns="metric", values="told")
    order = summary[summary["metric"] == "reward"].set_index("policy")["mean"].sort_values(ascending=False).index
    print(wide.loc[order, ["reward", "ctr", "slates"]].to_string(), end="\n\n")
    columns = ["policy", "reference", "difference", "low", "high", "p_adjusted"]
    print(found.comparisons[columns].round(4).to_string(index=False), end="\n\n")
    print(
        json.dumps(
            {
                "benchmark": "agents",
                "date": datetime.now(UTC).date().isoformat(),
                "quick": quick,
                "sessions": sessions,
                "logged_slates": len(data),
                "seeds": list(seeds),
                "steps": steps,
                "shoppers": met,
                "summary": plain(summary.to_dict("records")),
                "comparisons": plain(found.comparisons.to_dict("records")),
                "cpu_seconds_a_training": seconds,  # of kept ones next to none
                "cpu_seconds": round(time.process_time() - began, 1),
                "machine": describe(),
            },
            default=str,
        )
    )


if __name__ == "__main__":
    main()
