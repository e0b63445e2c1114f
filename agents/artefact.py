"""Agents on disk: trained seed by seed, resumed where a kill left them, and read back without a pickle.

A finished folder of kind "agent":

    config.json                algorithm, the scorer's settings, seeds; settings, inputs, versions and facts
    items.safetensors          item_vectors (N + 1, D), available (N + 1,)
    seed-S/policy.safetensors  the scorer's weights
    seed-S/curve.csv           learning curve, see `checkpoint.Curve`
    seed-S/valuations.csv      what shoppers it did not learn from made of it, where there were any: `validation`
    seed-S/seed.json           how long the training took
"""

import csv
import json
import math
import os
from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from stable_baselines3.common.vec_env import VecEnv
from torch import Tensor

from ..datasets.artefact import building, is_finished, read_config, write_json
from ..datasets.tokens import Floats, Ints
from ..errors import ArtefactError
from .checkpoint import Checkpoints, Curve, restore
from .dqn import ClickModel, SlateDQN
from .dqn_config import DQNConfig
from .learning import check_enough, predicted
from .offline import OfflineAgent
from .offline_losses import BCConfig, ReinforceConfig
from .plackett_luce import seeded
from .ppo import PPOConfig, SlatePPO
from .replay import state_of
from .scorers import SCORERS, SlateScorer
from .tracking import log_interval, log_to
from .validation import BestKept, Validation, weights_of

Progress = Callable[[int, int, str], None]
AgentConfig = PPOConfig | DQNConfig
ALGORITHMS: dict[type[Any], str] = {
    PPOConfig: "ppo",
    DQNConfig: "dqn",
    BCConfig: "bc",
    ReinforceConfig: "reinforce",
}
OFFLINE = ("bc", "reinforce")
"""Algorithms that learn from a log alone, and never met a simulator."""
_ITEMS = ("item_vectors", "available")


class LearnedPolicy:
    """A trained policy: a scorer, and what came with it.

    Args:
        scorer: state -> scores whose top k is the greedy slate.
        name: for tables, for instance "ppo".
        seed: of the training; sampled slates start from it too.
    """

    def __init__(self, scorer: SlateScorer, *, name: str = "agent", seed: int = 0) -> None:
        self.scorer = deepcopy(scorer).eval().requires_grad_(False)  # a learner may go on with its own
        self.name, self.seed, self.k, self.n_items = name, seed, scorer.k, scorer.n_items
        self._generator = seeded(seed)

    def reseed(self, seed: int) -> None:
        """Sample slates from here on as if trained with this seed."""
        self._generator = seeded(seed)

    @torch.no_grad()
    def scores(self, observation: Any) -> Floats:
        """(B, N + 1) scores of a batch of observations; also Plackett-Luce logits."""
        return self.scorer(torch.as_tensor(state_of(observation), dtype=torch.float32)).numpy()

    def predict(
        self, observation: Any, state: Any = None, episode_start: Any = None, deterministic: bool = True
    ) -> tuple[Ints, None]:
        """(B, k) int64 slates, best place first, and None.

        Args:
            observation: (B, d) states, or the dictionary of the "history" observation; or one row of them.
            state: not used.
            episode_start: not used.
            deterministic: the greedy slate; otherwise one drawn by Plackett-Luce on the scores.
        """
        del state, episode_start
        return predicted(self.scorer, observation, None if deterministic else self._generator), None


