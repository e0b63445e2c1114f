"""What the state adds: one agent, one budget, the same item vectors, and only the state differs.

    python benchmarks/states.py [--quick] [--world NAME] [--agent NAME] [--state NAME] [--keep FOLDER]

A known-truth shop of 200 items writes a log, on which a session encoder (a Transformer) is pretrained. Agents then
learn on shoppers with each of these states:

  nothing                 the same whatever happens: what an agent does that knows no shopper
  last item               the vector of the item viewed or clicked last
  raw ids                 the mean, weighed by how long ago, of a random vector for each item id
  mean                    the same mean of the items' vectors
  mean + recall           that, the last click, what was shown and bought lately, and counts (`RecallEncoder`)
  transformer             the session encoder's
  transformer + recall    that with the same beside it

Item vectors are the session encoder's for all, so that what its items know is no part of the comparison; the last row,
"mean, words", shows what they add: mean state and item vectors by the words of titles, categories and prices alone.
Each state is shown as it is and as mapped into the items' space by ridge regression on the log (`state_encoders`), so
that all agents begin from the best linear ranking that their state allows.

Worlds: `long visits`, some twenty slates each; in all others one thing differs from it, and fewer states are compared.
`fitted`: agents learn on shoppers fitted on the log by a mean of word vectors, not on the true ones. `short visits`:
the shop's defaults, some four slates. `satiation`: four times as much of it, and it lasts. `no intent`: visits are
about nothing but lasting taste. `short log`: 500 sessions, from which item vectors and the Transformer come.
All policies meet the same shoppers of the truth. Intervals, 95 %, are over training seeds and shoppers, and paired; the
shop itself is one. Bands are of the slates of a visit: click rates there are of those still in the shop.

Beside it, without any agent: `foreseen`, the share of the choices of a fresh log that are among the 10 items nearest by
the map; and `taste`, how much of the true utilities beyond their means a state tells after so many slates (linearly,
other shoppers than those the map was learnt on), and by how much more than the mean's, with an interval over shoppers.
"""

import argparse
import json
import tempfile
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from machine import describe
from state_encoders import NAMES, aligned, foreseen, raw_states, share_told, told_of_taste

from slatewise.agents import DQNConfig, OraclePolicy, PopularPolicy, PPOConfig, train
from slatewise.datasets import KnownShop, KnownShopConfig, ShopLog
from slatewise.datasets.artefact import fingerprint
from slatewise.encoders import MeanEncoder, PretrainConfig, StateEncoder, TextEncoder
from slatewise.encoders.pretrain import pretrain
from slatewise.envs.sb3 import SB3Bridge
from slatewise.envs.vector import ShopVectorEnv
from slatewise.evaluation import Outcomes
from slatewise.evaluation.diary import Diary, tally
from slatewise.evaluation.intervals import compare_all, summarise
from slatewise.evaluation.judge import serve
from slatewise.evaluation.outcomes import FIXED
from slatewise.simulators import FitConfig, KnownTruthShopper, collect_log, fit_shopper
from slatewise.simulators.logging_policies import PlackettLucePolicy

K, ROWS, REWARD = 5, 64, "clicks_and_purchases"
WORDS = "mean, words"
AGENTS: dict[str, Any] = {
    "slate_dqn": DQNConfig(learning_rate=3e-4, batch_size=128, gradient_steps=2, n_steps=3),
    "slate_ppo": PPOConfig(),
}
"""Steady settings, the same for all states; none was tuned for one of them."""
STEPS = {"slate_dqn": 15_360, "slate_ppo": 30_720}
BANDS = {"slates 1 to 3": (0, 3), "slates 4 to 8": (3, 8), "slates 9 on": (8, 10**6)}
DEPTHS = (0, 2, 5, 10)
PAIRS = [
    ("mean", "nothing"),
    ("transformer", "nothing"),
    ("mean", "last item"),
    ("transformer", "last item"),
    ("transformer", "raw ids"),
    ("mean", WORDS),
    ("transformer", "mean"),
    ("mean + recall", "mean"),
    ("transformer + recall", "mean + recall"),
]
"""Compared; who is a reference comes before it is compared itself."""
TEST = 10_000  # seed of the shoppers who judge


