"""What tuned settings are worth over the defaults, by the size of the catalogue; where `agents.PRESETS` is from.

    python benchmarks/presets.py [--quick] [--size NAME] [--agent NAME] [--long] [--keep FOLDER]

Known-truth shops of 200, 1,000 and 10,000 items, visits of some eighteen slates, slates of 5; SlateDQN and SlatePPO
learn in the truth, and the truth judges, by other shoppers. The state is that of a session encoder (a Transformer)
pretrained on a log of the shop. For each learner, and the first two sizes:

  tried     `BASE` and further changes on top of it, one each, meet the first shop's validation shoppers, as the
            defaults do
  chosen    the further changes that earned at least 1 % more than the base are put together on top of it; that, and
            the best that was tried, are trained with other seeds, as the defaults are, and meet other shoppers of that
            shop; what earns most there is chosen
  checked   the chosen and the defaults are trained in a second shop with five seeds and meet fresh shoppers

At 10,000 items nothing is searched: `max_candidates=300`, which is there for speed, is checked. Last versions count, as
`train` keeps them without a judge. Intervals, 95 %, are over training seeds and shoppers, and paired; of shops there is
one. Seconds are of the processor, learning and shoppers together; a training sees as many slates whatever its settings.

`--long` checks, instead, settings reasoned for trainings as long as `slatewise train` makes them (`LONG`): less
exploring, a shorter memory, a learning rate that falls to nothing. `--keep`: what is done is done.
"""

import argparse
import json
import shutil
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from clock import cpu_seconds, told
from contestants import Ground
from machine import describe

from slatewise.agents import DQNConfig, LearnedPolicy, NextItemPolicy, PPOConfig, load_agent
from slatewise.datasets import KnownShop, KnownShopConfig
from slatewise.datasets.artefact import fingerprint
from slatewise.encoders import MeanEncoder, PretrainConfig
from slatewise.encoders.pretrain import pretrain
from slatewise.evaluation import Outcomes, compare, judge
from slatewise.evaluation.intervals import summarise
from slatewise.simulators import KnownTruthShopper, collect_log

K, REWARD = 5, "clicks_and_purchases"
VISITS = {"patience": 15, "letdown": 0.5, "leave_bought": 0.02}
"""Settings by which visits last some eighteen slates."""
CHOSEN_IN, CHECKED_IN = 0, 1  # seeds of the shops
TRIED, CHOSEN, CHECKED = 20_000, 30_000, 40_000  # seeds of the shoppers who judge
GAIN = 0.01  # over the base, from which on a further change is put in
CHECKS = 5  # trainings of each side of a check
DEFAULTS: dict[str, Any] = {"dqn": DQNConfig(), "ppo": PPOConfig()}
Change = Mapping[str, Any]
BASE: dict[str, Change] = {
    "dqn": {"gradient_steps": 2, "batch_size": 128, "n_steps": 3},
    "ppo": {"learning_rate": 1e-3, "schedule": "linear"},
}
"""For SlateDQN more, smaller steps whose targets count more rewards; for SlatePPO larger ones that end small."""
FURTHER: dict[str, tuple[Change, ...]] = {
    "dqn": ({"schedule": "linear"}, {"learning_rate": 3e-4}, {"gradient_steps": 4}, {"scale": 1.0}),
    "ppo": ({"ent_coef": 0.001}, {"n_epochs": 8}, {"rollout": 512}, {"scale": 1.0}),
}


LONG: dict[str, Change] = {
    "dqn": {"schedule": "linear", "buffer_size": 60_000, "exploration_start": 0.2, "exploration_end": 0.02},
    "ppo": {"schedule": "linear"},
}
LONG_STEPS = 98_304


@dataclass(frozen=True, kw_only=True)
class Size:
    """A size of shop, and what is measured in it.

    Attributes:
        n_items: of the catalogue. n_categories, n_brands: of it.
        sessions, epochs: of the log on which the encoder is pretrained, and over it; as many as it says by default.
        steps: slates of a training, by learner.
        seeds: trainings of each variant tried, and again of each that may be chosen.
        tried_by, checked_by: shoppers who value a variant, and who check.
        given: what is checked where nothing is searched.
    """

    n_items: int
    n_categories: int = 12
    n_brands: int = 30
    sessions: int = 2_000
    epochs: int | None = None
    steps: Mapping[str, int] = field(default_factory=lambda: {"dqn": 16_384, "ppo": 32_768})
    seeds: int = 2
    tried_by: int = 1_000
    checked_by: int = 1_000
    given: Change | None = None


SIZES = {
    "small": Size(n_items=200, n_categories=6, n_brands=12),
    "medium": Size(n_items=1_000),
    "large": Size(
        n_items=10_000,
        sessions=1_500,
        steps={"dqn": 6_144, "ppo": 6_144},
        checked_by=300,
        given={"max_candidates": 300},
    ),
}


