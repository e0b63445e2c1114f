"""What every agent and baseline earns from shoppers whose truth is known, all learnt from the same log.

A small known shop writes a log with propensities; shoppers are fitted on it. SlatePPO and SlateDQN, with each of its
options, learn on the fitted shoppers; offline agents and bandits learn from the log's slates; and all meet the truth.

    python benchmarks/agents.py [--quick]
"""

import argparse
import json
import time
from typing import Any

import numpy as np
from machine import describe
from stable_baselines3.common.utils import set_random_seed

from slatewise.agents import (
    BCConfig,
    DQNConfig,
    ItemKNNPolicy,
    LastItemPolicy,
    LearnedPolicy,
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
    ShopperClicks,
)
from slatewise.datasets.known_shop import KnownShop, KnownShopConfig
from slatewise.encoders import MeanEncoder
from slatewise.envs.sb3 import SB3Bridge
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


def trained(config: Any, shopper: Any, encoder: MeanEncoder, seed: int, steps: int) -> LearnedPolicy:
    """One learner's training on simulated shoppers."""
    taught = getattr(config, "choice", "learned") == "shopper"
    seen: dict[str, Any] = {"observation": "history", "history_len": 40} if taught else {}
    env = SB3Bridge.make(64, shopper=shopper, encoder=encoder, k=K, reward=REWARD, **seen)
    model: dict[str, Any] = {"click_model": ShopperClicks(shopper)} if taught else {}
    agent = config.build(env, item_vectors=encoder.item_vectors, seed=seed, **model)
    env.seed(int(np.random.SeedSequence(seed).generate_state(1)[0]))
    agent.learn(steps, log_interval=10**9)
    return LearnedPolicy(agent.scorer, seed=seed)


def main() -> None:
    """Write the log, learn, judge, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a short version of the same measurement")
    quick = parser.parse_args().quick
    sessions, seeds, steps, met = (300, (0, 1), 2_048, 60) if quick else (6_000, (0, 1, 2), 20_480, 1_500)
    began, seconds = time.monotonic(), {}
    set_random_seed(0)
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
    for name, config in ONLINE.items():
        started = time.monotonic()
        policies[name] = [trained(config, fitted, encoder, seed, steps) for seed in seeds]
        seconds[name] = round((time.monotonic() - started) / len(seeds), 1)
    for name, config in OFFLINE.items():
        started = time.monotonic()
        policies[name] = [
            config.build(data, item_vectors=vectors, k=K, seed=seed).learn(4 * steps + 60_000) for seed in seeds
        ]
        seconds[name] = round((time.monotonic() - started) / len(seeds), 1)
    references = ["behaviour cloning", "dqn"]
    found = find(judge(policies, truth, encoder, shoppers=met, seed=10_000, k=K, reward=REWARD), references=references)
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
                "quick": quick,
                "sessions": sessions,
                "logged_slates": len(data),
                "seeds": seeds,
                "steps": steps,
                "shoppers": met,
                "summary": summary.to_dict("records"),
                "comparisons": found.comparisons.to_dict("records"),
                "seconds_a_training": seconds,
                "seconds": round(time.monotonic() - began, 1),
                "machine": describe(),
            },
            default=str,
        )
    )


if __name__ == "__main__":
    main()