@dataclass(frozen=True, kw_only=True)
class World:
    """A shop, its log, and who teaches.

    Attributes:
        shop: settings beside those of the small shop.
        sessions: of the log.
        fitted: whether agents learn on shoppers fitted on the log; else on the true ones, who judge in any case.
        states: compared, for each agent who learns.
    """

    shop: Mapping[str, Any] = field(default_factory=lambda: LONG)
    sessions: int = 3_000
    fitted: bool = False
    states: Mapping[str, tuple[str, ...]] = field(default_factory=lambda: {"slate_dqn": FEW})


FEW = ("nothing", "last item", "mean", "transformer")
LONG = {"patience": 15, "letdown": 0.5, "leave_bought": 0.02}
WORLDS = {
    "long visits": World(states={"slate_dqn": (*NAMES, WORDS), "slate_ppo": FEW}),
    "fitted": World(fitted=True, states={"slate_dqn": ("last item", "mean", "transformer")}),
    "short visits": World(shop={}),
    "satiation": World(shop={**LONG, "satiation": 1.2, "satiation_kept": 0.95}),
    "no intent": World(shop={**LONG, "intent": 0.0}),
    "short log": World(sessions=500),
}


@dataclass(frozen=True)
class Scene:
    """A world as made: its truth and its log, who teaches, and the states."""

    truth: KnownTruthShopper
    log: ShopLog
    teacher: Any
    states: dict[str, Any]
    transformer: StateEncoder

    @classmethod
    def make(cls, world: World, keep: Path, quick: bool) -> "Scene":
        """Write the log, pretrain, fit and map; worlds of one log share its encoders."""
        shop = KnownShop.make(replace(KnownShopConfig.small(), **world.shop))
        truth = KnownTruthShopper(shop)
        sessions = min(world.sessions, 400) if quick else world.sessions
        log = collect_log(truth, shop.catalogue, sessions=sessions, k=K, seed=1)
        folder = keep / f"log-{fingerprint({'shop': dict(world.shop), 'sessions': sessions})}"
        text = TextEncoder().encode(shop.catalogue.texts())
        learning = PretrainConfig(epochs=2 if quick else None)
        transformer = pretrain(log, folder / "encoder", config=learning, text=text).eval()
        teacher: Any = truth
        if world.fitted:  # by an encoder of its own, so that no agent sees its simulator's state
            other = MeanEncoder.from_catalogue(shop.catalogue, words=0.5)
            teacher = fit_shopper(log, other, config=FitConfig(members=0))
        vectors = transformer.item_vectors.detach()
        states: dict[str, Any] = {
            name: aligned(one, vectors, log) for name, one in raw_states(transformer, seed=0).items()
        }
        words = MeanEncoder.from_catalogue(shop.catalogue, vectors.shape[1], words=0.5)
        states[WORDS] = aligned(words, words.item_vectors, log)
        return cls(truth, log, teacher, states, transformer)

    def probed(self, shoppers: int) -> dict[str, dict[str, Any]]:
        """`foreseen` and `taste` of each state, and by how much its `taste` is above the mean's."""
        fresh = collect_log(self.truth, self.log.catalogue, sessions=shoppers, k=K, seed=2)
        popularity = torch.as_tensor(self.truth.shop.popularity)
        slates = PlackettLucePolicy(popularity, K).sample
        inner = {name: one.encoder for name, one in self.states.items()}
        taste = told_of_taste(inner, self.truth, slates, 2 * shoppers, DEPTHS)
        return {
            name: {
                "foreseen": round(foreseen(one, fresh), 4),
                "taste": {str(depth): share_told(errors) for depth, errors in taste[name].items()},
                "over_mean": {
                    str(depth): share_told(errors, taste["mean"][depth]) for depth, errors in taste[name].items()
                },
            }
            for name, one in self.states.items()
        }


