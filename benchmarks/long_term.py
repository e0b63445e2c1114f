"""Whether a slate agent beats the best myopic ranking where, and only where, today's slate matters tomorrow.

On known-truth shops with one mechanism switched on at a time, and with none: what SlateDQN and SlatePPO earn over whole
episodes, beside the best myopic policy and the best plan known. Agents are trained and judged in the truth: the
question is what learning can win, not what fitted shoppers are worth.

- `bound`: a plan that sees the shopper's own state. For all mechanisms but satiation it is the optimum of the episode,
  by dynamic programming (`long_term_bounds`; over visits but for the limits on days and slates, which are hardly ever
  met). For satiation it is one slate of lookahead onto an approximate value (`long_term_satiation`), a lower bound of
  the optimum.
- `myopic`: the slate that earns the most at once by the shopper's true chances in its true state, of clicks, purchases,
  revenue, the reward itself, or a fixed mix of clicks and purchases. Which of these earns the most over whole episodes
  is chosen on validation shoppers, for each mechanism; so it may lean to what pays later, if by a fixed weight.
  `myopic in the reward` is not chosen: it maximises what this slate is paid.
- The agents see what the tokens of the visit tell (`RecallEncoder` over words of titles, categories and prices), and
  how many places and clicks each category has had lately (`long_term_shown`), and nothing of the hidden state. Where
  what is passed over counts (satiation) they have the settings that are made for it, and more time; see
  `Mechanism.learner`. `discount 0` is the same network, trained alike, that looks no further than the slate.

Intervals, 95 %, are over training seeds and test shoppers, whom all policies meet with the same luck. A share of the
headroom is what an agent takes of what lies between myopic and bound. With `--keep`, what is done is kept: a run that
was stopped goes on, and finished mechanisms are read back.

    python benchmarks/long_term.py [--quick] [--mechanism NAME] [--seeds 0 1 2 3 4] [--keep FOLDER] [--pictures FOLDER]
"""

import argparse
import json
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from long_term_bounds import MixPolicy
from long_term_pictures import behaviour, behaviours_drawn, curves_drawn, read_curves
from long_term_shops import MECHANISMS, SAME, K, Mechanism, eyes
from long_term_shown import Shown, ShownEnv, Told
from machine import describe
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from slatewise.agents import DQNConfig, OraclePolicy, PPOConfig, train
from slatewise.encoders import RecallEncoder
from slatewise.envs import RewardMix
from slatewise.envs.sb3 import SB3Bridge
from slatewise.evaluation import Outcomes, find
from slatewise.evaluation.diary import Diary, tally
from slatewise.evaluation.intervals import resample
from slatewise.evaluation.judge import serve
from slatewise.evaluation.outcomes import FIXED
from slatewise.simulators import KnownTruthShopper

ROWS = 128
STEPS = {"slate_dqn": 65_536, "slate_ppo": 61_440}
AGENTS: dict[str, Any] = {
    "slate_dqn": DQNConfig(
        gamma=0.95, learning_rate=1e-3, schedule="linear", scale=1.0, batch_size=128, gradient_steps=2, huber=10.0
    ),
    "slate_ppo": PPOConfig(gamma=0.95, gae_lambda=0.5, learning_rate=4e-4, schedule="linear", scale=1.0, credit="both"),
}
"""The same everywhere, but for `Mechanism.learner`; tuned on validation shoppers, one or two trainings each, with
patience, complements, satiation, and nothing on. `scale` is low because nobody here likes best what is nearest to what
it has seen."""
VALIDATION, TEST = 7_000, 10_000  # seeds of the shoppers
Policies = dict[str, Any]


def judged(
    policies: Policies, mechanism: Mechanism, truth: KnownTruthShopper, eyes_: RecallEncoder, shoppers: int, seed: int
) -> tuple[Outcomes, dict[str, Diary]]:
    """Let policies serve the same shoppers; outcomes, and the diary of each one's first training."""
    met = np.random.default_rng(seed).integers(2**40, size=shoppers, dtype=np.int64)
    env = mechanism.batch(min(512, shoppers), truth, eyes_, autoreset_mode="Disabled")
    parts, diaries = [], {}
    for name, policy in policies.items():
        trained = isinstance(policy, list)
        for number, one in enumerate(policy if trained else [policy]):
            diary = serve(one, env, met)
            keys = {"simulator": "truth", "policy": name, "training_seed": number if trained else FIXED}
            frame, places, items = (table.assign(**keys) for table in tally(diary, eyes_.item_vectors.numpy()))
            parts.append(Outcomes(frame, places, items))
            diaries.setdefault(name, diary)
    return Outcomes.joined(parts), diaries


