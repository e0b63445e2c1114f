"""`slatewise ingest`: from a shop's files to a log, and what its help says of sources."""

from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperCommand

from . import steps
from .console import Reporter, reported
from .options import Force, Json, Out, Quiet, TimeUnit, UnknownItems, example, pairs
from .showing import show_rows

_EXAMPLE = example(
    "slatewise ingest events.csv --out work/log \\",
    "  --map item_id=sku --map shopper_id=user --map time=ts --event atc=cart",
    "slatewise ingest events.db --source store --out work/log2",
)


def _source_lines() -> dict[str, str]:
    """What `--source` takes: name -> one line."""
    from ..datasets.readers import SOURCES

    lines = {name: source.summary for name, source in SOURCES.items()}
    return {**lines, steps.STORE: "the database of `slatewise serve`: every slate shown, and what came of it"}


def _about_source(name: str) -> str:
    """All there is to say of a source."""
    from ..datasets.readers import describe_sources

    if name != steps.STORE:
        return describe_sources(name)
    return (
        f"{steps.STORE}: {_source_lines()[steps.STORE]}\n\n"
        "The one SQLite file that `slatewise serve --store FILE` keeps; the server may be running. Slates come back\n"
        "with the chance of every place, events with the slate they belong to. Give the bundle's catalogue.parquet as\n"
        "--catalogue to keep all of the shop's items, those not shown yet included."
    )


class IngestCommand(TyperCommand):
    """A command whose help ends with the sources; they are looked up only then, since importing readers takes time."""

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """Write the help page."""
        lines = "\n".join(f"- **{name}**: {words}" for name, words in _source_lines().items())
        mapping = (
            "**Columns** of a `table` that have other names than ours are told by `--map OURS=THEIRS`. Needed: "
            "`shopper_id`, `time`, `item_id`, and `event` (or `--default-event`)."
        )
        self.epilog = f"**Sources**; `--about-source NAME` says more of one\n\n{lines}\n\n{mapping}\n\n{_EXAMPLE}"
        super().format_help(ctx, formatter)


def _known_source(name: str) -> str:
    known = _source_lines()
    if name not in known:
        raise typer.BadParameter(f"{name!r} is no source; choose one of {', '.join(known)}")
    return name


def _list_sources(asked: bool) -> None:
    if asked:
        known = _source_lines()
        width = max(map(len, known))
        typer.echo("\n".join(f"{name:<{width}}  {words}" for name, words in known.items()))
        raise typer.Exit


def _describe(name: str) -> None:
    if name:
        typer.echo(_about_source(_known_source(name)))
        raise typer.Exit


def ingest(
    paths: Annotated[list[Path], typer.Argument(metavar="PATH", help="Files or folders of the log.")],
    out: Out,
    source: Annotated[
        str, typer.Option("--source", "-s", callback=_known_source, help="Kind of log, by a name listed below.")
    ] = "table",
    catalogue: Annotated[
        Path | None,
        typer.Option(help="Product table, CSV or Parquet: item_id, text, category, brand, price, available."),
    ] = None,
    mapping: Annotated[
        list[str] | None,
        typer.Option("--map", help="OURS=THEIRS: which column holds what, in a `table` and in `--catalogue`; repeat."),
    ] = None,
    event_names: Annotated[
        list[str] | None,
        typer.Option("--event", help="THEIRS=OURS: what an event name of the shop means; empty to skip; repeat."),
    ] = None,
    default_event: Annotated[str, typer.Option(help="Event of rows that name none.")] = "",
    delimiter: Annotated[str, typer.Option(help="Separator of a text table; told by its header if left out.")] = "",
    unknown_items: Annotated[
        UnknownItems,
        typer.Option(help="Events on items that `--catalogue` lacks: set them aside, or add the item as unavailable."),
    ] = UnknownItems.quarantine,
    currency: Annotated[str, typer.Option(help="ISO 4217 code of prices, for tables and reports.")] = "",
    timezone: Annotated[
        str, typer.Option(help="Zone of times that carry none, for instance Europe/Warsaw; UTC if left out.")
    ] = "",
    time_unit: Annotated[TimeUnit, typer.Option(help="Unit of times written as numbers since 1970.")] = TimeUnit.auto,
    time_format: Annotated[
        str, typer.Option(help="strptime pattern of times written as text; ISO 8601 and the like if left out.")
    ] = "",
    session_gap: Annotated[float, typer.Option(help="Seconds without an event that end a session.")] = 1800.0,
    bot_rate: Annotated[
        float, typer.Option(help="Most actions a minute before a session is taken for a bot's.")
    ] = 60.0,
    pseudonym_key: Annotated[
        str, typer.Option(envvar="SLATEWISE_PSEUDONYM_KEY", help="Replace ids of shoppers by a keyed hash of them.")
    ] = "",
    _list: Annotated[
        bool, typer.Option("--list-sources", is_eager=True, callback=_list_sources, help="Print the sources and leave.")
    ] = False,
    _about: Annotated[
        str,
        typer.Option(
            "--about-source",
            metavar="NAME",
            is_eager=True,
            callback=_describe,
            help="Print all there is to say of one source, how to get its files included, and leave.",
        ),
    ] = "",
    force: Force = False,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Read a shop's log into the event schema: cleaned, cut into sessions, with its catalogue.

    **Reads** the files of the log and, if given, a product table. Who, when, what and which item are needed; slates
    shown, their positions, prices and item texts are used where they are there.

    **Writes** `events.parquet`, `catalogue.parquet`, `config.json` and `quarantine.jsonl`: every row that cannot be
    used, with file, line and reason. A file that is not what it is said to be stops the command, and leaves nothing.

    **Assumes** that times without a zone are UTC, that half an hour without an event ends a session, and that the id of
    an item is its text where nothing else describes it. Events are impression, view, click, cart, purchase, uncart.
    """
    reporter = Reporter(as_json, quiet)
    columns = pairs(mapping, "--map", "OURS=THEIRS")
    with reported(reporter):
        facts = steps.ingest_step(
            reporter,
            paths,
            out,
            source=source,
            catalogue=catalogue,
            mapping=columns,
            force=force,
            settings={
                "session_gap": session_gap,
                "bot_rate": bot_rate,
                "timezone": timezone,
                "time_unit": time_unit.value,
                "time_format": time_format,
                "default_event": default_event,
                "event_names": pairs(event_names, "--event", "THEIRS=OURS"),
                "delimiter": delimiter,
                "unknown_items": unknown_items.value,
                "currency": currency,
                "pseudonym_key": pseudonym_key,
            },
        )
        show_rows(reporter, facts, out)
        reporter.result({"out": str(out), **facts})
