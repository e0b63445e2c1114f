"""What the command line shows: progress on stderr, results on stdout, and exit codes that mean something."""

import errno
import json
import math
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, NoReturn, cast

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Column, Table
from typer.core import TyperGroup

from ..errors import (
    ArtefactError,
    BundleError,
    EvidenceError,
    LogFormatError,
    ModelNotFoundError,
    NotTrainedError,
    SlatewiseError,
    UnknownItemError,
)

EXIT_CODES: dict[type[BaseException], int] = {
    LogFormatError: 3,
    UnknownItemError: 3,
    EvidenceError: 3,
    ArtefactError: 4,
    BundleError: 4,
    NotTrainedError: 4,
    ModelNotFoundError: 5,
}
EXIT_HELP = (
    "Exit codes: 0 done; 1 it cannot be done here (a training diverged, an address is taken, a folder may not be "
    "written), or a defect of slatewise, which shows its traceback; 2 wrong usage; 3 the data cannot be used; 4 a "
    "folder is missing, unfinished, of another kind or built otherwise; 5 the text model or a package is missing; "
    "130 interrupted (run again to resume)."
)
_EXTRAS = {
    **dict.fromkeys(("fastapi", "starlette", "uvicorn", "prometheus_client", "pydantic_settings"), "serve"),
    **dict.fromkeys(("onnx", "onnxscript", "onnxruntime"), "export"),
    **dict.fromkeys(("peft", "accelerate"), "lora"),
    **dict.fromkeys(("optuna", "sqlalchemy", "alembic"), "tune"),
    "tensorboard": "tensorboard",
    "minari": "minari",
}
"""Package that may be missing -> extra that installs it."""
_NOT_OURS = {errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOSPC, errno.EDQUOT, errno.ENOTDIR, errno.ENAMETOOLONG}
"""What the operating system refuses for reasons that its message tells a user."""

_UsageError = cast("type[Exception]", typer.BadParameter.__bases__[0])  # click's own, or that of typer's copy of click
ProgressCall = Callable[[int, int, str], None]


PAGE_WIDTH = 140
"""Columns of a table that is written to a file or a pipe, where no terminal says how wide it is."""


def _stdout() -> Console:
    console = Console(highlight=False)
    return console if console.is_terminal else Console(highlight=False, width=PAGE_WIDTH)


def _nothing(done: int, total: int, words: str) -> None:
    """Progress that nobody sees."""


@dataclass
class Reporter:
    """Where a command speaks: words and progress to stderr, tables or one JSON object to stdout."""

    as_json: bool = False
    quiet: bool = False
    err: Console = field(default_factory=lambda: Console(stderr=True, highlight=False))
    out: Console = field(default_factory=_stdout)

    def say(self, text: str) -> None:
        """A line for a person; nothing under `--quiet`."""
        if not self.quiet:
            self.err.print(text)

    @contextmanager
    def step(self, title: str) -> Iterator[ProgressCall]:
        """A long step: a bar on a terminal, a line at start and end elsewhere. Yields the progress callback."""
        began = time.monotonic()
        if self.quiet:
            yield _nothing
            return
        if not self.err.is_terminal:
            self.err.print(f"{title} ...")
            yield _nothing
        else:
            bar = Progress(
                TextColumn("{task.description}", table_column=Column(no_wrap=True, overflow="ellipsis", ratio=1)),
                BarColumn(bar_width=20),
                MofNCompleteColumn(),
                TimeElapsedColumn(),
                TimeRemainingColumn(),
                console=self.err,
                transient=True,
                expand=True,
            )
            with bar:
                task = bar.add_task(title, total=None)
                yield lambda done, total, words: bar.update(
                    task, completed=done, total=total, description=words or title
                )
        self.err.print(f"{title}: done in {time.monotonic() - began:.1f} s")

    def table(self, title: str, columns: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
        """A table for people; nothing under `--json`."""
        if self.as_json:
            return
        table = Table(title=title, title_justify="left")
        for number, column in enumerate(columns):
            table.add_column(column, justify="left" if number == 0 else "right", overflow="fold")
        for row in rows:
            table.add_row(*(str(cell) for cell in row))
        self.out.print(table)

    def tell(self, text: str) -> None:
        """A result line for people on stdout; nothing under `--json`."""
        if not self.as_json:
            self.out.print(text, soft_wrap=True)

    def result(self, value: Mapping[str, Any]) -> None:
        """Under `--json`, the one JSON object on stdout."""
        if self.as_json:
            sys.stdout.write(json.dumps(plain(value), allow_nan=False) + "\n")
            sys.stdout.flush()


def exit_code(error: BaseException) -> int:
    """The exit status that stands for an error."""
    for kind, code in EXIT_CODES.items():
        if isinstance(error, kind):
            return code
    return 1


def plain(value: Any) -> Any:
    """A value as JSON holds it: NumPy numbers as numbers, what is not finite as null, the rest as text."""
    if isinstance(value, Mapping):
        return {str(name): plain(one) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [plain(one) for one in value]
    if isinstance(value, str | bool | int | None):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return plain(value.tolist()) if hasattr(value, "tolist") else str(value)


@contextmanager
def checked() -> Iterator[None]:
    """Settings from the command line: a `ValueError` about them is wrong usage, not a defect."""
    try:
        yield
    except SlatewiseError:
        raise
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error


@contextmanager
def reported(reporter: Reporter) -> Iterator[None]:
    """Turn errors a user can act on into one line and an exit code; a defect keeps its traceback."""
    try:
        yield
    except SlatewiseError as error:
        _leave(reporter, error, str(error), exit_code(error))
    except ModuleNotFoundError as error:
        extra = _EXTRAS.get((error.name or "").partition(".")[0])
        if extra is None:
            _defect(reporter, error)
            raise
        _leave(reporter, error, f'{error.name} is not installed; pip install "slatewise[{extra}]"', 5)
    except OSError as error:
        if error.errno not in _NOT_OURS:
            _defect(reporter, error)
            raise
        _leave(reporter, error, str(error), 1)
    except KeyboardInterrupt as error:
        words = "interrupted; run the same command again to resume"
        reporter.result({"error": "Interrupted", "message": words, "exit_code": 130})
        reporter.err.print(words)
        raise SystemExit(130) from error
    except _UsageError:
        raise
    except Exception as error:
        _defect(reporter, error)
        raise


def _defect(reporter: Reporter, error: Exception) -> None:
    reporter.result({"error": type(error).__name__, "message": str(error), "exit_code": 1})


def _leave(reporter: Reporter, error: Exception, words: str, code: int) -> NoReturn:
    reporter.result({"error": type(error).__name__, "message": words, "exit_code": code})
    reporter.err.print(f"[bold red]error:[/] {type(error).__name__}: ", end="")
    reporter.err.print(words, markup=False, soft_wrap=True)
    raise SystemExit(code) from error


class JsonErrors(TyperGroup):
    """The commands; one that was asked for JSON tells wrong usage as JSON too."""

    def invoke(self, ctx: Any) -> Any:
        """Run the command named."""
        as_json = "--json" in ctx.args
        try:
            return super().invoke(ctx)
        except _UsageError as error:
            words = cast(Any, error).format_message()
            Reporter(as_json).result({"error": "UsageError", "message": words, "exit_code": 2})
            raise