@dataclass(frozen=True)
class Training:
    """A trained policy, and the processor seconds of its training."""

    policy: LearnedPolicy
    seconds: float


@dataclass(frozen=True)
class Shop:
    """A shop's truth, in which agents learn and are judged, and where its trainings and judgements are kept."""

    truth: KnownTruthShopper
    ground: Ground
    folder: Path

    @classmethod
    def make(cls, size: Size, seed: int, folder: Path) -> "Shop":
        """The shop of a size, and an encoder pretrained on its log, which knows titles by their words."""
        counts = {name: getattr(size, name) for name in ("n_items", "n_categories", "n_brands")}
        shop = KnownShop.make(replace(KnownShopConfig(seed=seed), **counts, **VISITS))
        truth, folder = KnownTruthShopper(shop), folder / f"{size.n_items}-items-shop-{seed}"
        log = collect_log(truth, shop.catalogue, sessions=size.sessions, k=K, seed=1)
        told_by_words = MeanEncoder.from_catalogue(shop.catalogue, 64, words=0.5).item_vectors[1:].numpy()
        learning = PretrainConfig(epochs=size.epochs)
        encoder = pretrain(log, folder / "encoder", config=learning, text=told_by_words).eval()
        return cls(truth, Ground(truth, encoder, K, REWARD), folder)

    def learnt(self, agent: str, change: Change, seeds: Sequence[int], steps: int) -> list[Training]:
        """Trainings of the defaults with a change."""
        return [self._training(agent, change, seed, steps) for seed in seeds]

    def _training(self, agent: str, change: Change, seed: int, steps: int) -> Training:
        folder = self.folder / f"{agent}-{steps}" / fingerprint(dict(change)) / f"training-{seed}"
        record = folder.with_suffix(".json")
        if not record.is_file():
            shutil.rmtree(folder, ignore_errors=True)  # half a training would tell half its time
            began = time.process_time()
            self.ground.learnt(replace(DEFAULTS[agent], **change), folder, seeds=[seed], steps=steps)
            record.write_text(json.dumps({"cpu_seconds": round(time.process_time() - began, 2)}), encoding="utf-8")
        return Training(load_agent(folder, seed), json.loads(record.read_text(encoding="utf-8"))["cpu_seconds"])

    def judged(self, trainings: Mapping[str, Any], shoppers: int, seed: int, kept: str) -> Outcomes:
        """Let all serve the same shoppers."""
        policies = {
            name: [each.policy for each in one] if isinstance(one, list) else one for name, one in trainings.items()
        }
        return judge(
            policies,
            self.truth,
            self.ground.encoder,
            shoppers=shoppers,
            seed=seed,
            k=K,
            reward=REWARD,
            observation="state",
            folder=self.folder / "judged" / kept,
        )


def words(change: Change) -> str:
    """A change, readable."""
    return ", ".join(f"{name}={value}" for name, value in change.items()) or "defaults"


def valued(
    shop: Shop, agent: str, changes: Sequence[Change], seeds: Sequence[int], steps: int, **how: Any
) -> list[Any]:
    """A row for each change: what a visit earns by its trainings, and over the first one's; said as it goes."""
    rows: list[dict[str, Any]] = []
    for change in changes:
        trainings = shop.learnt(agent, change, seeds, steps)
        frame = shop.judged({words(change): trainings}, kept=f"{agent}-{steps}-{seeds[0]}", **how).frame
        seconds = float(np.mean([one.seconds for one in trainings]))
        earned = frame.groupby("training_seed")["reward"].mean().round(4).to_list()
        rows.append({"change": dict(change), "earned": float(np.mean(earned)), "by_training": earned})
        rows[-1] |= {"share": rows[-1]["earned"] / rows[0]["earned"] - 1, "cpu_seconds": round(seconds, 1)}
        told(f"  {words(change):<75}{rows[-1]['earned']:7.3f}{rows[-1]['share']:+8.1%}{seconds:8.1f} s  {earned}")
    return rows


def together(base: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]) -> Change:
    """The base with all further changes that are worth it; where two are of one setting, with the better."""
    found = dict(base["change"])
    for row in sorted(rows, key=lambda row: row["earned"]):
        if row["earned"] >= (1 + GAIN) * base["earned"]:
            found |= {name: value for name, value in row["change"].items() if base["change"].get(name) != value}
    return found


