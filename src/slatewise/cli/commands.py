"""The command line, put together; what each command reads, writes and assumes is said in its help."""

from typing import Annotated

import typer

from .. import __version__
from .console import EXIT_HELP, JsonErrors
from .ingest import IngestCommand, ingest
from .learning import fit, train
from .options import example
from .playing import play
from .pretraining import grow, pretrain
from .proving import evaluate, export
from .running import demo, serve
from .tuning import tune

app = typer.Typer(
    name="slatewise",
    cls=JsonErrors,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    help=(
        "Learn a shop from its logs, train the agent that fills its shelves, prove it, and serve it.\n\n"
        "`slatewise demo` runs everything once. By hand, in this order, each step reads the folder that the one before "
        "wrote: `ingest` → `pretrain` → `fit` → `train` → `evaluate` → `export` → `serve`; and `ingest --source store` "
        "reads back what the server stored. `grow` makes an encoder know new items; `tune` searches an agent's "
        "settings; `play` tells why shoppers buy.\n\n"
        "A killed step goes on where it was when the same command is given again. A finished folder of the same "
        "settings is left as it is; other settings need another `--out`, or `--force`.\n\n" + EXIT_HELP
    ),
)


def _version(asked: bool) -> None:
    if asked:
        typer.echo(f"slatewise {__version__}")
        raise typer.Exit


@app.callback()
def slatewise(
    _asked: Annotated[
        bool, typer.Option("--version", is_eager=True, callback=_version, help="Print the version and leave.")
    ] = False,
) -> None:
    """What all commands share."""


app.command(cls=IngestCommand)(ingest)
app.command(
    epilog=example(
        "slatewise pretrain work/log --out work/encoder",
        "slatewise pretrain work/log --width 96 --epochs 30 --log-to csv,tensorboard --out wide",
        "slatewise pretrain work/log --text-model intfloat/multilingual-e5-small --lora --out tuned",
        "slatewise pretrain new/log --warm-start work/encoder --out new/encoder",
    )
)(pretrain)
app.command(epilog=example("slatewise grow work/log2 --encoder work/encoder --out work/encoder2"))(grow)
app.command(
    epilog=example(
        "slatewise fit work/log --out work/shopper", "slatewise fit work/log --family boosted --out work/judge"
    )
)(fit)
app.command(
    epilog=example(
        "slatewise train work/log --encoder work/encoder --shopper work/shopper \\",
        "  --agent ppo --out work/ppo",
        "slatewise train work/log --encoder work/encoder --shopper work/shopper \\",
        "  --judge work/judge --seeds 5 --tensorboard runs --out work/ppo2",
    )
)(train)
app.command(
    epilog=example(
        "slatewise tune work/log --encoder work/encoder --shopper work/shopper \\",
        "  --judge work/judge --agent dqn --trials 50 --minutes 60 --out work/tuned",
        "slatewise train work/log --encoder work/encoder --shopper work/shopper \\",
        "  --agent dqn --settings work/tuned/settings.json --out work/dqn",
    )
)(tune)
app.command(
    epilog=example(
        "slatewise evaluate work/log --encoder work/encoder --shopper work/shopper \\",
        "  --agent work/ppo --agent work/dqn --out work/evaluation",
    )
)(evaluate)
app.command(epilog=example("slatewise export work/ppo --log work/log --encoder work/encoder --out work/bundle"))(export)
app.command(epilog=example("slatewise serve work/bundle --store work/events.db"))(serve)
app.command(
    epilog=example(
        "slatewise play",
        "slatewise play --choose",
        "slatewise play --policy oracle --slates 20 --seed 7",
        "slatewise play work/log --encoder work/encoder --shopper work/shopper --agent work/ppo",
    )
)(play)
app.command(epilog=example("slatewise demo", "slatewise demo --quick --out try", "slatewise demo --source ga360 PATH"))(
    demo
)

__all__ = ["app"]
