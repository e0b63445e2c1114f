"""`slatewise fit | train`: shoppers fitted on a log, and agents trained on them."""

from pathlib import Path
from typing import Annotated, Any

import typer

from . import steps
from .believing import check_held_out, realism_step
from .console import Reporter, checked, reported
from .inputs import HELD_OUT
from .learners import OFFLINE, settings_of
from .offline import train_offline_step
from .options import (
    Doubt,
    EncoderFolder,
    Examination,
    Family,
    Force,
    HeldOut,
    Json,
    Learner,
    Log,
    Out,
    Preset,
    Quiet,
    Reward,
    Seed,
    SlateSize,
    TextModel,
    pairs,
)
from .showing import show_evidence, show_learning
from .training import JudgedBy, train_step


def fit(
    log: Log,
    out: Out,
    family: Annotated[
        Family, typer.Option(help="`transformer`: states of an encoder; `boosted`: trees over hand-made columns.")
    ] = Family.transformer,
    encoder: Annotated[
        Path | None,
        typer.Option(help="The shopper's encoder; one is pretrained into OUT-encoder, on the other half, if left out."),
    ] = None,
    text_model: TextModel = None,
    click_rate: Annotated[
        float | None, typer.Option(help="Prior, where the log shows no slates: clicks a slate.")
    ] = None,
    slates_per_session: Annotated[
        float | None, typer.Option(help="Prior, where the log cannot tell when shoppers leave.")
    ] = None,
    members: Annotated[
        int,
        typer.Option(min=0, help="Members of the ensemble, each fitted on shoppers drawn anew; 0 for none."),
    ] = 10,
    examination: Annotated[
        Examination,
        typer.Option(help="How a slate is looked over; `auto`: the form that foretells later slates learnt from best."),
    ] = Examination.depth,
    report: Annotated[
        bool, typer.Option("--report", help="Write realism.html into OUT: how far the shoppers can be believed.")
    ] = False,
    held_out: HeldOut = HELD_OUT,
    seed: Seed = 0,
    force: Force = False,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Fit simulated shoppers: how far they look, what they choose, when they buy and when they leave.

    **Reads** the log, but for the latest sessions. Choices are learnt from slates shown (50 clicks on them at least)
    or, where a log has none, from what was viewed next; with an encoder, of the half of the shoppers that it did not
    learn from. Carts and purchases after a click, which are few, are learnt from both halves.

    **Writes** the shopper, with an ensemble whose members differ by what the log leaves open, and prints of each
    quantity whether the log told it, and how surely, or it was assumed. With `--report` also a page on how real the
    shoppers are: they take the real ones' places in the sessions held out.

    **Assumes** what a log cannot tell: named priors with ranges, which `--click-rate` and `--slates-per-session` set.

    **Four forms of examination**: `depth` looks to a depth and compares what it saw; `position` looks at each place by
    itself; `cascade` clicks the first item good enough; `dbn` is a cascade that may stop looking. `boosted` looks to a
    depth.

    **Two families**, so that no agent is judged by its teacher alone: train in one, and give the other to `evaluate
    --judge`. `boosted` needs no encoder. It learns from the half of the shoppers that `transformer` leaves to its
    encoder, so that the two share no shopper's choices, and neither states nor form; they share carts and purchases.
    """
    reporter = Reporter(as_json, quiet)
    priors = {"click_rate": click_rate, "slates_per_session": slates_per_session}
    with reported(reporter):
        if report:
            with checked():
                check_held_out(held_out)
        facts = steps.fit_command(
            reporter,
            log,
            out,
            family=family.value,
            encoder=encoder,
            text_model=text_model,
            held_out=held_out,
            seed=seed,
            members=members,
            examination=examination.value,
            priors={name: value for name, value in priors.items() if value is not None},
            force=force,
        )
        show_evidence(reporter, facts)
        reporter.tell(f"shopper: {out}")
        written: dict[str, str] = {}
        if report:
            written["report"] = str(realism_step(reporter, log, out, held_out=held_out, seed=seed))
            reporter.tell(f"realism report: {written['report']}")
        reporter.result({"out": str(out), **facts, **written})


def train(
    log: Log,
    encoder: EncoderFolder,
    out: Out,
    shopper: Annotated[
        Path | None, typer.Option(help="Folder that `fit` wrote: the shoppers to train on; not for bc and reinforce.")
    ] = None,
    agent: Annotated[
        Learner,
        typer.Option(help="`ppo`, `dqn`: on simulated shoppers; `bc`, `reinforce`: on the slates that the log shows."),
    ] = Learner.ppo,
    k: SlateSize = steps.SLATE_SIZE,
    total_steps: Annotated[
        int, typer.Option("--steps", min=1, help="Slates shown, or logged slates learnt from, in each training.")
    ] = 100_000,
    trainings: Annotated[
        int, typer.Option("--trainings", "--seeds", min=1, help="Trainings, with seeds from `--seed` on.")
    ] = 3,
    reward: Reward = steps.REWARD,
    doubt: Doubt = None,
    preset: Preset = None,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="NAME=VALUE", help="A setting of the learner's config; may be given again."),
    ] = None,
    settings_file: Annotated[
        Path | None,
        typer.Option(
            "--settings",
            metavar="FILE",
            help="Settings that `tune` wrote; `--set` goes before them, and they before `--preset`.",
        ),
    ] = None,
    judge: Annotated[
        Path | None,
        typer.Option(help="Other shoppers than `--shopper`, that value the agent as it learns, and stop it."),
    ] = None,
    judge_every: Annotated[
        int | None, typer.Option(min=1, help="Slates between two valuations by the judge; 10000.")
    ] = None,
    judge_shoppers: Annotated[
        int | None, typer.Option(min=2, help="Shoppers of each valuation, always the same; 500.")
    ] = None,
    patience: Annotated[
        int | None, typer.Option(min=1, help="Valuations without a gain after which training stops; 5.")
    ] = None,
    tensorboard: Annotated[
        Path | None,
        typer.Option(metavar="FOLDER", file_okay=False, help="Write TensorBoard logs here, in OUT/seed-S."),
    ] = None,
    held_out: Annotated[
        float | None,
        typer.Option(min=0.0, max=0.9, help="bc, reinforce: share of the sessions, the latest, not learnt from; 0.2."),
    ] = None,
    seed: Seed = 0,
    force: Force = False,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Train a slate agent: on simulated shoppers, through stable-baselines3, or on the log's own slates.

    **Reads** the log (for which items may be shown), an encoder and a shopper. `bc` (behaviour cloning: shows what the
    shop showed) and `reinforce` (top-k off-policy REINFORCE: learns from clicks and propensities) need no shopper, and
    learn from the slates of all but the latest sessions.

    **Writes** one policy for each training seed, with its learning curve. Killed, finished seeds are kept, and the one
    under way goes on from its last checkpoint, with other shoppers than without the kill.

    **Stops early** with `--judge`: each training is valued by the judge's shoppers, the same ones every time, its best
    version is kept, and it ends after `--patience` valuations without a gain. `export` then ships the training that
    they valued highest. A judge that stops is no independent judge any more: give `evaluate` a third one as `--judge`,
    whose verdict then counts.

    **Assumes** that the fitted shoppers are like the shop's own: `evaluate` says how far to believe it.
    """
    reporter = Reporter(as_json, quiet)
    with reported(reporter):
        with checked():
            offline = agent.value in OFFLINE
            if offline and not (shopper is None and doubt is None and judge is None):
                raise ValueError(f"{agent.value} learns from the log alone; leave --shopper, --doubt and --judge out")
            if not offline and shopper is None:
                raise ValueError(
                    f"{agent.value} learns on simulated shoppers; give a folder that `fit` wrote as --shopper"
                )
            if not offline and held_out is not None:
                raise ValueError(f"{agent.value} learns on simulated shoppers; leave --held-out out")
            if offline and preset is not None:
                raise ValueError(f"{agent.value} learns from the log alone, and has no presets; leave --preset out")
            told = {"every": judge_every, "shoppers": judge_shoppers, "patience": patience}
            told = {name: value for name, value in told.items() if value is not None}
            if judge is None and told:
                raise ValueError("--judge-every, --judge-shoppers and --patience go with --judge; name a judge")
        found, tuned_by = ({}, None) if settings_file is None else settings_of(settings_file, agent.value)
        parts: dict[str, Any] = {
            "encoder_folder": encoder,
            "agent": agent.value,
            "k": k,
            "steps": total_steps,
            "seeds": range(seed, seed + trainings),
            "reward": reward,
            "settings": {**found, **pairs(settings, "--set", "NAME=VALUE")},
            "tensorboard": tensorboard,
            "force": force,
        }
        if shopper is None:
            held_out = HELD_OUT if held_out is None else held_out
            facts = train_offline_step(reporter, log, out, **parts, held_out=held_out)
        else:
            judged = None if judge is None else JudgedBy(judge, **told)
            parts |= {"shopper_folder": shopper, "doubt": doubt, "tuned_by": tuned_by, "judge": judged}
            parts["preset"] = None if preset is None else preset.value
            facts = train_step(reporter, log, out, **parts)
        show_learning(reporter, facts)
        reporter.tell(f"agent: {out}")
        reporter.result({"out": str(out), **facts})
