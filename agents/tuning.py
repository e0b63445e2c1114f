"""A search for better settings of an agent: Optuna proposes, simulated shoppers value, and hopeless trials end early.

Every trial meets the same shoppers while it trains (its seeds are those of all trials) and is valued by the same
validation shoppers, so that trials differ by their settings, and not by who came. What a trial is worth is the value
of its best version, the mean over its trainings. The first trial is of the defaults.

The study lies in an SQLite file and can be read by Optuna's own tools. Each trial's proposals are drawn from a
generator of its own and from the trials finished before, so that a search that was killed goes on as it would have (but
for Hyperband's brackets, which go by numbers of trials: one that was cut off keeps its own).

Source: Akiba et al., "Optuna", KDD 2019; tree-structured Parzen estimator, Bergstra et al., NeurIPS 2011; Hyperband, Li
et al., JMLR 2018.
"""

import csv
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from .artefact import AgentConfig, Progress, seed_env
from .learning import DivergedError, check_enough
from .search_spaces import Choices, Space
from .validation import BestKept, Validation, Value

if TYPE_CHECKING:
    import optuna

Pruner = Literal["median", "hyperband", "none"]
STUDY, TRIALS = "study.db", "trials.csv"
_APART = 50_000  # seeds of trainings begin so far on: `train`, from `seed` on, must not meet the luck that chose
_STARTUP = 10  # random trials before those proposed
_WARM = 2  # valuations of every trial that end none: of the untrained version, and the first
_ENOUGH = 20  # complete trials from which on the settings' importance is told