def learnt(scene: Scene, agent: str, state: str, folder: Path, seeds: list[int], steps: int) -> list[Any]:
    """The policies of one learner with one state, a training a seed; what is in the folder is read back."""
    encoder = scene.states[state]

    def make_env(seed: int) -> SB3Bridge:
        del seed
        return SB3Bridge.make(ROWS, shopper=scene.teacher, encoder=encoder, k=K, reward=REWARD)

    return train(
        make_env,
        folder / agent / state.replace(" + ", "-").replace(", ", "-").replace(" ", "-"),
        config=AGENTS[agent],
        item_vectors=encoder.item_vectors,
        seeds=seeds,
        total_timesteps=steps,
        settings={"k": K, "reward": REWARD, "state": state},
    )


def judged(policies: Mapping[str, Any], scene: Scene, encoder: Any, shoppers: int) -> Outcomes:
    """Let policies that observe by one encoder serve the shoppers; by the visit, and by bands of its slates."""
    met = np.random.default_rng(TEST).integers(2**40, size=shoppers, dtype=np.int64)
    env = ShopVectorEnv(
        min(512, shoppers), shopper=scene.truth, encoder=encoder, k=K, reward=REWARD, autoreset_mode="Disabled"
    )
    vectors, parts = encoder.item_vectors.numpy(), []
    for name, policy in policies.items():
        trained = isinstance(policy, list)
        for number, one in enumerate(policy if trained else [policy]):
            diary = serve(one, env, met)
            for where, part in {"truth": diary, **banded(diary)}.items():
                keys = {"simulator": where, "policy": name, "training_seed": number if trained else FIXED}
                frame, places, items = (table.assign(**keys) for table in tally(part, vectors))
                parts.append(Outcomes(frame, places, items))
    return Outcomes.joined(parts)


def banded(diary: Diary) -> dict[str, Diary]:
    """The diary of each band of slates."""
    seen = np.zeros(diary.shoppers, np.int64)
    bands = {name: Diary(diary.shoppers) for name in BANDS}
    columns = ("who", "slate", "examined", "clicked", "carted", "purchased", "revenue", "reward")
    for turn in zip(*(getattr(diary, name) for name in columns), strict=True):
        who = turn[0]
        at = seen[who]
        seen[who] += 1
        for name, (low, high) in BANDS.items():
            rows = (at >= low) & (at < high)
            for column, values in zip(columns, turn, strict=True):
                getattr(bands[name], column).append(values[rows])
    return bands


def studied(name: str, args: argparse.Namespace) -> dict[str, Any]:
    """All figures of one world."""
    world, began = WORLDS[name], time.process_time()
    folder = args.keep / name.replace(" ", "-")
    scene = Scene.make(world, args.keep, args.quick)
    told: dict[str, Any] = {"world": asdict(world)}
    told["states"] = scene.probed(200 if args.quick else 2_000)
    print(f"\n{name}: {len(scene.log)} sessions, {len(scene.log.tokens.items) / len(scene.log):.1f} tokens a session")
    print(_probes(told["states"]).to_string(), flush=True)
    plain = scene.states["mean"]
    fixed: dict[str, Any] = {
        "popular": PopularPolicy.from_tokens(scene.log.tokens, scene.log.catalogue.n_items, K),
        "oracle of a click": OraclePolicy(scene.truth, K, "click", exact=False),
    }
    for agent in [] if args.told else args.agent or world.states:
        steps = 2_560 if args.quick else STEPS[agent]
        parts = [judged(fixed, scene, plain, args.shoppers)]
        for state in args.state or world.states.get(agent, FEW):
            policies = learnt(scene, agent, state, folder, args.seeds, steps)
            parts.append(judged({state: policies}, scene, scene.states[state], args.shoppers))
        told[agent] = shown(f"{name}, {agent}", Outcomes.joined(parts))
    told["cpu_seconds"] = round(time.process_time() - began, 1)
    return told


def _probes(states: Mapping[str, Any]) -> pd.DataFrame:
    rows = {}
    for name, one in states.items():
        told = {f"taste after {depth}": f"{share[0]:.3f}" for depth, share in one["taste"].items()}
        for depth in (min(DEPTHS), max(DEPTHS)):
            more, low, high = one["over_mean"][str(depth)]
            told[f"over the mean's after {depth}"] = f"{more:+.3f} [{low:+.3f}, {high:+.3f}]"
        rows[name] = {"foreseen": f"{one['foreseen']:.3f}", **told}
    return pd.DataFrame(rows).T


