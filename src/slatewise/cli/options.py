"""Options that several commands share, and the checks that parsing alone can make."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer


class Learner(StrEnum):
    """Learning agents."""

    ppo = "ppo"
    dqn = "dqn"
    bc = "bc"
    reinforce = "reinforce"


class Tunable(StrEnum):
    """Learning agents whose settings can be searched."""

    ppo = "ppo"
    dqn = "dqn"


class Sized(StrEnum):
    """Settings measured for a size of catalogue; `auto` takes those of the catalogue at hand."""

    small = "small"
    medium = "medium"
    large = "large"
    auto = "auto"


class EndsEarly(StrEnum):
    """How hopeless trials of a search are told."""

    median = "median"
    hyperband = "hyperband"
    none = "none"


class Player(StrEnum):
    """Policies to watch that need no training."""

    random = "random"
    popular = "popular"
    next_item = "next-item"
    myopic = "myopic"
    oracle = "oracle"


class Family(StrEnum):
    """Kinds of fitted shoppers."""

    transformer = "transformer"
    boosted = "boosted"


class Examination(StrEnum):
    """How shoppers look over a slate."""

    depth = "depth"
    position = "position"
    cascade = "cascade"
    dbn = "dbn"
    auto = "auto"


class ShoppersOf(StrEnum):
    """Halves of the shoppers, by a hash of their ids."""

    agent = "agent"
    simulator = "simulator"
    all = "all"


class TimeUnit(StrEnum):
    """Units of times written as numbers."""

    auto = "auto"
    s = "s"
    ms = "ms"
    us = "us"
    ns = "ns"


class UnknownItems(StrEnum):
    """What becomes of events on items that a product table lacks."""

    quarantine = "quarantine"
    add = "add"


def pairs(given: list[str] | None, option: str, form: str) -> dict[str, str]:
    """`["a=b"]` -> `{"a": "b"}`.

    Raises:
        typer.BadParameter: one has no `=`, nothing before it, or a name that came before.
    """
    found: dict[str, str] = {}
    for text in given or []:
        name, equals, value = text.partition("=")
        if not equals or not name:
            raise typer.BadParameter(f"{option} takes {form}, got {text!r}")
        if name in found:
            raise typer.BadParameter(f"{option} names {name!r} twice: {found[name]!r} and {value!r}")
        found[name] = value
    return found


def _named(folder: Path) -> Path:
    if not folder.name:
        raise typer.BadParameter(f"{str(folder)!r} names no new folder; give one, such as work/log")
    return folder


def example(*lines: str) -> str:
    """Commands as the end of a help page shows them."""
    return "**Example**\n\n```\n" + "\n".join(lines) + "\n```"


Json = Annotated[
    bool,
    typer.Option("--json", help="Print one JSON object, errors too, instead of tables; progress stays on stderr."),
]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No progress.")]
Force = Annotated[bool, typer.Option("--force", help="Build anew over a finished folder of the same kind.")]
Seed = Annotated[int, typer.Option("--seed", min=0, help="Decides everything random; the same seed, the same result.")]
Log = Annotated[Path, typer.Argument(metavar="LOG", help="Folder that `ingest` (or `demo`) wrote.")]
Out = Annotated[Path, typer.Option("--out", "-o", file_okay=False, callback=_named, help="Folder to write.")]
EncoderFolder = Annotated[Path, typer.Option("--encoder", help="Folder that `pretrain` wrote.")]
TextModel = Annotated[
    str | None,
    typer.Option("--text-model", help="Hub id or folder of the text model; all-MiniLM-L6-v2 (English) if left out."),
]
HeldOut = Annotated[
    float,
    typer.Option("--held-out", min=0.0, max=0.9, help="Share of the sessions, the latest, that is not learnt from."),
]
Reward = Annotated[
    str, typer.Option("--reward", help="`clicks`, `purchases`, `revenue`, or `clicks_and_purchases` (1 and 5 more).")
]
Doubt = Annotated[
    float | None,
    typer.Option(min=0, help="Reward taken off for each unit by which the ensemble disagrees about a slate."),
]
Rules = Annotated[
    Path | None,
    typer.Option("--rules", metavar="FILE", help="Rules that every slate keeps, JSON or TOML; see docs/agents.md."),
]
Preset = Annotated[
    Sized | None,
    typer.Option(
        help="ppo, dqn: settings measured for up to 500 items, up to 5,000, or more; `auto`: for the log's. The "
        "defaults if left out."
    ),
]
SlateSize = Annotated[int, typer.Option("--slate-size", "-k", min=1, help="Slots of a slate.")]