def myopics(truth: KnownTruthShopper, reward: RewardMix) -> Policies:
    """All that look no further than the slate."""
    named = {f"oracle of a {value}": OraclePolicy(truth, K, value, exact=False) for value in ("click", "purchase")}
    named["oracle of revenue"] = OraclePolicy(truth, K, "revenue", exact=False)
    now = replace(reward, returned=0.0)
    mixes = {f"a click and {w:g} purchases": RewardMix(click=1.0, purchase=w) for w in (1, 2, 5, 10, 20, 50)}
    mixes |= {"purchases": RewardMix(purchase=1.0), "the reward": now, "revenue": RewardMix(revenue=1.0)}
    return named | {name: MixPolicy(truth, K, mix) for name, mix in mixes.items()}


def best_myopic(
    mechanism: Mechanism, truth: KnownTruthShopper, encoder: RecallEncoder, shoppers: int
) -> tuple[str, Any, dict[str, float]]:
    """The one that earns the most from validation shoppers, with what each earned."""
    tried = myopics(truth, mechanism.reward)
    outcomes, _ = judged(tried, mechanism, truth, encoder, shoppers, VALIDATION)
    earned = outcomes.frame.groupby("policy", sort=False)["reward"].mean()
    name = str(earned.idxmax())
    return name, tried[name], {str(one): round(float(mean), 3) for one, mean in earned.items()}


def learnt(
    config: Any,
    mechanism: Mechanism,
    truth: KnownTruthShopper,
    encoder: RecallEncoder,
    *,
    folder: Path,
    seeds: list[int],
    steps: int,
    told: Callable[[int, int, str], None],
) -> list[Any]:
    """The policies of one learner, a training a seed; those that are in the folder are read back."""
    shown = Shown(truth.shop.catalogue)

    def make_env(seed: int) -> ShownEnv:
        del seed
        return ShownEnv(SB3Bridge(mechanism.batch(ROWS, truth, encoder, autoreset_mode="SameStep")), shown)

    played = mechanism.settings() | {"reward": asdict(mechanism.reward), "shop": {**SAME, **mechanism.on}}
    policies = train(
        make_env,
        folder,
        config=config,
        item_vectors=shown.vectors(encoder.item_vectors),
        seeds=seeds,
        total_timesteps=steps,
        settings=played,
        progress=told,
    )
    return [Told(policy, shown) for policy in policies]


def _told(bar: Progress, task: TaskID, done: int, total: int, words: str) -> None:
    del total, words
    bar.update(task, completed=done)


def kept(name: str, mechanism: Mechanism, args: argparse.Namespace, bar: Progress) -> dict[str, Any]:
    """All figures of one mechanism: those in the folder, where they were made with the same settings, or new ones."""
    path = args.keep / name / "figures.json"
    steps = {agent: steps_of(agent, mechanism, args) for agent in AGENTS}
    asked = {"agents": args.agent, "steps": steps, "seeds": args.seeds, "controls": args.controls}
    asked |= {"quick": args.quick, "shoppers": args.shoppers, "shop": {**SAME, **mechanism.on}}
    configs = {agent: config.to_dict() for agent, config in mechanism.learners(AGENTS).items()}
    asked |= {"reward": asdict(mechanism.reward), "configs": configs}
    asked = json.loads(json.dumps(asked))
    if path.is_file():
        record = json.loads(path.read_text(encoding="utf-8"))
        if record["asked"] == asked:
            return record["figures"]
    figures = studied(name, mechanism, args, bar)
    path.write_text(json.dumps({"asked": asked, "figures": figures}, default=float), encoding="utf-8")
    return figures


def steps_of(agent: str, mechanism: Mechanism, args: argparse.Namespace) -> int:
    """Slates of a training."""
    return 4_096 if args.quick else round(args.longer * mechanism.longer.get(agent, 1) * STEPS[agent])


