"""What agents and baselines earn from shoppers fitted on real logs: every one of them, in both families.

    python benchmarks/real_agents.py [--data FOLDER]      # gmerch and eshop2008, see benchmarks/real_logs.py
    python benchmarks/real_agents.py --quick              # the same measurement on less, a CPU minute a log
    python benchmarks/real_agents.py --log gmerch --keep FOLDER   # one log; keeps encoders and trainings, done is done

Each log is cut by time, and only its earlier part is read. An encoder is pretrained on half of the shoppers; the other
half makes the `transformer` shoppers, with that encoder, on whom SlateDQN and SlatePPO learn; the first half makes the
`boosted` ones, who trained nobody. So the two share no shopper's choices, and neither states nor form. Agents see
neither's states: theirs are means of item vectors by titles, categories and prices. Both judge by whole ensembles, so
that intervals (95 %, over shoppers and training seeds) also hold what a log of this size leaves open.

Behaviour cloning and REINFORCE learn from logged slates alone, where a log has any: gmerch has, without propensities,
which are estimated; eshop2008 has views only, so that offline agents, the bandit and the logged slates cannot be had.
There how often a slate is clicked is assumed as well, and how long visits are is in both: only comparisons count.

Rewards are clicks, which the logs tell more of than of purchases (gmerch's earlier part has 34). `kept` is value with
the boosted shoppers over value with the teacher, divided by the same of a policy that met no simulator: behaviour
cloning, or what is popular. The last line is one JSON object.
"""

import argparse
import json
import tempfile
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
from clock import cpu_seconds, told
from contestants import Ground
from machine import describe
from real_logs import DATA, LOGS
from real_shoppers import Study as Cut
from real_shoppers import cut
from survival import Survival, plain
from survival_tables import survival_table

from slatewise.agents import BCConfig, DQNConfig, LoggedSlates, PPOConfig, ReinforceConfig, train_offline
from slatewise.cli.judging import baselines
from slatewise.encoders import MeanEncoder, PretrainConfig, TextEncoder
from slatewise.encoders.pretrain import pretrain
from slatewise.evaluation import Outcomes, compare_all, judge
from slatewise.simulators import FitConfig, fit_boosted, fit_shopper

TEACHER, BOOSTED = "transformer", "boosted"
JUDGES = (TEACHER, BOOSTED)
REWARD = "clicks"
TEST = 10_000  # seed of the shoppers that judge
DQN, PPO, CLONED = "SlateDQN", "SlatePPO", "behaviour cloning"
AGENTS: dict[str, Any] = {
    DQN: DQNConfig(learning_rate=3e-4, gradient_steps=2, n_steps=3, learning_starts=512),
    PPO: PPOConfig(),
}
OFFLINE: dict[str, Any] = {CLONED: BCConfig(), "REINFORCE": ReinforceConfig(behaviour="estimated", clone_first=10_000)}


@dataclass(frozen=True)
class Study:
    """How a log is studied.

    Attributes:
        cut: which sessions are learnt from. k: slots.
        steps: slates of a training on shoppers, by agent. offline: logged slates of a training on the log.
        seeds: of the trainings. members: of the ensembles. shoppers: that judge.
        pretraining: settings of the encoder, where they are not the defaults.
    """

    cut: Cut
    k: int
    steps: tuple[int, int] = (4_096, 6_144)
    offline: int = 30_000
    seeds: tuple[int, ...] = (0, 1, 2, 3, 4)
    members: int = 6
    shoppers: int = 160
    pretraining: dict[str, Any] = field(default_factory=lambda: {"epochs": 4})


FULL = {
    "gmerch": Study(Cut(until="2017-02-01"), k=12),
    "eshop2008": Study(Cut(sessions=3_000), k=8),
}
QUICK = {
    name: replace(
        one, steps=(1_024, 2_048), offline=12_000, seeds=(0, 1), members=3, shoppers=24, pretraining={"epochs": 1}
    )
    for name, one in FULL.items()
}


