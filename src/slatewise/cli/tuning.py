"""`slatewise tune`: a search for an agent's settings, and what they are worth to shoppers that chose nothing."""

import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from ..datasets.artefact import building, is_finished, write_json
from . import steps
from .console import Reporter, checked, plain, reported
from .inputs import facts_of
from .learners import changed, learner_config, preset_for
from .options import (
    Doubt,
    EncoderFolder,
    EndsEarly,
    Force,
    Json,
    Log,
    Out,
    Preset,
    Quiet,
    Reward,
    Seed,
    SlateSize,
    Tunable,
    pairs,
)
from .showing import show_trials
from .training import Ground

SETTINGS = "settings.json"
"""Name of the file that `train --settings` takes."""
DEFAULTS = "defaults"
"""Folder, and name in comparisons, of the agent with settings that were not searched."""
_FRESH = 100_000  # training seeds of the check begin so far from the search's
_FRESH_SHOPPERS = 20_000  # and its shoppers' seed so far from those of `evaluate`


@dataclass(frozen=True)
class Check:
    """How the best settings are held against the defaults in the end."""

    seeds: int = 3
    shoppers: int = 2_000


def tune(
    log: Log,
    encoder: EncoderFolder,
    shopper: Annotated[Path, typer.Option(help="Folder that `fit` wrote: the shoppers to train on.")],
    judge: Annotated[Path, typer.Option(help="Other shoppers, that value every trial.")],
    out: Out,
    agent: Annotated[Tunable, typer.Option(help="Whose settings are searched.")] = Tunable.ppo,
    trials: Annotated[
        int, typer.Option(min=1, help="Settings tried in all; more of them go on from those there are.")
    ] = 30,
    minutes: Annotated[float | None, typer.Option(min=0, help="No trial begins after so many minutes.")] = None,
    seeds: Annotated[int, typer.Option("--seeds", "--trainings", min=1, help="Trainings of each trial.")] = 1,
    total_steps: Annotated[int, typer.Option("--steps", min=1, help="Slates shown in each training.")] = 20_000,
    valuations: Annotated[int, typer.Option(min=1, help="How often the judge values each training.")] = 5,
    judge_shoppers: Annotated[int, typer.Option(min=2, help="Shoppers of each valuation, always the same.")] = 500,
    pruner: Annotated[
        EndsEarly, typer.Option(help="Which trials end early: `median`, below that of the others; `hyperband`; `none`.")
    ] = EndsEarly.median,
    preset: Preset = None,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="NAME=VALUE", help="A setting that is fixed, not searched; may be given again."),
    ] = None,
    check_seeds: Annotated[
        int, typer.Option(min=1, help="Trainings, with fresh seeds, of the best settings and of the defaults.")
    ] = 3,
    check_shoppers: Annotated[int, typer.Option(min=2, help="Fresh shoppers of the judge whom both serve.")] = 2_000,
    k: SlateSize = steps.SLATE_SIZE,
    reward: Reward = steps.REWARD,
    doubt: Doubt = None,
    seed: Seed = 0,
    force: Force = False,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Search an agent's settings with Optuna, on fitted shoppers, and say what the best are worth on fresh ones.

    **Reads** the log (for which items may be shown), an encoder, the shoppers to train on, and others that judge.

    **Writes** `settings.json`, for `train --settings`; `study.db`, which Optuna's own tools read; `trials.csv`; and two
    agents, of the best settings and of the defaults. Killed, it goes on with the trial under way, and tries what it
    would have tried.

    **Tries** the defaults first, then settings that Optuna proposes (TPE), all on the same shoppers; docs/agents.md has
    the ranges. With `--preset`, its settings take the place of the defaults throughout. A trial is worth its best
    version, by the judge's shoppers.

    **Assumes** nothing of the best trial's own value, which is partly luck: the best settings and the defaults are
    trained again with fresh seeds and serve fresh shoppers of the judge. It chose, so let `evaluate` have a third one.
    """
    reporter = Reporter(as_json, quiet)
    with reported(reporter):
        from ..agents.tuning import Search

        with checked():
            search = Search(
                trials=trials,
                minutes=minutes,
                seeds=seeds,
                seed=seed,
                total_timesteps=total_steps,
                valuations=valuations,
                pruner=pruner.value,
            )
        facts = tune_step(
            reporter,
            log,
            out,
            encoder_folder=encoder,
            shopper_folder=shopper,
            judge_folder=judge,
            agent=agent.value,
            search=search,
            check=Check(check_seeds, check_shoppers),
            judge_shoppers=judge_shoppers,
            settings=pairs(settings, "--set", "NAME=VALUE"),
            preset=None if preset is None else preset.value,
            k=k,
            reward=reward,
            doubt=doubt,
            force=force,
        )
        show_trials(reporter, facts, out / "trials.csv")
        reporter.tell(
            f"settings: {out / SETTINGS}; slatewise train ... --agent {agent.value} --settings {out / SETTINGS}"
        )
        reporter.result({"out": str(out), "file": str(out / SETTINGS), **facts})


def tune_step(
    reporter: Reporter,
    log_folder: Path,
    out: Path,
    *,
    encoder_folder: Path,
    shopper_folder: Path,
    judge_folder: Path,
    agent: str,
    search: Any,
    check: Check,
    judge_shoppers: int = 500,
    settings: Mapping[str, str] | None = None,
    preset: str | None = None,
    k: int = steps.SLATE_SIZE,
    reward: str = steps.REWARD,
    doubt: float | None = None,
    force: bool = False,
) -> dict[str, Any]:
    """Search, then hold the best settings against the defaults; a finished search goes on where more is asked for."""
    import optuna  # noqa: F401 - so that it is missed before anything is loaded

    ground = Ground.load(log_folder, encoder_folder, shopper_folder, k=k, reward=reward, doubt=doubt)
    from ..agents.learning import check_enough
    from ..agents.search_spaces import as_plain, space_of
    from ..agents.tuning import STUDY, tune

    base, chose = preset_for(agent, preset, ground.catalogue.n_items, reporter)
    with checked():
        config = learner_config(agent, settings, base)
        space = space_of(agent, settings or {}, config)
        check_enough(config, search.total_timesteps)
    judge, judge_id = ground.judge(judge_folder)
    value = ground.valuer(judge, judge_shoppers, search.seed)
    plan = {**ground.settings(), "algorithm": agent, "config": config.to_dict(), "space": as_plain(space)}
    plan |= {**search.plan(), "judge_shoppers": judge_shoppers, "check": asdict(check)}
    inputs = {**ground.inputs, "judge": judge_id}
    asked = {"trials": search.trials, "minutes": search.minutes}
    more = not force and is_finished(out, "tuning", plan, inputs)
    if more:
        facts = facts_of(out, "tuning")
        if facts["asked"] == asked or facts["tried"] >= search.trials:
            return facts
    with building(out, "tuning", plan, inputs, force=force or more) as draft:
        if more and not (draft.folder / STUDY).is_file():
            copied = draft.folder / f"{STUDY}.new"
            shutil.copy(out / STUDY, copied)
            copied.replace(draft.folder / STUDY)  # in one step, for a kill must not leave half of it
        with reporter.step(f"searching settings of {agent}, {search.trials} trials") as progress:
            found = tune(
                folder=draft.folder,
                config=config,
                space=space,
                value=value,
                search=search,
                progress=progress,
                **ground.parts(config),
            )
        # A preset's settings that are not searched are in none of the trials, and must go with the best of them.
        given = {name: getattr(config, name) for name in {**changed(config), **(settings or {})}}
        best = {**given, **found.settings}
        write_json(draft.folder / SETTINGS, {"agent": agent, "settings": best, "judge": judge_id})
        states = [row["state"] for row in found.trials]
        draft.facts |= {
            **chose,
            "asked": asked,
            "tried": len(states),
            "ended_early": len(states) - states.count("complete"),
            "best_trial": found.number,
            "settings": best,
            "value": found.value,
            "defaults_value": found.defaults,
            "importance": found.importance,
            "judge": str(judge_folder),
        }
        if found.number:
            named = {DEFAULTS: config, f"trial-{found.number}": learner_config(agent, best)}
            row = _held_against_defaults(
                reporter, ground, draft.folder, named, search, check, judge, inputs, value, judge_shoppers
            )
            draft.facts["check"] = row
    return facts_of(out, "tuning")


def _held_against_defaults(
    reporter: Reporter,
    ground: Ground,
    folder: Path,
    named: Mapping[str, Any],
    search: Any,
    check: Check,
    judge: Any,
    inputs: Mapping[str, str],
    value: Any,
    judge_shoppers: int,
) -> dict[str, Any]:
    """Train the defaults and the best settings with fresh seeds, and let both serve the same fresh shoppers."""
    from ..agents import Validation, train
    from ..evaluation import compare
    from ..evaluation import judge as judge_policies

    fresh = search.seed + _FRESH
    agents = {}
    for name, config in named.items():
        with reporter.step(f"training {name} anew, {check.seeds} fresh seeds") as progress:
            agents[name] = train(
                out=folder / name,
                config=config,
                **ground.parts(config),
                seeds=list(range(fresh, fresh + check.seeds)),
                total_timesteps=search.total_timesteps,
                settings={**ground.settings(), "judge_shoppers": judge_shoppers},
                inputs=inputs,
                validation=Validation(value=value, every=search.every, patience=None),
                progress=progress,
            )
    with reporter.step("serving fresh shoppers") as progress:
        outcomes = judge_policies(
            agents,
            judge,
            ground.encoder,
            shoppers=check.shoppers,
            seed=search.seed + _FRESH_SHOPPERS,
            k=ground.k,
            reward=ground.reward,
            available=ground.available,
            shopper_name="judge",
            progress=progress,
        )
    defaults, best = named
    return plain(asdict(compare(outcomes, best, defaults, "reward", seed=search.seed)))