def studied(name: str, mechanism: Mechanism, args: argparse.Namespace, bar: Progress) -> dict[str, Any]:
    """All figures of one mechanism, and what its pictures show."""
    truth, began = mechanism.truth(), time.monotonic()
    encoder = eyes(truth)
    validation, test = args.shoppers // 2, args.shoppers
    plan = mechanism.plan(truth, mechanism.reward)
    chosen, myopic, tried = best_myopic(mechanism, truth, encoder, validation)
    policies: Policies = {"bound": plan, "myopic": myopic}
    policies["myopic in the reward"] = MixPolicy(truth, K, replace(mechanism.reward, returned=0.0))
    curves: dict[str, pd.DataFrame] = {}
    every = mechanism.learners(AGENTS)
    agents = {agent: every[agent] for agent in args.agent or every}
    controls = {f"{agent}, discount 0": replace(config, gamma=0.0) for agent, config in agents.items()}
    controls = controls if args.controls else {}
    for label, config in {**agents, **controls}.items():
        steps = steps_of(label.split(",")[0], mechanism, args)
        seeds = args.seeds[: args.controls] if label in controls else args.seeds
        task = bar.add_task(f"{name}: {label}", total=len(seeds) * steps)
        folder = args.keep / name / label.replace(", ", "-").replace(" ", "-")
        how = {"folder": folder, "seeds": seeds, "steps": steps, "told": partial(_told, bar, task)}
        policies[label] = learnt(config, mechanism, truth, encoder, **how)
        bar.update(task, completed=len(seeds) * steps)
        curves[label] = read_curves(folder)
    outcomes, diaries = judged(policies, mechanism, truth, encoder, test, TEST)
    found = find(outcomes, references=["myopic", "bound", *controls])
    figures = figures_of(outcomes, found)
    lines = {one: behaviour(name, truth, diaries[one]) for one in ("bound", "myopic", "myopic in the reward", *agents)}
    return figures | {
        "myopic_chosen": chosen,
        "myopic_tried": tried,
        "reward": asdict(mechanism.reward),
        "shop": dict(mechanism.on),
        "learner": {agent: dict(one) for agent, one in mechanism.learner.items()},
        "steps": {agent: steps_of(agent, mechanism, args) for agent in agents},
        "bound_is": "the optimum" if mechanism.exact else "a lower bound of the optimum",
        "test_shoppers": test,
        "validation_shoppers": validation,
        "curves": {label: curve.round(4).to_dict("list") for label, curve in curves.items()},
        "behaviour": lines,
        "seconds": round(time.monotonic() - began, 1),
    }


def figures_of(outcomes: Outcomes, found: Any) -> dict[str, Any]:
    """What policies earned and by how much they differ, as plain values."""
    summary = found.summary
    told: dict[str, Any] = {}
    for row in summary[summary["metric"] == "reward"].to_dict("records"):
        told[row["policy"]] = {"value": row["mean"], "low": row["low"], "high": row["high"], "seeds": row["seeds"]}
    for metric in ("slates", "ctr"):
        for row in summary[summary["metric"] == metric].to_dict("records"):
            told[row["policy"]][metric] = round(row["mean"], 4)
    agents = [one for one in AGENTS if one in told]
    wanted = [(one, "myopic") for one in ("bound", *agents)]
    wanted += [(one, f"{one}, discount 0") for one in agents if f"{one}, discount 0" in told]
    columns = ["difference", "low", "high", "share", "share_low", "share_high", "p_adjusted"]
    pairs = {(row["policy"], row["reference"]): row for row in found.comparisons.to_dict("records")}
    differences = {
        f"{one} less {other}": {column: pairs[one, other][column] for column in columns} for one, other in wanted
    }
    headroom = differences["bound less myopic"]["share"]
    return told | {"differences": differences, "headroom": headroom, "share_of_headroom": shares(outcomes)}


def printed(name: str, figures: dict[str, Any]) -> None:
    """Tables on stdout."""
    print(f"\n{name}: the bound is {figures['bound_is']}; the best myopic is that of {figures['myopic_chosen']}")
    earned = {one: row for one, row in figures.items() if isinstance(row, dict) and "slates" in row}
    print(pd.DataFrame(earned).T.astype(float).round(3).to_string())
    print(pd.DataFrame(figures["differences"]).T.astype(float).round(4).to_string())
    taken = figures["share_of_headroom"]
    print(f"bound over myopic {100 * figures['headroom']:.1f} %; share taken:", taken, flush=True)


