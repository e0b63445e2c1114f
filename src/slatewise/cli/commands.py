"""The commands: what each reads, writes and assumes is said in its help."""

from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from . import steps
from .console import EXIT_HELP, Reporter, reported

app = typer.Typer(
    name="slatewise",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    help=(
        "Learn a shop from its logs, train the agent that fills its shelves, prove it, and serve it.\n\n"
        "`slatewise demo` runs everything once. By hand, in this order, each step reads the folder that the one before "
        "wrote: `ingest` → `pretrain` → `fit` → `train` → `evaluate` → `export` → `serve`; and `ingest --source store` "
        "reads back what the server stored.\n\n"
        "A killed step goes on where it was when the same command is given again. A finished folder of the same "
        "settings is left as it is; other settings need another `--out`, or `--force`.\n\n" + EXIT_HELP
    ),
)

Json = Annotated[
    bool, typer.Option("--json", help="Print one JSON object instead of tables; progress stays on stderr.")
]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No progress.")]
Force = Annotated[bool, typer.Option("--force", help="Build anew over a finished folder.")]
Seed = Annotated[int, typer.Option("--seed", min=0, help="Decides everything random; the same seed, the same result.")]
Log = Annotated[Path, typer.Argument(metavar="LOG", help="Folder that `ingest` (or `demo`) wrote.")]
Out = Annotated[Path, typer.Option("--out", "-o", help="Folder to write.")]
EncoderFolder = Annotated[Path, typer.Option("--encoder", help="Folder that `pretrain` wrote.")]
HeldOut = Annotated[
    float,
    typer.Option("--held-out", min=0.0, max=0.9, help="Share of the sessions, the latest, that is not learnt from."),
]


class Learner(StrEnum):
    """Learning agents."""

    ppo = "ppo"
    dqn = "dqn"


class ShoppersOf(StrEnum):
    """Halves of the shoppers, by a hash of their ids."""

    agent = "agent"
    simulator = "simulator"
    all = "all"


def _pairs(given: list[str], option: str) -> dict[str, str]:
    """`["a=b"]` -> `{"a": "b"}`."""
    pairs = {}
    for text in given:
        name, equals, value = text.partition("=")
        if not equals or not name:
            raise typer.BadParameter(f"{option} takes OURS=THEIRS, got {text!r}")
        pairs[name] = value
    return pairs