@dataclass(frozen=True, kw_only=True)
class Search:
    """Settings of a search; all but `trials` and `minutes` decide what each trial is."""

    trials: int = 30
    """Trials in all, those of earlier runs included."""
    minutes: float | None = None
    """No trial begins later in this run, once the defaults and one more were tried."""
    seeds: int = 1
    """Trainings of each trial."""
    seed: int = 0
    """Decides proposals and trainings; `train` with seeds from here on meets others."""
    total_timesteps: int = 20_000
    """Slates shown in each training."""
    valuations: int = 5
    """Of each training, spread evenly, beside that of the untrained version."""
    pruner: Pruner = "median"
    """Which trials end early: those below the median of the others, those that Hyperband's brackets drop, or none."""

    def __post_init__(self) -> None:
        for name in ("trials", "seeds", "total_timesteps", "valuations"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        if self.minutes is not None and self.minutes <= 0:
            raise ValueError(f"minutes must be above 0, got {self.minutes}")
        if self.pruner not in ("median", "hyperband", "none"):
            raise ValueError(f"pruner must be 'median', 'hyperband' or 'none', got {self.pruner!r}")

    @property
    def every(self) -> int:
        """Slates between valuations."""
        return max(self.total_timesteps // self.valuations, 1)

    def plan(self) -> dict[str, Any]:
        """Plain values of what decides each trial."""
        names = ("seeds", "seed", "total_timesteps", "valuations", "pruner")
        return {name: getattr(self, name) for name in names}


@dataclass(frozen=True)
class Tuned:
    """What a search found.

    Attributes:
        settings: searched settings of the best trial.
        value: what it is worth to the validation shoppers. The best of many: expect less of it on other shoppers.
        defaults: what the defaults are worth to them.
        number: of the best trial; 0 for the defaults.
        trials: a row a finished trial: `trial`, `state` ("complete", "pruned", "diverged"), `value`, `seconds`, and
            its settings.
        importance: setting -> share of the differences it explains (PED-ANOVA), largest first; empty for few trials.
    """

    settings: dict[str, Any]
    value: float
    defaults: float
    number: int
    trials: list[dict[str, Any]]
    importance: dict[str, float]


def tune(
    make_env: Callable[[int], Any],
    folder: str | Path,
    *,
    config: AgentConfig,
    space: Space,
    value: Value,
    item_vectors: Any,
    available: Any = None,
    click_model: Any = None,
    search: Search | None = None,
    progress: Progress | None = None,
) -> Tuned:
    """Search for better settings of an agent; a folder with an unfinished search of the same space is gone on with.

    Args:
        make_env: seed -> a `VecEnv` of slates. Made once for each training.
        folder: for the study (`study.db`) and the table of trials (`trials.csv`).
        config: the defaults; what is not searched stays as it is here.
        space: what is searched, the defaults inside; see `search_spaces.space_of`.
        value: of a policy, by validation shoppers.
        item_vectors: (N + 1, D) by dense index.
        available: (N + 1,) bool, items that may be shown; all by default.
        click_model: for `DQNConfig(choice="shopper")`.
        search: settings of the search.
        progress: told (slates shown, of all trials together, words).

    Raises:
        DivergedError: of the defaults. Other trials that diverge are given up, and count as bad ones.
        ModuleNotFoundError: optuna is not installed.
        ValueError: a training ends before learning begins, or parts do not fit.
    """
    search, folder = search or Search(), Path(folder)
    check_enough(config, search.total_timesteps)
    build: dict[str, Any] = {"item_vectors": item_vectors, "available": available}
    build |= {} if click_model is None else {"click_model": click_model}
    deadline = None if search.minutes is None else time.monotonic() + 60 * search.minutes
    with _study(folder, search, config, space) as study:
        for place in range(_finished(study), search.trials):
            if deadline is not None and place >= 2 and time.monotonic() > deadline:
                break
            study.sampler = _sampler(search.seed, place)
            told = _teller(progress, search, place, study)
            trial = study.ask()
            proposed = {name: _suggested(trial, name, one) for name, one in space.items()}
            _run(study, trial, replace(config, **proposed), make_env, build, value, search, told)
        found = _found(study)
    _write_trials(found.trials, folder / TRIALS)
    return found


@contextmanager
def _study(folder: Path, search: Search, config: AgentConfig, space: Space) -> Any:
    """The study in a folder, opened or made anew; trials that a kill cut off are given up, and the file is closed."""
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    storage = optuna.storages.RDBStorage(f"sqlite:///{(folder / STUDY).absolute()}")
    try:
        study = optuna.create_study(
            storage=storage, study_name="slatewise", direction="maximize", load_if_exists=True, pruner=_pruner(search)
        )
        states = optuna.trial.TrialState
        for cut in study.get_trials(deepcopy=False, states=(states.RUNNING,)):
            study.tell(cut.number, state=states.FAIL)
        if not _finished(study) and not study.get_trials(deepcopy=False, states=(states.WAITING,)):
            study.enqueue_trial({name: getattr(config, name) for name in space})
        yield study
    finally:
        storage.remove_session()
        storage.engine.dispose()


def _finished(study: "optuna.Study") -> int:
    """Trials that ended, by themselves or by the pruner."""
    return sum(trial.state.name in ("COMPLETE", "PRUNED") for trial in study.get_trials(deepcopy=False))


def _sampler(seed: int, place: int) -> Any:
    """What proposes the trial after `place` finished ones; made anew for each, for Optuna keeps no sampler's state."""
    from optuna.samplers import TPESampler

    drawn = int(np.random.SeedSequence([seed, place]).generate_state(1)[0])
    return TPESampler(seed=drawn, n_startup_trials=_STARTUP, constant_liar=False)


def _pruner(search: Search) -> Any:
    from optuna.pruners import HyperbandPruner, MedianPruner, NopPruner

    steps = search.seeds * (search.valuations + 1)
    if search.pruner == "median":
        return MedianPruner(n_startup_trials=5, n_warmup_steps=_WARM)
    return HyperbandPruner(min_resource=_WARM, max_resource=steps) if search.pruner == "hyperband" else NopPruner()


def _suggested(trial: "optuna.Trial", name: str, one: Any) -> Any:
    if isinstance(one, Choices):
        return trial.suggest_categorical(name, one.values)
    whole = isinstance(one.low, int) and isinstance(one.high, int)
    return (trial.suggest_int if whole else trial.suggest_float)(name, one.low, one.high, log=one.log)


def _run(
    study: "optuna.Study",
    trial: "optuna.Trial",
    config: AgentConfig,
    make_env: Callable[[int], Any],
    build: Mapping[str, Any],
    value: Value,
    search: Search,
    told: Callable[[int], None],
) -> None:
    """Train and value one trial's settings, and tell the study what came of it."""
    from optuna import TrialPruned
    from optuna.trial import TrialState

    worth: list[float] = []
    reported = -1
    try:
        for place in range(search.seeds):

            def heard(best: BestKept, place: int = place) -> None:
                nonlocal reported
                shown = int(best.rows[-1]["timesteps"])
                told(place * search.total_timesteps + shown)
                # By slates shown, for trials are compared at the same step, and rollouts may be longer than `every`.
                step = place * (search.valuations + 1) + min(shown // search.every, search.valuations)
                if step > reported:
                    trial.report(float(np.mean([*worth, best.best["value"]])), step)
                    reported = step
                    if trial.should_prune():
                        raise TrialPruned

            worth.append(_trained(config, search.seed + _APART + place, make_env, build, value, search, heard))
    except TrialPruned:
        study.tell(trial, state=TrialState.PRUNED)
    except DivergedError:
        if not _finished(study):
            raise
        trial.set_user_attr("diverged", True)
        study.tell(trial, state=TrialState.PRUNED)
    else:
        study.tell(trial, float(np.mean(worth)))


def _trained(
    config: AgentConfig,
    seed: int,
    make_env: Callable[[int], Any],
    build: Mapping[str, Any],
    value: Value,
    search: Search,
    heard: Callable[[BestKept], None],
) -> float:
    """The value of the best version of one training."""
    validation = Validation(value=value, every=search.every, patience=None)
    best = BestKept(validation, heard)
    with closing(make_env(seed)) as env:
        agent = config.build(env, seed=seed, **build)
        seed_env(agent, seed)
        agent.learn(search.total_timesteps, callback=best, reset_num_timesteps=False, log_interval=10**9)
    return best.best["value"]


def _found(study: "optuna.Study") -> Tuned:
    rows = []
    for trial in study.get_trials(deepcopy=False):
        if trial.state.name not in ("COMPLETE", "PRUNED"):
            continue
        state = "diverged" if trial.user_attrs.get("diverged") else trial.state.name.lower()
        seconds = trial.duration.total_seconds() if trial.duration is not None else float("nan")
        row = {"trial": len(rows), "state": state, "value": trial.value, "seconds": round(seconds, 1)}
        rows.append({**row, **trial.params})
    complete = [row for row in rows if row["state"] == "complete"]
    best = max(complete, key=lambda row: row["value"])
    settings = {name: best[name] for name in best if name not in ("trial", "state", "value", "seconds")}
    importance = _importance(study) if len(complete) >= _ENOUGH else {}
    return Tuned(settings, best["value"], rows[0]["value"], best["trial"], rows, importance)


def _importance(study: "optuna.Study") -> dict[str, float]:
    from optuna.importance import PedAnovaImportanceEvaluator, get_param_importances

    found = get_param_importances(study, evaluator=PedAnovaImportanceEvaluator())
    return {name: round(float(share), 4) for name, share in found.items()}


def _write_trials(rows: Sequence[Mapping[str, Any]], path: Path) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer: csv.DictWriter[str] = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def _teller(progress: Progress | None, search: Search, place: int, study: "optuna.Study") -> Callable[[int], None]:
    if progress is None:
        return lambda _done: None
    each = search.seeds * search.total_timesteps
    best = f", best {study.best_value:.4g}" if any(one.state.name == "COMPLETE" for one in study.trials) else ""
    words = f"trial {place + 1} of {search.trials}{best}"
    return lambda done: progress(place * each + min(done, each), search.trials * each, words)