def shares(outcomes: Outcomes) -> dict[str, dict[str, float]]:
    """What each agent takes of what lies between myopic and bound, with its interval; bare where nothing lies there."""
    found, _ = resample(outcomes.frame, ["reward"])
    myopic, bound = found["myopic"], found["bound"]
    room = bound.value[0] - myopic.value[0]
    rooms = bound.draws[:, 0] - myopic.draws[:, 0]
    told = {}
    for agent in [one for one in AGENTS if one in found]:
        if np.quantile(rooms, 0.025) <= 0:
            told[agent] = {"value": float("nan"), "low": float("nan"), "high": float("nan")}
            continue
        draws = (found[agent].draws[:, 0] - myopic.draws[:, 0]) / rooms
        low, high = np.quantile(draws, [0.025, 0.975])
        value = (found[agent].value[0] - myopic.value[0]) / room
        told[agent] = {"value": round(float(value), 3), "low": round(float(low), 3), "high": round(float(high), 3)}
    return told


def verdicts(mechanisms: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Whether each agent keeps what was asked: within 2 % where nothing is to be won; else beyond, and half of it."""
    told: dict[str, dict[str, Any]] = {}
    for name, one in mechanisms.items():
        told[name] = {}
        for agent in one["share_of_headroom"]:
            less = one["differences"][f"{agent} less myopic"]
            if one["headroom"] < 0.05:
                told[name][agent] = {"within_2_percent": abs(less["share"]) <= 0.02}
            else:
                half = one["share_of_headroom"][agent]["value"] >= 0.5
                told[name][agent] = {"beyond_the_interval": less["low"] > 0, "half_of_the_headroom": half}
    return told


def main() -> None:
    """Plan, learn, judge, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a short version of the same measurement")
    parser.add_argument("--mechanism", action="append", choices=list(MECHANISMS), help="once or more; all")
    parser.add_argument("--seeds", type=int, nargs="+", help="of the trainings; 0 to 4, with --quick 0 and 1")
    parser.add_argument("--agent", action="append", choices=list(AGENTS), help="once or more; all")
    parser.add_argument("--longer", type=float, default=1.0, help="how many times as long to train")
    parser.add_argument("--controls", type=int, default=3, help="trainings of each learner with discount 0")
    parser.add_argument("--shoppers", type=int, help="of the test, 2,000, with --quick 200; half as many validate")
    parser.add_argument("--keep", type=Path, help="folder that keeps trainings; otherwise they are thrown away")
    parser.add_argument("--pictures", type=Path, help="folder for pictures of learning and of what policies show")
    args = parser.parse_args()
    args.seeds = args.seeds or ([0, 1] if args.quick else [0, 1, 2, 3, 4])
    args.shoppers = args.shoppers or (200 if args.quick else 2_000)
    torch.set_num_threads(1)
    began, found = time.monotonic(), {}
    columns = TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn(), TimeRemainingColumn()
    with (
        tempfile.TemporaryDirectory() as scratch,
        Progress(*columns, console=Console(stderr=True), transient=True) as bar,
    ):
        args.keep = args.keep or Path(scratch)
        for name in args.mechanism or MECHANISMS:
            found[name] = kept(name, MECHANISMS[name], args, bar)
            printed(name, found[name])
            if args.pictures:
                args.pictures.mkdir(parents=True, exist_ok=True)
                curves_drawn(name, found[name], args.pictures / f"long-term-{name}-learning.png")
                behaviours_drawn(name, found[name], args.pictures / f"long-term-{name}-slates.png")
    for one in found.values():
        one["curves"] = {label: curve["reward"][-1] for label, curve in one["curves"].items()}
    print(
        json.dumps(
            {
                "benchmark": "long_term",
                "quick": args.quick,
                "seeds": args.seeds,
                "agents": {name: config.to_dict() for name, config in AGENTS.items()},
                "common": SAME,
                "mechanisms": found,
                "verdicts": verdicts(found),
                "seconds": round(time.monotonic() - began, 1),
                "machine": describe(),
            },
            default=str,
        )
    )


if __name__ == "__main__":
    main()
