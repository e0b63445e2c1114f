"""Through the whole loop: what is left in the truth of what agents gain on shoppers fitted on a log.

    python benchmarks/through_the_loop.py                       # all; 25 CPU minutes
    python benchmarks/through_the_loop.py --quick               # the same measurement, a CPU minute
    python benchmarks/through_the_loop.py --shop thin --keep FOLDER   # one of them; keeps trainings, done is done

A shop whose truth is known writes a log under a logging policy that shows some items hardly ever. One half of its
shoppers makes the `teacher`, a fitted shopper on whom agents learn; the other half the `boosted` shoppers, of another
family, who share with it neither form nor luck. Every policy is judged by both and by the truth, which no policy was
told, with the same seeds of shoppers in each. Rewards are clicks. Beside plain SlateDQN and SlatePPO:

  doubt 1, doubt 4   pay so much for each unit by which the teacher's ensemble disagrees about a slate (`train --doubt`)
  stopped by boosted keep the version that boosted shoppers value highest (`train --judge`); these are then no
                     independent judges of it

`gain` is over the shop's own logged slates, a session; `survives` the gain elsewhere over that in the teacher, where
that is certainly one; `kept` value elsewhere over value in the teacher, divided by the same of behaviour cloning, which
met no simulator: what it loses is the teacher's level, not its faults. Then, over single trainings, whether the
teacher, the boosted shoppers and the ensemble's disagreement tell which gain in the truth; what is earned by whoever
ships what either judge likes best; and one training that exploits its teacher, on fresh shoppers. Intervals (95 %) are
over shoppers and training seeds; a shop's log is one draw. The last line is one JSON object.
"""

import argparse
import json
import tempfile
import time
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from clock import cpu_seconds, told
from contestants import Ground
from machine import describe
from survival import Survival, by_training, plain
from survival_tables import case_told, differences, survival_table

from slatewise.agents import (
    BCConfig,
    DQNConfig,
    LoggedPolicy,
    LoggedSlates,
    MyopicPolicy,
    OraclePolicy,
    PopularPolicy,
    PPOConfig,
    RandomPolicy,
    Validation,
    train_offline,
)
from slatewise.datasets import KnownShop, KnownShopConfig, ShopLog
from slatewise.encoders import MeanEncoder
from slatewise.evaluation import Outcomes, Valuer, compare, judge
from slatewise.evaluation.outcomes import FIXED
from slatewise.simulators import FitConfig, KnownTruthShopper, collect_log, fit_boosted, fit_shopper

TEACHER, BOOSTED, TRUTH = "teacher", "boosted", "truth"
JUDGES = (TEACHER, BOOSTED, TRUTH)
LOGGED, CLONED, MYOPIC = "logged slates", "behaviour cloning", "myopic by the teacher"
K, REWARD, ITEMS = 4, "clicks", 80
TEST, FRESH = 10_000, 20_000  # seeds of shoppers
DQN, PPO = "SlateDQN", "SlatePPO"
AGENTS: dict[str, Any] = {DQN: DQNConfig(learning_rate=3e-4, gradient_steps=2, n_steps=3), PPO: PPOConfig()}
LONG: dict[str, Any] = {
    DQN: DQNConfig(schedule="linear", buffer_size=60_000, exploration_start=0.2, exploration_end=0.02),
    PPO: PPOConfig(schedule="linear"),
}
"""Of trainings long enough to wear a large memory out: fresher slates, and a learning rate that falls to nothing."""
STOPPED = ", stopped by boosted"


@dataclass(frozen=True)
class Study:
    """How much is measured on a shop.

    Attributes:
        shop: its seed. sessions: of the log.
        steps: slates of a training, by agent. seeds: of the trainings. members: of the ensembles.
        doubts: prices of it. shoppers: that judge.
        long: whether agents learn eight times as long, as `LONG` says.
        valued: of the boosted, that value a version while it trains, every so many (`every`) slates; 0 for none.
    """

    shop: int = 7
    sessions: int = 160
    steps: tuple[int, int] = (12_288, 20_480)
    seeds: tuple[int, ...] = (0, 1, 2, 3, 4)
    members: int = 10
    doubts: tuple[float, ...] = (1.0, 4.0)
    shoppers: int = 800
    valued: int = 200
    every: int = 2_048
    long: bool = False

    @property
    def learners(self) -> dict[str, tuple[Any, int]]:
        """Agent -> its settings, and the slates of a training."""
        steps = dict(zip(AGENTS, self.steps, strict=True))
        configs, times = (LONG, 8) if self.long else (AGENTS, 1)
        return {agent: (config, times * steps[agent]) for agent, config in configs.items()}

    @property
    def ways(self) -> dict[str, float]:
        """How agents learn, as their names end, and the price on doubt."""
        wary = {f", doubt {price:g}": price for price in self.doubts}
        return {"": 0.0, **wary} | ({STOPPED: 0.0} if self.valued else {})