class Shop:
    """A log's earlier part, and the shoppers fitted on it."""

    def __init__(self, name: str, study: Study, data: Path, folder: Path) -> None:
        self.study, self.folder = study, folder
        self.log, _ = cut(LOGS[name](data, folder), study.cut)
        before, here = (self.log.shopper_half(half) for half in (0, 1))
        text = TextEncoder().encode(self.log.catalogue.texts())
        encoder = pretrain(before, folder / "encoder", config=PretrainConfig(seed=0, **study.pretraining), text=text)
        told(f"{name}: the shoppers' encoder is trained")
        settings = FitConfig(held_out=0, members=study.members, max_next_views=8_000)
        self.teacher = fit_shopper(here, encoder, config=settings)
        self.judges = {TEACHER: self.teacher.ensemble(), BOOSTED: fit_boosted(before, config=settings).ensemble()}
        told(f"{name}: both families are fitted")
        self.encoder = MeanEncoder.from_catalogue(self.log.catalogue, 64, words=0.5)
        self.told = {"log": name, "cut": asdict(study.cut), "pretraining": study.pretraining, "members": study.members}

    def policies(self) -> dict[str, Any]:
        """Every baseline and agent that the log allows."""
        study, available = self.study, self.log.catalogue.available
        found = baselines(self.log, self.encoder, self.teacher, study.k, 0)
        if len(self.log.slates):
            found |= self._offline()
        ground = Ground(self.teacher, self.encoder, study.k, REWARD, available, self.told)
        for (name, config), steps in zip(AGENTS.items(), study.steps, strict=True):
            found[name] = ground.learnt(config, self.folder / name, seeds=study.seeds, steps=steps)
            told(f"{name} has learnt")
        return found

    def _offline(self) -> dict[str, Any]:
        data = LoggedSlates.from_log(self.log, self.encoder, purchase=0.0)
        found = {}
        for name, config in OFFLINE.items():
            found[name] = train_offline(
                data,
                self.folder / name.replace(" ", "-"),
                config=config,
                item_vectors=self.encoder.item_vectors,
                available=self.log.catalogue.available,
                k=self.study.k,
                seeds=list(self.study.seeds),
                total_timesteps=self.study.offline,
                settings=self.told,
            )
            told(f"{name} has learnt")
        return found

    def judged(self, policies: dict[str, Any]) -> Outcomes:
        """By both families, the same seeds of shoppers in each."""
        parts = []
        for name, simulator in self.judges.items():
            parts.append(
                judge(
                    policies,
                    simulator,
                    self.encoder,
                    shoppers=self.study.shoppers,
                    seed=TEST,
                    k=self.study.k,
                    reward=REWARD,
                    available=self.log.catalogue.available,
                    shopper_name=name,
                    folder=self.folder / "judged",
                )
            )
            told(f"all are judged by {name}")
        return Outcomes.joined(parts)


def measured(name: str, study: Study, data: Path, folder: Path) -> dict[str, Any]:
    """All figures of one log."""
    shop = Shop(name, study, data, folder)
    policies = shop.policies()
    outcomes = shop.judged(policies)
    cloned = CLONED if CLONED in policies else "popular"
    references = [one for one in ("popular", "myopic click", CLONED) if one in policies]
    agents = [one for one in (DQN, PPO, *OFFLINE) if one in policies]
    return {
        "log": {
            "sessions": len(shop.log),
            "items": shop.log.catalogue.n_items,
            "slates": len(shop.log.slates),
            "clicks_on_slates": int((shop.log.slates.clicked >= 0).sum()) if len(shop.log.slates) else 0,
        },
        "policies": list(policies),
        "cannot_be_had": [] if len(shop.log.slates) else [*OFFLINE, "logged slates", "contextual bandit"],
        "reference": "popular",
        "drops_by": cloned,
        "survival": Survival.of(outcomes, TEACHER, "popular", cloned).rows(JUDGES),
        "comparisons": compare_all(outcomes, references, policies=agents).to_dict("records"),
    }


def printed(name: str, found: dict[str, Any]) -> str:
    """The tables for people."""
    log = found["log"]
    lines = [
        f"\n{name}: {log['sessions']} sessions, {log['items']} items, "
        f"{log['slates']} slates, {log['clicks_on_slates']} clicks on them",
        survival_table(found["survival"], JUDGES),
    ]
    if found["cannot_be_had"]:
        lines.append(f"not from a log of views, which has no slates: {', '.join(found['cannot_be_had'])}")
    lines.append(f"\nclicks a session, over\n{'':<22}{'':<22}" + "".join(f"{one:>34}" for one in JUDGES))
    rows = {(one["policy"], one["reference"], one["simulator"]): one for one in found["comparisons"]}
    for policy, reference, _ in (key for key in rows if key[2] == TEACHER):
        line = f"{policy:<22}{reference:<22}"
        for judge_ in JUDGES:
            one = rows[policy, reference, judge_]
            line += f"{one['difference']:>+14.3f} [{one['low']:+.3f}, {one['high']:+.3f}]"
        lines.append(line)
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=DATA, help=f"folder of the logs; {DATA}")
    parser.add_argument("--log", action="append", choices=FULL, help="once or more; all")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--keep", type=Path, help="folder that keeps encoders, trainings and judgements; done is done")
    args = parser.parse_args()
    torch.set_num_threads(1)
    studies, results = QUICK if args.quick else FULL, {}
    with tempfile.TemporaryDirectory() as temporary:
        home = args.keep or Path(temporary)
        for name in args.log or studies:
            folder = home / f"{'quick' if args.quick else 'full'}-{name}"
            folder.mkdir(parents=True, exist_ok=True)
            results[name] = measured(name, studies[name], args.data, folder)
            print(printed(name, results[name]), flush=True)
    print(
        json.dumps(
            {
                "benchmark": "real_agents",
                "date": datetime.now(UTC).date().isoformat(),
                "quick": args.quick,
                "seeds": list(next(iter(studies.values())).seeds),
                "studies": {name: asdict(studies[name]) for name in results},
                "agents": {name: config.to_dict() for name, config in {**AGENTS, **OFFLINE}.items()},
                "machine": describe(),
                "cpu_seconds": cpu_seconds(),
                "logs": plain(results),
            }
        )
    )


if __name__ == "__main__":
    main()