def shown(title: str, outcomes: Outcomes) -> dict[str, Any]:
    """Tables on stdout, and the same as plain values."""
    visits = Outcomes(outcomes.within("truth"))
    value: dict[str, Any] = {}
    for row in summarise(visits, ("reward", "slates", "ctr")).to_dict("records"):
        value.setdefault(row["policy"], {})[row["metric"]] = {
            one: round(row[one], 4) for one in ("mean", "low", "high")
        }
    pairs = [pair for pair in PAIRS if value.keys() >= set(pair)]
    against = list(dict.fromkeys(other for _, other in pairs))
    rewards = {(row["policy"], row["reference"]): row for row in compare_all(visits, against).to_dict("records")}
    clicks = {
        (row["simulator"], row["policy"], row["reference"]): row
        for row in compare_all(outcomes, against, "ctr").to_dict("records")
    }
    columns = ("difference", "low", "high", "share", "share_low", "share_high")
    difference: dict[str, Any] = {}
    for one, other in pairs:
        found = {column: round(rewards[one, other][column], 4) for column in columns}
        found["click_rate"] = {
            band: {column: round(clicks[band, one, other][column], 4) for column in columns[:3]} for band in BANDS
        }
        difference[f"{one} less {other}"] = found
    print(f"\n{title}: what a visit earns, its slates and its click rate")
    told = {name: {metric: _with_ends(part) for metric, part in one.items()} for name, one in value.items()}
    print(pd.DataFrame(told).T.to_string())
    lines = {
        label: {"reward, %": _with_ends({column: 100 * one[column] for column in columns[3:]}, "+.1f")}
        | {f"clicks, {band}": _with_ends(part, "+.3f") for band, part in one["click_rate"].items()}
        for label, one in difference.items()
    }
    print(pd.DataFrame(lines).T.to_string(), flush=True)
    return {"value": value, "difference": difference}


def _with_ends(figures: Mapping[str, float], how: str = ".3f") -> str:
    value, low, high = figures.values()
    return f"{value:{how}} [{low:{how}}, {high:{how}}]"


def main() -> None:
    """Make worlds, learn, judge, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a short version of the same measurement")
    parser.add_argument("--world", action="append", choices=list(WORLDS), help="once or more; all")
    parser.add_argument("--agent", action="append", choices=list(AGENTS), help="once or more; those of the world")
    parser.add_argument("--state", action="append", choices=[*NAMES, WORDS], help="once or more; those of the world")
    parser.add_argument("--seeds", type=int, nargs="+", help="of the trainings; 0 to 4, with --quick 0 and 1")
    parser.add_argument("--shoppers", type=int, help="who judge; 2,000, with --quick 200")
    parser.add_argument("--told", action="store_true", help="no agents: only what states tell")
    parser.add_argument("--keep", type=Path, help="folder that keeps trainings; otherwise they are thrown away")
    args = parser.parse_args()
    args.seeds = args.seeds or ([0, 1] if args.quick else [0, 1, 2, 3, 4])
    args.shoppers = args.shoppers or (200 if args.quick else 2_000)
    torch.set_num_threads(1)
    began = time.process_time()
    with tempfile.TemporaryDirectory() as scratch:
        args.keep = args.keep or Path(scratch)
        worlds = {name: studied(name, args) for name in args.world or (list(WORLDS)[:1] if args.quick else WORLDS)}
    print(
        json.dumps(
            {
                "benchmark": "states",
                "quick": args.quick,
                "seeds": args.seeds,
                "shoppers": args.shoppers,
                "steps": STEPS,
                "agents": {name: config.to_dict() for name, config in AGENTS.items()},
                "worlds": worlds,
                "cpu_seconds": round(time.process_time() - began, 1),
                "machine": describe(),
            },
            default=str,
        )
    )


if __name__ == "__main__":
    main()