STUDIES = {
    "thin": Study(),
    "ample": Study(sessions=3_000, doubts=(4.0,), valued=0),
    "another thin": Study(shop=8, doubts=(4.0,), valued=0),
    "ample, long trainings": Study(sessions=3_000, doubts=(), valued=0, long=True),
}
SMALL: dict[str, Any] = {"steps": (2_560, 2_560), "seeds": (0, 1), "members": 4, "shoppers": 60, "every": 1_024}


class Shop:
    """The truth, its log, and what was fitted on the log."""

    def __init__(self, study: Study, folder: Path) -> None:
        config = replace(KnownShopConfig.small(study.shop), n_items=ITEMS, outside_option=120.0)
        shop = KnownShop.make(config)
        self.study, self.folder, self.truth = study, folder, KnownTruthShopper(shop)
        self.log = collect_log(
            self.truth, shop.catalogue, sessions=study.sessions, k=K, seed=1, again=0.5, temperature=0.6
        )
        self.halves = [self.log.shopper_half(half) for half in (0, 1)]
        settings = FitConfig(members=study.members, held_out=0)
        self.teacher = fit_shopper(self.halves[0], MeanEncoder.from_catalogue(shop.catalogue), config=settings)
        self.judges = {
            TEACHER: self.teacher,
            BOOSTED: fit_boosted(self.halves[1], config=settings).ensemble(),
            TRUTH: self.truth,
        }
        self.encoder = MeanEncoder.from_catalogue(shop.catalogue, 64, words=0.5)
        facts = {"shop": asdict(config), "sessions": study.sessions, "log_seed": 1, "members": study.members}
        self.ground = Ground(self.teacher, self.encoder, K, REWARD, told=facts | {"shoppers": "teacher"})

    def fixed(self) -> dict[str, Any]:
        """Policies that no simulator trained, and the best ranking by the teacher's own chances."""
        data, vectors = LoggedSlates.from_log(self.log, self.encoder, purchase=0.0), self.encoder.item_vectors
        cloned = train_offline(
            data,
            self.folder / "cloned",
            config=BCConfig(),
            item_vectors=vectors,
            k=K,
            seeds=list(self.study.seeds),
            total_timesteps=60_000,
            settings=self.ground.told,
        )
        return {
            LOGGED: LoggedPolicy.from_slates(self.log.slates, K),
            "random": RandomPolicy(np.ones(ITEMS + 1), K),
            "popular": PopularPolicy.from_tokens(self.log.tokens, ITEMS, K),
            MYOPIC: MyopicPolicy(self.teacher, K, "click"),
            CLONED: cloned,
        }

    def trained(self) -> dict[str, Any]:
        """Agents, plain and wary."""
        study, found, ground = self.study, {}, self.ground
        stop = None
        if study.valued:
            valuer = Valuer(self.judges[BOOSTED], self.encoder, K, shoppers=study.valued, seed=0, reward=REWARD)
            stop = Validation(value=valuer, every=study.every, patience=3)
        for agent, (config, steps) in study.learners.items():
            for way, price in study.ways.items():
                out = self.folder / f"{agent}{way}".replace(",", "").replace(" ", "-")
                began, by = time.process_time(), stop if way == STOPPED else None
                found[agent + way] = ground.learnt(
                    config, out, seeds=study.seeds, steps=steps, doubt=price, validation=by
                )
                told(f"{agent}{way}: learnt in {time.process_time() - began:.0f} s")
        return found

    def judged(self, policies: dict[str, Any], seed: int, shoppers: int) -> Outcomes:
        """By all three, and the oracle by the truth, whose shoppers alone it knows."""
        parts = []
        for name, simulator in self.judges.items():
            oracle = {"oracle of a click": OraclePolicy(self.truth, K, "click")} if name == TRUTH else {}
            parts.append(
                judge(
                    policies | oracle,
                    simulator,
                    self.encoder,
                    shoppers=shoppers,
                    seed=seed,
                    k=K,
                    reward=REWARD,
                    shopper_name=name,
                    folder=self.folder / f"judged-{len(policies)}",
                )
            )
        return Outcomes.joined(parts)