def chosen(size: Size, agent: str, folder: Path) -> dict[str, Any]:
    """What the first shop finds: rows of what was tried, of the second round, and the change chosen; {} for none."""
    told(f"{agent}, {size.n_items:,} items: variants")
    shop, steps, how = Shop.make(size, CHOSEN_IN, folder), size.steps[agent], {"shoppers": size.tried_by}
    base = BASE[agent]
    further: list[Change] = [{**base, **one} for one in FURTHER[agent]]
    tried = valued(shop, agent, [{}, base, *further], range(size.seeds), steps, **how, seed=TRIED)
    best, whole = max(tried, key=lambda row: row["earned"])["change"], together(tried[1], tried[2:])
    finalists: list[Change] = [{}]
    for one in (best, whole):
        finalists += [] if one in finalists else [one]
    again = valued(shop, agent, finalists, range(size.seeds, 2 * size.seeds), steps, **how, seed=CHOSEN)
    change = max(again, key=lambda row: row["earned"])["change"]
    told(f"  chosen: {words(change)}")
    return {"tried": tried, "again": again, "change": change}


def checked(size: Size, agent: str, change: Change, folder: Path, steps: int) -> dict[str, Any]:
    """What a change is worth in the second shop."""
    shop = Shop.make(size, CHECKED_IN, folder)
    contestants: dict[str, Any] = {"nearest": NextItemPolicy(shop.ground.encoder.item_vectors.detach(), K)}
    for one in ({}, change):
        contestants[words(one)] = shop.learnt(agent, one, range(100, 100 + CHECKS), steps)
        told(f"  {words(one)} trained in another shop")
    outcomes = shop.judged(contestants, size.checked_by, CHECKED, f"{agent}-{steps}-check")
    value = summarise(outcomes, ("reward",)).query("metric == 'reward'").set_index("policy")
    value = value[["mean", "low", "high"]].round(4)
    seconds = {name: [one.seconds for one in each] for name, each in contestants.items() if name != "nearest"}
    means = {name: round(float(np.mean(each)), 1) for name, each in seconds.items()}
    found = asdict(compare(outcomes, words(change), "defaults"))
    print(f"\n{size.n_items:,} items, {agent}, {steps:,} slates: what a visit earns, and seconds of a training")
    print(value.assign(seconds=pd.Series(means)).to_string())
    print(
        f"{words(change)}: {found['share']:+.1%} [{found['share_low']:+.1%}, {found['share_high']:+.1%}]\n", flush=True
    )
    compared = {key: round(one, 4) if isinstance(one, float) else one for key, one in found.items()}
    return {"steps": steps, "value": value.to_dict("index"), "compared": compared, "cpu_seconds": seconds}


def measured(sizes: Sequence[str], agent: str, args: argparse.Namespace) -> dict[str, Any]:
    """All figures of a learner, by size."""
    folder, known = args.keep / ("quick" if args.quick else "full"), dict(SIZES)
    if args.quick:
        brief: dict[str, Any] = {"steps": {"dqn": 2_560, "ppo": 2_048}, "seeds": 1, "tried_by": 60, "checked_by": 60}
        known = {name: replace(size, **brief, sessions=300, epochs=1) for name, size in SIZES.items()}
    found: dict[str, Any] = {}
    for name in sizes:
        size = known[name]
        if args.long:
            steps = size.steps[agent] if args.quick else LONG_STEPS
            found[name] = {"size": asdict(size), "long": checked(size, agent, LONG[agent], folder, steps)}
            continue
        choice = {"change": dict(size.given)} if size.given else chosen(size, agent, folder)
        found[name] = {"size": asdict(size), **choice}
        if choice["change"]:
            found[name]["check"] = checked(size, agent, choice["change"], folder, size.steps[agent])
    return found


def main() -> None:
    """Try, choose, check, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a short version of the same measurement")
    parser.add_argument("--size", action="append", choices=list(SIZES), help="once or more; all, --quick: small")
    parser.add_argument("--agent", action="append", choices=list(DEFAULTS), help="once or more; both")
    parser.add_argument("--long", action="store_true", help="check settings for long trainings, and search nothing")
    parser.add_argument("--keep", type=Path, help="folder that keeps trainings and judgements; done is done")
    args = parser.parse_args()
    torch.set_num_threads(1)
    sizes = args.size or (["small"] if args.quick else list(SIZES))
    with tempfile.TemporaryDirectory() as scratch:
        args.keep = args.keep or Path(scratch)
        found = {agent: measured(sizes, agent, args) for agent in args.agent or list(DEFAULTS)}
    print(
        json.dumps(
            {
                "benchmark": "presets",
                "date": datetime.now(UTC).date().isoformat(),
                "quick": args.quick,
                "k": K,
                "reward": REWARD,
                "visits": VISITS,
                "shops": {"chosen_in": CHOSEN_IN, "checked_in": CHECKED_IN},
                "defaults": {name: config.to_dict() for name, config in DEFAULTS.items()},
                "agents": found,
                "cpu_seconds": cpu_seconds(),
                "machine": describe(),
            }
        )
    )


if __name__ == "__main__":
    main()
