"""Offline agents as artefacts: one for each seed, of the same kind of folder as agents trained on shoppers."""

import json
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from numpy.typing import ArrayLike
from torch import Tensor

from ..datasets.artefact import building, is_finished, write_json
from .artefact import LearnedPolicy, Progress, load_agents, save_weights, training_plan, write_description
from .offline import OfflineAgent, OfflineConfig
from .offline_data import LoggedSlates
from .tracking import tensorboard_logger

_TOLD = 20  # times a training tells how far it is


def train_offline(
    data: LoggedSlates,
    out: str | Path,
    *,
    config: OfflineConfig,
    item_vectors: ArrayLike | Tensor,
    available: ArrayLike | Tensor | None = None,
    k: int | None = None,
    later: LoggedSlates | None = None,
    seeds: Sequence[int] = (0, 1, 2),
    total_timesteps: int = 100_000,
    inputs: Mapping[str, str] | None = None,
    settings: Mapping[str, Any] | None = None,
    facts: Mapping[str, Any] | None = None,
    tensorboard: str | Path | None = None,
    force: bool = False,
    progress: Progress | None = None,
) -> list[LearnedPolicy]:
    """Train one offline agent for each seed, into an artefact of kind "agent"; `load_agents` reads it.

    A folder already finished with the same settings is read back; of a killed run, finished seeds are kept.

    Args:
        data: logged slates to learn from.
        out: folder of the artefact.
        config: of the learner.
        item_vectors: (N + 1, D) by dense index, as wide as the states.
        available: (N + 1,) bool, items that may be shown; all by default.
        k: slots of the agent's slates; those of the log by default.
        later: slates of later sessions; how likely the policy makes them is written down.
        seeds: training seeds, at least one, all different.
        total_timesteps: logged slates learnt from in each training, each time counted.
        inputs: name -> id of the artefacts read (log, encoder).
        settings: what else decides the result.
        facts: figures to keep.
        tensorboard: folder of TensorBoard logs, a run of its own for each seed; decides no result.
        force: train anew over a finished folder.
        progress: told (slates, of all seeds together, words).

    Raises:
        ArtefactError: `out` holds something else, or other settings, and `force` is not set.
        DivergedError: a loss is no longer finite.
        EvidenceError: the log does not hold what is learnt from.
        ModuleNotFoundError: `tensorboard` is named and not installed.
        ValueError: seeds, vectors or availability do not fit, or `total_timesteps` ends before learning begins.
    """
    out, seeds = Path(out), list(seeds)
    plan = training_plan(config, seeds, total_timesteps, settings)
    algorithm = plan["algorithm"]
    if not force and is_finished(out, "agent", plan, dict(inputs or {})):
        return load_agents(out)
    with building(out, "agent", plan, inputs, force=force) as draft:
        learning: dict[str, dict[str, float]] = {}
        for place, seed in enumerate(seeds):
            agent = config.build(data, item_vectors=item_vectors, available=available, k=k, seed=seed)
            folder, began = draft.folder / f"seed-{seed}", time.monotonic()
            if not (folder / "seed.json").is_file():
                folder.mkdir(exist_ok=True)
                logger = None if tensorboard is None else tensorboard_logger(tensorboard, seed)
                for step in range(_TOLD):
                    agent.learn(max(total_timesteps * (step + 1) // _TOLD - agent.num_timesteps, 0))
                    if logger is not None:
                        for name, value in agent.figures.items():
                            logger.record(f"train/{name}", value)
                        logger.dump(agent.num_timesteps)
                    if progress is not None:
                        done = place * total_timesteps + min(agent.num_timesteps, total_timesteps)
                        progress(done, len(seeds) * total_timesteps, f"{algorithm}, seed {seed}")
                if logger is not None:
                    logger.close()
                save_weights(agent.scorer, folder / "policy.safetensors")
                found = _found(agent, later) | {"seconds": round(time.monotonic() - began, 1)}
                write_json(folder / "seed.json", {"seed": seed, **found})
            write_description(draft.folder, agent.scorer, algorithm, seeds)
            learning[str(seed)] = _read_seed(folder)
        draft.facts.update(facts or {})
        draft.facts["learning"] = learning
    return load_agents(out)


def _found(agent: OfflineAgent, later: LoggedSlates | None) -> dict[str, float]:
    found = {"timesteps": agent.num_timesteps, **agent.figures}
    if later is not None and len(later):
        found["later_log_likelihood"] = agent.log_likelihood(later)
    return found


def _read_seed(folder: Path) -> dict[str, float]:
    record = json.loads((folder / "seed.json").read_text(encoding="utf-8"))
    return {name: float(value) for name, value in record.items() if name != "seed"}