def exposures(log: ShopLog) -> np.ndarray:
    """(N + 1,) times that a log shows each item."""
    found = np.bincount(log.slates.items.ravel(), minlength=ITEMS + 1)
    found[0] = 0
    return found


def flattery(outcomes: Outcomes, doubts: dict[str, list[float]]) -> pd.DataFrame:
    """A row a training: its gains over the logged slates, by how much the teacher flatters it, and what warns of it."""
    values = {name: by_training(outcomes, name) for name in JUDGES}
    rows = []
    for policy, number in values[TEACHER]:
        if number == FIXED or policy == CLONED:
            continue
        gain = {name: found[policy, number] - found[LOGGED, FIXED] for name, found in values.items()}
        row: dict[str, Any] = {"policy": policy, "training": number, **{f"{name}_gain": gain[name] for name in JUDGES}}
        row |= {"flattered": gain[TEACHER] - gain[TRUTH], "disagreement": doubts[policy][number]}
        rows.append(row)
    return pd.DataFrame(rows)


def warned(table: pd.DataFrame) -> dict[str, float]:
    """Rank correlations over trainings of what is known without the truth with the gain in it, and with flattery.

    Versions that the boosted shoppers chose are left out. Flattery contains the teacher's gain, so that whatever else
    contains it goes with flattery by its making.
    """
    apart = table[~table["policy"].str.endswith(STOPPED)]
    known = (f"{TEACHER}_gain", f"{BOOSTED}_gain", "disagreement")
    found = {f"{name}, truth": float(apart[name].corr(apart[f"{TRUTH}_gain"], method="spearman")) for name in known}
    return found | {"disagreement, flattered": float(apart[known[2]].corr(apart["flattered"], method="spearman"))}


def shipped(outcomes: Outcomes) -> dict[str, Any]:
    """What the truth pays for the training, or fixed policy, that each judge likes best."""
    truth = by_training(outcomes, TRUTH)
    found = {}
    for name in JUDGES:
        values = {key: value for key, value in by_training(outcomes, name).items() if not key[0].startswith("oracle")}
        best = max(values, key=lambda key: values[key])
        found[name] = {"policy": best[0], "training": best[1], "says": values[best], "truth": truth[best]}
    return found


def case(shop: Shop, table: pd.DataFrame, policies: dict[str, Any], doubts: dict[str, list[float]]) -> dict[str, Any]:
    """The training most flattered, measured anew on fresh shoppers, and the items that it shows most."""
    worst = table.sort_values("flattered").iloc[-1]
    name, number = str(worst["policy"]), int(worst["training"])
    pair = {LOGGED: policies[LOGGED], "it": policies[name][number]}
    outcomes = shop.judged(pair, FRESH, shop.study.shoppers)
    found: dict[str, Any] = {"policy": name, "training": number}
    for one in JUDGES:
        gain = compare(outcomes, "it", LOGGED, simulator=one)
        found[one] = {"gain": [gain.difference, gain.low, gain.high]}
        found[one] |= {key: value for (key, _), value in by_training(outcomes, one).items() if key in pair}
    found["disagreement"] = {
        "it": doubts[name][number],
        LOGGED: doubts[LOGGED][0],
        CLONED: float(np.mean(doubts[CLONED])),
    }
    items = outcomes.items[outcomes.items["policy"] == "it"].pivot(index="item", columns="simulator")
    rate = (items["clicked"] / items["shown"]).loc[:, list(JUDGES)]
    most: list[Any] = items["shown"][TRUTH].sort_values(ascending=False).index[:6].to_list()
    seen = exposures(shop.halves[0])
    found["items"] = [
        {
            "item": str(shop.log.catalogue.item_ids[int(item) - 1]),
            "share_of_slots": float(items["shown"][TRUTH][item] / items["shown"][TRUTH].sum()),
            "shown_to_the_teachers_half": int(seen[int(item)]),
            "clicks_a_slot": {one: float(rate.loc[item, one]) for one in JUDGES},
        }
        for item in most
    ]
    return found


