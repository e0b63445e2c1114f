"""`slatewise evaluate | export`: what proves an agent, and what ships it."""

from pathlib import Path
from typing import Annotated

import typer

from . import steps
from .console import Reporter, reported
from .inputs import HELD_OUT
from .judging import evaluate_step, export_step
from .options import EncoderFolder, Force, HeldOut, Json, Log, Out, Quiet, Reward, Rules, Seed, pairs
from .showing import show_values


def evaluate(
    log: Log,
    encoder: EncoderFolder,
    shopper: Annotated[
        Path, typer.Option(help="Shoppers the agents were trained on; the myopic baselines use them too.")
    ],
    out: Out,
    agents: Annotated[list[Path] | None, typer.Option("--agent", help="Folder that `train` wrote; repeat.")] = None,
    judges: Annotated[
        list[str] | None,
        typer.Option("--judge", help="NAME=FOLDER of further shoppers to judge in, such as the truth; repeat."),
    ] = None,
    shoppers: Annotated[
        int, typer.Option(min=2, help="Simulated sessions for each policy; all meet the same ones.")
    ] = 2000,
    k: Annotated[int | None, typer.Option("--slate-size", "-k", min=1, help="Slots; the agents' by default.")] = None,
    reward: Reward = steps.REWARD,
    rules: Rules = None,
    held_out: HeldOut = HELD_OUT,
    seed: Seed = 0,
    force: Force = False,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Judge agents and baselines on the same shoppers, with 95 % intervals, and write an HTML report.

    **Reads** the log, an encoder, shoppers and agents.

    **Writes** `report.html`, `summary.json` and the outcome of every session. Killed, policies judged are kept.

    **Rules** of `--rules` are kept by every policy that scores items; those that do not (random, logged slates, myopic
    ones) are left out then.

    **Assumes** that an agent looks better in the simulator that it was trained in than it is: give `--judge` shoppers
    that it never met, and those decide.
    """
    reporter = Reporter(as_json, quiet)
    named = pairs(judges, "--judge", "NAME=FOLDER")
    with reported(reporter):
        facts = evaluate_step(
            reporter,
            log,
            out,
            encoder_folder=encoder,
            shopper_folder=shopper,
            agent_folders=agents or [],
            judges={name: Path(folder) for name, folder in named.items()},
            shoppers=shoppers,
            k=k,
            reward=reward,
            rules=rules,
            held_out=held_out,
            seed=seed,
            force=force,
        )
        show_values(reporter, out)
        reporter.tell(f"report: {out / 'report.html'}")
        reporter.result({"out": str(out), "report": str(out / "report.html"), **facts})


def export(
    agent: Annotated[Path, typer.Argument(metavar="AGENT", help="Folder that `train` wrote.")],
    log: Annotated[Path, typer.Option(help="The log the agent's encoder learnt from.")],
    encoder: EncoderFolder,
    out: Out,
    rules: Rules = None,
    training: Annotated[
        int | None,
        typer.Option(
            help="Which training seed; when left out, the one that `train --judge` valued highest, or that earned most."
        ),
    ] = None,
    evaluation: Annotated[Path | None, typer.Option(help="Folder that `evaluate` wrote, for the model card.")] = None,
    histories: Annotated[int, typer.Option(min=1, help="Held-out histories to compare slates on.")] = 1000,
    force: Force = False,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Write a policy bundle: one folder that serves slates, checked against the policy that was trained.

    **Reads** an agent, and the log and the encoder that it learnt with.

    **Writes** `policy.onnx` (raw history to scores), the catalogue, hashes and a model card; no pickle. Stops where a
    slate differs from the trained policy's on one of the latest histories of the log.

    **Rules** of `--rules` go into the bundle, and every slate served keeps them.

    **Assumes** that the catalogue served is the log's: an item that it lacks needs a new `ingest`.
    """
    reporter = Reporter(as_json, quiet)
    with reported(reporter):
        facts = export_step(
            reporter,
            agent,
            out,
            log_folder=log,
            encoder_folder=encoder,
            seed=training,
            evaluation_folder=evaluation,
            rules=rules,
            histories=histories,
            force=force,
        )
        parity = facts["parity"]
        reporter.tell(f"{parity['equal']:,} of {parity['histories']:,} served slates equal the trained policy's: {out}")
        reporter.tell(f"serve it: slatewise serve {out} --store events.db")
        reporter.result({"out": str(out), **facts})