def train(
    make_env: Callable[[int], VecEnv],
    out: str | Path,
    *,
    config: AgentConfig,
    item_vectors: ArrayLike | Tensor,
    available: ArrayLike | Tensor | None = None,
    seeds: Sequence[int] = (0, 1, 2),
    total_timesteps: int = 100_000,
    inputs: Mapping[str, str] | None = None,
    settings: Mapping[str, Any] | None = None,
    facts: Mapping[str, Any] | None = None,
    checkpoint_every: int = 20_000,
    click_model: ClickModel | None = None,
    validation: Validation | None = None,
    tensorboard: str | Path | None = None,
    force: bool = False,
    progress: Progress | None = None,
) -> list[LearnedPolicy]:
    """Train one agent for each seed, into an artefact of kind "agent".

    A folder already finished with the same settings is read back. A killed run goes on where it was: finished seeds
    are kept, the unfinished one continues from its last checkpoint with other shoppers (and, for DQN, an empty replay,
    which is filled before learning goes on). A resumed run is therefore not bit by bit the run without a kill.

    Args:
        make_env: seed -> a `VecEnv` of slates whose infos name the `"clicked"` slot. Made once for each seed.
        out: folder of the artefact.
        config: of the learner.
        item_vectors: (N + 1, D) by dense index, as wide as the state.
        available: (N + 1,) bool, items that may be shown; all by default.
        seeds: training seeds, at least one, all different.
        total_timesteps: slates shown in each training.
        inputs: name -> id of the artefacts read (encoder, shopper).
        settings: what else decides the result: env, reward, slots.
        facts: figures to keep.
        checkpoint_every: slates between checkpoints.
        click_model: for `DQNConfig(choice="shopper")`, see `DQNConfig.build`.
        validation: shoppers by whom the best version of each training is kept, and who stop it; by default each trains
            to the end, and its last version is kept. Say who they are in `settings` and `inputs`.
        tensorboard: folder of TensorBoard logs, a run of its own for each seed; decides no result.
        force: train anew over a finished folder.
        progress: told (slates shown, of all seeds together, words).

    Raises:
        ArtefactError: `out` holds something else, or other settings, and `force` is not set.
        DivergedError: a loss is no longer finite.
        ModuleNotFoundError: `tensorboard` is named and not installed.
        ValueError: seeds, spaces, vectors or availability do not fit, or `total_timesteps` ends before learning begins.
    """
    out, seeds = Path(out), list(seeds)
    plan = training_plan(config, seeds, total_timesteps, settings)
    if validation is not None:
        plan["validation"] = validation.settings()
    algorithm = plan["algorithm"]
    if not force and is_finished(out, "agent", plan, dict(inputs or {})):
        return load_agents(out)
    with building(out, "agent", plan, inputs, force=force) as draft:
        every = len(seeds) * total_timesteps
        for place, seed in enumerate(seeds):
            folder = draft.folder / f"seed-{seed}"
            if (folder / "seed.json").is_file():
                continue
            folder.mkdir(exist_ok=True)
            env = make_env(seed)
            try:
                parts: dict[str, Any] = {"item_vectors": item_vectors, "available": available, "seed": seed}
                if click_model is not None:
                    parts["click_model"] = click_model
                agent = config.build(env, **parts)
                log_to(agent, tensorboard, seed)
                told = _teller(progress, place * total_timesteps, every, f"{algorithm}, seed {seed}")
                _learn(agent, folder, seed, total_timesteps, checkpoint_every, told, validation)
            finally:
                env.close()
            write_description(draft.folder, agent.scorer, algorithm, seeds)
        draft.facts.update(facts or {})
        folders = {str(seed): draft.folder / f"seed-{seed}" for seed in seeds}
        draft.facts["learning"] = {seed: _end_of_curve(one) | _valued(one) for seed, one in folders.items()}
    return load_agents(out)


def training_plan(
    config: Any, seeds: list[int], total_timesteps: int, settings: Mapping[str, Any] | None
) -> dict[str, Any]:
    """What decides the result of a training, as its folder keeps it.

    Raises:
        ValueError: seeds are not different, or none, or the training ends before learning begins.
    """
    if not seeds or len(set(seeds)) != len(seeds):
        raise ValueError(f"seeds must be different and at least one, got {seeds}")
    check_enough(config, total_timesteps)
    plan = {"algorithm": ALGORITHMS[type(config)], "config": config.to_dict()}
    return {**plan, "seeds": seeds, "total_timesteps": total_timesteps, **dict(settings or {})}