@app.command()
def ingest(
    paths: Annotated[list[Path], typer.Argument(help="Files or folders of the log.")],
    out: Out,
    source: Annotated[str, typer.Option("--source", "-s", help="Format; see below, or `--list-sources`.")] = "table",
    catalogue: Annotated[
        Path | None,
        typer.Option(help="The shop's product table, CSV or Parquet: item_id, text, category, brand, price."),
    ] = None,
    mapping: Annotated[
        list[str] | None, typer.Option("--map", help="OURS=THEIRS: which column holds what, for source `table`.")
    ] = None,
    event_names: Annotated[
        list[str] | None, typer.Option("--event", help="THEIRS=OURS: what the shop's event names mean; empty to skip.")
    ] = None,
    default_event: Annotated[str, typer.Option(help="Event of rows that name none.")] = "",
    session_gap: Annotated[float, typer.Option(help="Seconds without an event that end a session.")] = 1800.0,
    bot_rate: Annotated[
        float, typer.Option(help="Most actions a minute before a session is taken for a bot's.")
    ] = 60.0,
    timezone: Annotated[str, typer.Option(help="Zone of times that carry none, for instance Europe/Warsaw; UTC.")] = "",
    time_unit: Annotated[str, typer.Option(help="Unit of times written as numbers: auto, s, ms, us or ns.")] = "auto",
    pseudonym_key: Annotated[
        str, typer.Option(envvar="SLATEWISE_PSEUDONYM_KEY", help="Replace ids of shoppers by a keyed hash of them.")
    ] = "",
    force: Force = False,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Read a shop's log into the event schema: cleaned, cut into sessions, with its catalogue.

    Rows that cannot be used go to `OUT/quarantine.jsonl` with file, line and reason; a file that is not what it is said
    to be stops the command before anything is written.
    """
    reporter = Reporter(as_json, quiet)
    with reported(reporter):
        facts = steps.ingest_step(
            reporter,
            paths,
            out,
            source=source,
            catalogue=catalogue,
            mapping=_pairs(mapping or [], "--map"),
            force=force,
            settings={
                "session_gap": session_gap,
                "bot_rate": bot_rate,
                "timezone": timezone,
                "time_unit": time_unit,
                "default_event": default_event,
                "event_names": _pairs(event_names or [], "--event"),
                "pseudonym_key": pseudonym_key,
            },
        )
        rows = [(name.replace("_", " "), f"{count:,}") for name, count in _flat(facts.get("rows", {}))]
        reporter.table(f"Rows of {', '.join(str(path) for path in paths)}", ["what became of them", "rows"], rows)
        reporter.tell(
            f"{facts['sessions']:,} sessions of {facts['shoppers']:,} shoppers over {facts['items']:,} items: {out}"
        )
        reporter.result({"out": str(out), **facts})


def _flat(value: Mapping[str, Any], before: str = "") -> list[tuple[str, int]]:
    rows: list[tuple[str, int]] = []
    for name, one in value.items():
        label = f"{before}{name}"
        rows += _flat(one, f"{label}: ") if isinstance(one, Mapping) else [(label, int(one))]
    return rows


@app.command()
def pretrain(
    log: Log,
    out: Out,
    text_model: Annotated[
        str | None,
        typer.Option(help="Hub id or folder of the text model; all-MiniLM-L6-v2 (English) when left out."),
    ] = None,
    width: Annotated[int, typer.Option(min=4, help="Width of states and item vectors.")] = 64,
    layers: Annotated[int, typer.Option(min=1, help="Transformer layers.")] = 2,
    window: Annotated[int, typer.Option(min=1, help="Tokens that a token looks back on.")] = 50,
    epochs: Annotated[int, typer.Option(min=1, help="Passes over the log at most; stops early.")] = 20,
    shoppers: Annotated[ShoppersOf, typer.Option(help="Which half of the shoppers to learn from.")] = ShoppersOf.agent,
    held_out: HeldOut = steps.HELD_OUT,
    seed: Seed = 0,
    force: Force = False,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Encode item texts with a pretrained Transformer, and pretrain the session encoder on the log.

    Prints how well it foretells the next item on the held-out sessions, beside item-kNN and popularity. The agent's
    encoder learns from one half of the shoppers, so that the simulated shopper can have one of its own (`fit`).
    """
    reporter = Reporter(as_json, quiet)
    with reported(reporter):
        facts = steps.pretrain_step(
            reporter,
            log,
            out,
            selection=steps.Selection(held_out, "train", shoppers.value),
            settings={"width": width, "layers": layers, "window": window, "epochs": epochs, "seed": seed},
            text_model=text_model,
            force=force,
        )
        facts["next_item"] = steps.next_item_step(reporter, log, out, held_out)
        reporter.table(
            "Next item on held-out sessions, whole catalogue ranked",
            ["model", "metric", "value [95 % interval]"],
            [(row["model"], row["metric"], steps.with_interval(row)) for row in facts["next_item"]],
        )
        reporter.tell(f"encoder: {out}")
        reporter.result({"out": str(out), **facts})


@app.command()
def fit(
    log: Log,
    out: Out,
    encoder: Annotated[
        Path | None,
        typer.Option(
            help="The shopper's encoder; one is pretrained beside OUT, on the other half of shoppers, if left out."
        ),
    ] = None,
    text_model: Annotated[str | None, typer.Option(help="Text model of the encoder pretrained here.")] = None,
    click_rate: Annotated[
        float | None, typer.Option(help="Prior, where the log shows no slates: clicks a slate.")
    ] = None,
    slates_per_session: Annotated[
        float | None, typer.Option(help="Prior, where the log cannot tell when shoppers leave.")
    ] = None,
    held_out: HeldOut = steps.HELD_OUT,
    seed: Seed = 0,
    force: Force = False,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Fit simulated shoppers: how far they look, what they choose, when they buy and when they leave.

    Prints what was learned from the log and what had to be assumed.
    """
    reporter = Reporter(as_json, quiet)
    priors = {"click_rate": click_rate, "slates_per_session": slates_per_session}
    with reported(reporter):
        facts = steps.fit_command(
            reporter,
            log,
            out,
            encoder=encoder,
            text_model=text_model,
            held_out=held_out,
            seed=seed,
            priors={name: value for name, value in priors.items() if value is not None},
            force=force,
        )
        steps.show_evidence(reporter, facts)
        reporter.tell(f"shopper: {out}")
        reporter.result({"out": str(out), **facts})


@app.command()
def train(
    log: Log,
    encoder: EncoderFolder,
    shopper: Annotated[Path, typer.Option(help="Folder that `fit` wrote: the shoppers to train on.")],
    out: Out,
    agent: Annotated[Learner, typer.Option(help="Which learner.")] = Learner.ppo,
    k: Annotated[int, typer.Option("--slate-size", "-k", min=1, help="Slots of a slate.")] = steps.SLATE_SIZE,
    total_steps: Annotated[int, typer.Option("--steps", min=1, help="Slates shown in each training.")] = 100_000,
    trainings: Annotated[int, typer.Option(min=1, help="Trainings with different seeds.")] = 3,
    reward: Annotated[str, typer.Option(help="clicks, purchases, revenue or clicks_and_purchases.")] = steps.REWARD,
    seed: Seed = 0,
    force: Force = False,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Train a slate agent on simulated shoppers, through stable-baselines3."""
    reporter = Reporter(as_json, quiet)
    with reported(reporter):
        facts = steps.train_step(
            reporter,
            log,
            out,
            encoder_folder=encoder,
            shopper_folder=shopper,
            agent=agent.value,
            k=k,
            steps=total_steps,
            seeds=range(seed, seed + trainings),
            reward=reward,
            force=force,
        )
        reporter.tell(f"agent: {out}")
        reporter.result({"out": str(out), **facts})


@app.command()
def evaluate(
    log: Log,
    encoder: EncoderFolder,
    shopper: Annotated[
        Path, typer.Option(help="Shoppers the agents were trained on; the myopic baselines use them too.")
    ],
    out: Out,
    agents: Annotated[list[Path] | None, typer.Option("--agent", help="Folders that `train` wrote.")] = None,
    judges: Annotated[
        list[str] | None,
        typer.Option("--judge", help="NAME=FOLDER of further shoppers to judge in, such as the truth."),
    ] = None,
    shoppers: Annotated[
        int, typer.Option(min=2, help="Simulated sessions for each policy; all meet the same ones.")
    ] = 2000,
    k: Annotated[int | None, typer.Option("--slate-size", "-k", min=1, help="Slots; the agents' by default.")] = None,
    reward: Annotated[str, typer.Option(help="What the reward column counts.")] = steps.REWARD,
    held_out: HeldOut = steps.HELD_OUT,
    seed: Seed = 0,
    force: Force = False,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Judge agents and baselines on the same shoppers, with 95 % intervals, and write an HTML report."""
    reporter = Reporter(as_json, quiet)
    with reported(reporter):
        facts = steps.evaluate_step(
            reporter,
            log,
            out,
            encoder_folder=encoder,
            shopper_folder=shopper,
            agent_folders=agents or [],
            judges={name: Path(folder) for name, folder in _pairs(judges or [], "--judge").items()},
            shoppers=shoppers,
            k=k,
            reward=reward,
            held_out=held_out,
            seed=seed,
            force=force,
        )
        steps.show_values(reporter, out)
        reporter.tell(f"report: {out / 'report.html'}")
        reporter.result({"out": str(out), **facts})


@app.command()
def export(
    agent: Annotated[Path, typer.Argument(metavar="AGENT", help="Folder that `train` wrote.")],
    log: Annotated[Path, typer.Option(help="The log the agent's encoder learnt from.")],
    encoder: EncoderFolder,
    out: Out,
    training: Annotated[
        int | None, typer.Option(help="Which training seed; the one of highest training reward when left out.")
    ] = None,
    evaluation: Annotated[Path | None, typer.Option(help="Folder that `evaluate` wrote, for the model card.")] = None,
    histories: Annotated[int, typer.Option(min=1, help="Held-out histories to compare slates on.")] = 1000,
    force: Force = False,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Write a policy bundle: ONNX from raw history to scores, catalogue, hashes and model card; checked for parity."""
    reporter = Reporter(as_json, quiet)
    with reported(reporter):
        facts = steps.export_step(
            reporter,
            agent,
            out,
            log_folder=log,
            encoder_folder=encoder,
            seed=training,
            evaluation_folder=evaluation,
            histories=histories,
            force=force,
        )
        parity = facts["parity"]
        reporter.tell(f"{parity['equal']:,} of {parity['histories']:,} served slates equal the trained policy's: {out}")
        reporter.tell(f"serve it: slatewise serve {out} --store events.db")
        reporter.result({"out": str(out), **facts})


@app.command()
def serve(
    bundle: Annotated[Path, typer.Argument(metavar="BUNDLE", help="Folder that `export` wrote.")],
    store: Annotated[Path, typer.Option(help="SQLite file that keeps what is shown and done.")] = Path("events.db"),
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port to listen on.")] = 8000,
) -> None:
    """Serve a bundle: `POST /v1/recommend`, `POST /v1/events`, `/healthz`, `/readyz`, `/metrics`, `/docs`, and a page at `/`.

    The process loads ONNX Runtime and no torch. Set SLATEWISE_API_KEY to ask callers for a key.
    """
    reporter = Reporter()
    with reported(reporter):
        from ..serving.server import serve as run

        run(bundle, store, host=host, port=port)


@app.command()
def demo(
    path: Annotated[
        Path | None, typer.Argument(help="The log, for `--source`; left out, the known-truth shop is used.")
    ] = None,
    source: Annotated[
        str | None, typer.Option("--source", "-s", help="Run on a real log of this format instead, for instance ga360.")
    ] = None,
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for everything the demo writes.")] = Path(
        "slatewise-demo"
    ),
    quick: Annotated[
        bool, typer.Option("--quick", help="A small shop and short trainings: minutes less, figures worse.")
    ] = False,
    text_model: Annotated[str | None, typer.Option(help="Hub id or folder of the text model.")] = None,
    seed: Seed = 0,
    force: Force = False,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Run the whole loop: log, encoders, shoppers, agents, verdict, bundle. Under ten minutes on two cores.

    Without `--source` on the known-truth shop: a made-up shop whose shoppers are known exactly, so that what was
    learnt can be checked against the truth. Killed, it goes on where it was.
    """
    if (source is None) != (path is None):
        raise typer.BadParameter(
            "a real log needs both PATH and --source, for instance: slatewise demo --source ga360 PATH"
        )
    reporter = Reporter(as_json, quiet)
    with reported(reporter):
        from .demo import run_demo

        result = run_demo(
            reporter, out, source=source, path=path, quick=quick, text_model=text_model, seed=seed, force=force
        )
        reporter.result(result)


__all__ = ["app"]