def measured(study: Study, folder: Path) -> dict[str, Any]:
    """All figures of one shop."""
    shop = Shop(study, folder)
    slates, seen = shop.log.slates, exposures(shop.halves[0])[1:]
    told(f"{len(slates)} slates, {int((slates.clicked >= 0).sum())} clicks; both families are fitted")
    policies = shop.fixed() | shop.trained()
    outcomes = shop.judged(policies, TEST, study.shoppers)
    doubts = shop.ground.disagreement(policies, slates=4_096, seed=TEST)
    told("all are judged")
    table = flattery(outcomes, doubts)
    learners = [agent + way for agent in AGENTS for way in study.ways]
    wary = [name for name in learners if name not in AGENTS]
    gained = [asdict(compare(outcomes, name, name.split(",")[0], simulator=TRUTH)) for name in wary]
    over = [asdict(compare(outcomes, name, MYOPIC, simulator=one)) for one in JUDGES for name in learners]
    oracle = by_training(outcomes, TRUTH)["oracle of a click", FIXED]
    return {
        "log": {"slates": len(slates), "clicks": int((slates.clicked >= 0).sum()), "sessions": study.sessions},
        "items_shown_less_than_10_times_to_the_teachers_half": int((seen < 10).sum()),
        "survival": Survival.of(outcomes, TEACHER, LOGGED, CLONED).rows(JUDGES),
        "oracle_in_truth": oracle,
        "wary_over_plain_in_truth": gained,
        "over_myopic": over,
        "disagreement": {name: float(np.mean(values)) for name, values in doubts.items()},
        "warnings": warned(table),
        "shipped": shipped(outcomes),
        "trainings": table.round(4).to_dict("records"),
        "case": case(shop, table, policies, doubts),
    }


def printed(name: str, found: dict[str, Any]) -> str:
    """The tables for people."""
    rare = found["items_shown_less_than_10_times_to_the_teachers_half"]
    log, warnings = found["log"], found["warnings"]
    lines = [f"\n{name}: {log['sessions']} sessions, {log['slates']} slates, {log['clicks']} clicks"]
    lines.append(f"the teacher's half shows {rare} of {ITEMS} items less than ten times")
    lines.append(survival_table(found["survival"], JUDGES, found["disagreement"]))
    lines.append(f"{'oracle of a click':<32}{'':>40}{found['oracle_in_truth']:>20.2f}\n")
    lines.append("in the truth, over the same learner without\n" + differences(found["wary_over_plain_in_truth"]))
    for one in JUDGES:
        rows = [row for row in found["over_myopic"] if row["simulator"] == one]
        lines.append(f"in {one}, over {MYOPIC}\n" + differences(rows))
    told_ = ", ".join(f"{name} {value:.2f}" for name, value in warnings.items())
    lines.append(
        f"rank correlations over trainings (gain in the truth; flattered: less of it than in the teacher): {told_}"
    )
    for judge_, one in found["shipped"].items():
        lines.append(f"what {judge_} likes best ({one['policy']}) earns {one['truth']:.2f} in the truth")
    lines += ["", case_told(found["case"], JUDGES, LOGGED)]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--shop", action="append", choices=STUDIES, help="once or more; all")
    parser.add_argument("--keep", type=Path, help="folder that keeps trainings and judgements; done is done")
    args = parser.parse_args()
    torch.set_num_threads(1)
    small = {name: replace(one, **SMALL, valued=one.valued and 30) for name, one in STUDIES.items()}
    studies, results = small if args.quick else STUDIES, {}
    with tempfile.TemporaryDirectory() as temporary:
        home = args.keep or Path(temporary)
        for name in args.shop or list(studies)[: 1 if args.quick else None]:
            folder = home / f"{'quick' if args.quick else 'full'}-{name.replace(',', '').replace(' ', '-')}"
            folder.mkdir(parents=True, exist_ok=True)
            results[name] = measured(studies[name], folder)
            print(printed(name, results[name]), flush=True)
    print(
        json.dumps(
            {
                "benchmark": "through_the_loop",
                "date": datetime.now(UTC).date().isoformat(),
                "quick": args.quick,
                "studies": {name: asdict(studies[name]) for name in results},
                "slates": {
                    name: {agent: steps for agent, (_, steps) in studies[name].learners.items()} for name in results
                },
                "agents": {name: config.to_dict() for name, config in AGENTS.items()},
                "long": {name: config.to_dict() for name, config in LONG.items()},
                "machine": describe(),
                "cpu_seconds": cpu_seconds(),
                "shops": plain(results),
            }
        )
    )


if __name__ == "__main__":
    main()