def _learn(
    agent: SlatePPO | SlateDQN,
    folder: Path,
    seed: int,
    total: int,
    checkpoint_every: int,
    told: Callable[[int], None] | None,
    validation: Validation | None = None,
) -> None:
    checkpoint = folder / "checkpoint.safetensors"
    curve = Curve(every=max(total // 100, 1))
    best = None if validation is None else BestKept(validation)
    if checkpoint.is_file():
        restore(agent, curve, checkpoint, best)
    seed_env(agent, seed)
    if agent.num_timesteps < total and not (best is not None and best.stopped):
        callbacks = [curve, *([] if best is None else [best])]
        callbacks.append(Checkpoints(checkpoint, curve, checkpoint_every, told, best))
        left = total - agent.num_timesteps
        agent.learn(left, callback=callbacks, reset_num_timesteps=False, log_interval=log_interval(agent))
    record = {"seed": seed, "timesteps": agent.num_timesteps, "seconds": round(curve.seconds, 1)}
    if best is not None:
        agent.scorer.load_state_dict(best.weights, strict=False)
        best.write(folder / "valuations.csv")
        record |= best.facts()
    save_weights(agent.scorer, folder / "policy.safetensors")
    curve.write(folder / "curve.csv")
    write_json(folder / "seed.json", record)  # written last: its presence says that the seed is done
    checkpoint.unlink(missing_ok=True)


def seed_env(agent: SlatePPO | SlateDQN, seed: int) -> None:
    """Decide who comes to a learner's env: by the training's seed, and others after a resume than before it."""
    assert agent.env is not None
    # Spread, for env rows are seeded one by one from here.
    agent.env.seed(int(np.random.SeedSequence([seed, agent.num_timesteps]).generate_state(1)[0]))


def save_agent(
    algorithm: SlatePPO | SlateDQN | OfflineAgent,
    out: str | Path,
    *,
    settings: Mapping[str, Any] | None = None,
    inputs: Mapping[str, str] | None = None,
    facts: Mapping[str, Any] | None = None,
    force: bool = False,
) -> LearnedPolicy:
    """Write one learner, trained by hand, as an artefact of kind "agent"; returns it as read back.

    Raises:
        ArtefactError: `out` exists and `force` is not set.
    """
    if isinstance(algorithm, OfflineAgent):
        name = ALGORITHMS[type(algorithm.config)]
    else:
        name = "ppo" if isinstance(algorithm, SlatePPO) else "dqn"
    seed = algorithm.seed or 0
    plan = {"algorithm": name, "seeds": [seed], "timesteps": algorithm.num_timesteps, **(settings or {})}
    with building(Path(out), "agent", plan, inputs, force=force) as draft:
        folder = draft.folder / f"seed-{seed}"
        folder.mkdir(exist_ok=True)
        save_weights(algorithm.scorer, folder / "policy.safetensors")
        write_json(folder / "seed.json", {"seed": seed, "timesteps": algorithm.num_timesteps})
        write_description(draft.folder, algorithm.scorer, name, [seed])
        draft.facts.update(facts or {})
    return load_agent(out)


def load_agents(folder: str | Path) -> list[LearnedPolicy]:
    """All trained policies of an agent artefact, by seed in the order of training.

    Raises:
        ArtefactError: the folder is no finished agent, or a file in it cannot be read.
    """
    folder = Path(folder)
    return [load_agent(folder, seed) for seed in read_config(folder, "agent")["seeds"]]


def load_agent(folder: str | Path, seed: int | None = None) -> LearnedPolicy:
    """One trained policy of an agent artefact: that of `seed`, or of the first seed.

    Raises:
        ArtefactError: the folder is no finished agent, has no such seed, or a file in it cannot be read.
    """
    folder = Path(folder)
    config = read_config(folder, "agent")
    seed = int(config["seeds"][0]) if seed is None else seed
    if seed not in config["seeds"]:
        raise ArtefactError(f"{folder} was trained with seeds {config['seeds']}, not {seed}")
    scorer = SCORERS[config["scorer"]["kind"]](**config["scorer"]["settings"])
    try:
        items = load_file(folder / "items.safetensors")
        weights = load_file(folder / f"seed-{seed}" / "policy.safetensors")
        scorer.load_state_dict({**weights, **items})
    except (SafetensorError, OSError, RuntimeError) as error:
        raise ArtefactError(f"{folder} holds weights that cannot be read ({error}); train it again") from error
    return LearnedPolicy(scorer, name=config["algorithm"], seed=int(seed))


def save_weights(scorer: SlateScorer, path: Path) -> None:
    """Write a scorer's weights, items apart, replacing the file in one step."""
    fresh = path.with_name(path.name + ".new")
    save_file({name: part.contiguous() for name, part in weights_of(scorer).items()}, fresh)
    os.replace(fresh, path)


def write_description(folder: Path, scorer: SlateScorer, algorithm: str, seeds: list[int]) -> None:
    """Write what is common to all seeds: items, and how to make the scorer again."""
    save_file({name: getattr(scorer, name).cpu().contiguous() for name in _ITEMS}, folder / "items.safetensors")
    kind = {"kind": scorer.kind, "settings": scorer.settings()}
    write_json(folder / "config.json", {"algorithm": algorithm, "k": scorer.k, "seeds": seeds, "scorer": kind})


def _end_of_curve(folder: Path) -> dict[str, float]:
    """Means over the last fifth of a seed's learning curve: a single row is a few dozen sessions, mostly luck.

    `timesteps` and `seconds` are the last row's; what could not be measured is left out.
    """
    with (folder / "curve.csv").open(encoding="utf-8", newline="") as file:
        rows = [{name: float(value) for name, value in row.items()} for row in csv.DictReader(file)]
    found: dict[str, float] = {}
    for name in rows[-1] if rows else {}:
        latest = rows[-1:] if name in ("timesteps", "seconds") else rows[-max(len(rows) // 5, 1) :]
        known = [row[name] for row in latest if math.isfinite(row[name])]
        if known:
            found[name] = math.fsum(known) / len(known)
    return found


def _valued(folder: Path) -> dict[str, float]:
    """What validation shoppers made of a seed's training; nothing where there were none."""
    record = json.loads((folder / "seed.json").read_text(encoding="utf-8"))
    return {name: record[name] for name in ("value", "value_error", "best_at", "stopped_at") if name in record}


def _teller(progress: Progress | None, before: int, total: int, words: str) -> Callable[[int], None] | None:
    if progress is None:
        return None
    return lambda done: progress(min(before + done, total), total, words)
