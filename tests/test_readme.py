"""The front door: what both READMEs tell people to type works as it stands, and the two say the same."""

import re
import shlex
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import pytest
import typer

from slatewise.cli.commands import app

ROOT = Path(__file__).resolve().parents[1]
ENGLISH, CHINESE = ROOT / "README.md", ROOT / "README.zh-CN.md"
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
HEADING = re.compile(r"^(#+) ", re.MULTILINE)
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
DEMO, TESTS = 'pip install ".[demo]" && slatewise demo', 'pip install ".[test]" && pytest'

both = pytest.mark.parametrize("path", [ENGLISH, CHINESE], ids=lambda path: path.name)


def read(path: Path) -> str:
    if not path.is_file():
        pytest.skip(f"{path.name} is not beside the tests; run them from a checkout")
    return path.read_text(encoding="utf-8")


def blocks(text: str) -> list[tuple[str, str]]:
    """Language and code of each fenced block."""
    return [(language, code.strip()) for language, code in BLOCK.findall(text)]


def prose(text: str) -> str:
    """The text without its fenced blocks, where a # would look like a heading."""
    return BLOCK.sub("", text)


def relative_links(text: str) -> list[str]:
    return [link.split("#")[0] for link in LINK.findall(prose(text)) if not re.match(r"\w+:|#", link)]


def slatewise_lines(text: str) -> list[list[str]]:
    """Arguments of each command line of ours in the shell blocks, the last part of `a && slatewise b` included."""
    shell = [code.replace("\\\n", " ") for language, code in blocks(text) if language == "bash"]
    parts = [part.strip() for code in shell for line in code.splitlines() for part in line.split("&&")]
    return [shlex.split(part, comments=True)[1:] for part in parts if part.startswith("slatewise ")]


@both
def test_the_two_commands_stand_alone_in_blocks_of_their_own(path: Path) -> None:
    shell = [code for language, code in blocks(read(path)) if language == "bash"]
    assert DEMO in shell
    assert TESTS in shell


@both
def test_every_command_line_is_one_that_the_program_takes(path: Path) -> None:
    lines = slatewise_lines(read(path))
    program = typer.main.get_command(app)
    named = {arguments[0] for arguments in lines}
    assert named == {"demo", "ingest", "pretrain", "grow", "fit", "train", "tune", "evaluate", "export", "serve"}
    for name, *arguments in lines:
        command = program.commands[name]  # pyright: ignore[reportAttributeAccessIssue]
        command.make_context(name, arguments)  # raises a usage error that names what is wrong; runs nothing


@both
def test_every_step_reads_folders_that_an_earlier_one_wrote(path: Path) -> None:
    written = {"events.csv"}
    for arguments in slatewise_lines(read(path)):
        if arguments[0] == "demo":
            continue
        targets = [after for one, after in pairwise(arguments) if one in ("--out", "--store")]
        lost = [
            one for one in arguments if one.startswith("work/") and one not in targets and not _within(one, written)
        ]
        assert not lost, f"slatewise {' '.join(arguments)} reads {lost}, which no earlier step wrote"
        written.update(targets)


def _within(path: str, written: set[str]) -> bool:
    return path in written or any(path.startswith(f"{folder}/") for folder in written)


@both
def test_every_python_snippet_runs_as_pasted(path: Path, tmp_path: Path) -> None:
    snippets = [code for language, code in blocks(read(path)) if language == "python"]
    assert snippets
    for code in snippets:
        run = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=300)
        assert run.returncode == 0, run.stderr


@both
def test_every_relative_link_leads_somewhere(path: Path) -> None:
    text = read(path)
    if not (ROOT / "src" / "slatewise").is_dir():
        pytest.skip(f"{path.name} stands alone here, without the folders that it links to; run from a checkout")
    lost = [link for link in relative_links(text) if not (ROOT / link).exists()]
    assert not lost


def test_both_languages_have_the_same_parts() -> None:
    ours, theirs = read(ENGLISH), read(CHINESE)
    assert HEADING.findall(prose(theirs)) == HEADING.findall(prose(ours))
    assert blocks(theirs) == blocks(ours)
    names = {ENGLISH.name, CHINESE.name}
    assert [link for link in relative_links(theirs) if link not in names] == [
        link for link in relative_links(ours) if link not in names
    ]
