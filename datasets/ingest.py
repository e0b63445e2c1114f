"""From a shop's files to a log artefact."""

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..errors import LogFormatError
from .artefact import building, is_finished, read_config
from .cleaning import IngestConfig
from .log import ShopLog
from .pipeline import Pipeline, Progress
from .product_table import open_products, read_products
from .quarantine import quarantining
from .readers import find_source
from .readers.files import content_hash

PIECE_BYTES = 16 << 20
"""Bytes of a file read at a time."""
PART_BYTES = 64 << 20
"""Bytes of source rows, decompressed, that are sorted at a time."""


def ingest(
    paths: Sequence[Path] | Path,
    out: Path,
    *,
    source: str,
    config: IngestConfig | None = None,
    catalogue: Path | None = None,
    mapping: Mapping[str, str] | None = None,
    force: bool = False,
    progress: Progress | None = None,
    piece_bytes: int = PIECE_BYTES,
    part_bytes: int = PART_BYTES,
) -> ShopLog:
    """Make a log artefact of a shop's files and load it; see `write_log`, which does not load it."""
    write_log(
        paths,
        out,
        source=source,
        config=config,
        catalogue=catalogue,
        mapping=mapping,
        force=force,
        progress=progress,
        piece_bytes=piece_bytes,
        part_bytes=part_bytes,
    )
    return ShopLog.load(out)


def write_log(
    paths: Sequence[Path] | Path,
    out: Path,
    *,
    source: str,
    config: IngestConfig | None = None,
    catalogue: Path | None = None,
    mapping: Mapping[str, str] | None = None,
    force: bool = False,
    progress: Progress | None = None,
    piece_bytes: int = PIECE_BYTES,
    part_bytes: int = PART_BYTES,
) -> dict[str, Any]:
    """Make a log artefact (kind `log`) of a shop's files, which may be larger than memory.

    The folder gets `events.parquet` (`EVENT_SCHEMA`, ordered by the start of sessions, then time),
    `catalogue.parquet`, `quarantine.jsonl` (file, line, column, value, reason of each unusable row) and `config.json`.
    A log already built from the same contents with the same settings is left as it is.

    Args:
        paths: files, or folders of files.
        out: the artefact's folder.
        source: a name out of `readers.SOURCES`.
        config: settings.
        catalogue: the shop's product table (CSV or Parquet: `item_id`, any of `text`, `category`, `brand`, `price`,
            `available`); without it, the catalogue is what the log tells of its items.
        mapping: our column -> theirs, for the source `table` and for the product table.
        force: build anew even where a log is there.
        progress: called with (done, total, words).
        piece_bytes: how much of a file is read at a time; does not change the result.
        part_bytes: how much is sorted at a time; does not change the result.

    Returns:
        The log's facts. `rows` accounts for every row: `read` equals the sum of all its other entries.

    Raises:
        LogFormatError: a file is missing, empty, damaged or lacks a column (before anything is written), breaks off
            halfway, or no row is usable.
        ArtefactError: `out` holds something else and `force` is not set.
        ValueError: there is no such source.
    """
    config, mapping = config or IngestConfig(), dict(mapping or {})
    kind = find_source(source)
    if mapping and not (kind.takes_mapping or catalogue):
        raise ValueError(f"source {source!r} knows its columns and takes no mapping; use source 'table'")
    reading = kind.open(
        [paths] if isinstance(paths, str | Path) else list(paths), config, mapping if kind.takes_mapping else {}
    )
    products = open_products(Path(catalogue), mapping) if catalogue else None
    files = [*reading.files, *([products.path] if products else [])]
    inputs = {f"{number:03d} {path.name}": content_hash(path) for number, path in enumerate(files)}
    settings = {"source": source, "mapping": mapping, **config.settings()}
    if not force and is_finished(out, "log", settings, inputs):
        return read_config(out, "log")["slatewise_artefact"]["facts"]

    partial = None
    try:
        with building(out, "log", settings, inputs, force=force) as draft:
            partial = draft.folder
            with quarantining(draft.folder) as quarantine:
                known = read_products(products, mapping, quarantine) if products else None
                work = Pipeline(draft.folder, config, reading, known, quarantine, progress or (lambda *_: None))
                work.read(piece_bytes, part_bytes)
                work.sort()
                work.write()
            draft.facts.update(work.facts(source))
    except LogFormatError:
        # Whatever is wrong with the files, half a log must not stay behind to be resumed.
        if partial is not None:
            shutil.rmtree(partial, ignore_errors=True)
        raise
    return draft.facts
