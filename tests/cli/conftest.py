"""A tiny known shop's log, and every command of the loop run on it once, in this process."""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from slatewise.cli.commands import app
from slatewise.datasets.known_shop import KnownShop, KnownShopConfig
from slatewise.simulators.collect import collect_log
from slatewise.simulators.known_truth import KnownTruthShopper

K = 4
SESSIONS = 400


@dataclass(frozen=True)
class Answer:
    """What a command did."""

    code: int
    stdout: str
    stderr: str
    error: BaseException | None

    @property
    def json(self) -> dict[str, Any]:
        """The one JSON object on stdout; fails where there is anything else."""
        return json.loads(self.stdout, parse_constant=pytest.fail)


@pytest.fixture(scope="session", autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SLATEWISE_CACHE", str(tmp_path_factory.mktemp("cache")))
        for name in ("SLATEWISE_API_KEY", "SLATEWISE_EXPLORE", "SLATEWISE_PSEUDONYM_KEY"):
            patch.delenv(name, raising=False)
        yield


@pytest.fixture(scope="session")
def command() -> Callable[..., Answer]:
    """Run a command in this process, as `command("fit", log, "--out", out)`."""

    def run(*words: object) -> Answer:
        result = CliRunner().invoke(app, [str(word) for word in words])
        error = None if isinstance(result.exception, SystemExit) else result.exception
        return Answer(result.exit_code, result.stdout, result.stderr, error)

    return run


@pytest.fixture(scope="session")
def shop_files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `events.parquet` and `catalogue.parquet` of a known-truth shop: 60 items, 400 sessions."""
    folder = tmp_path_factory.mktemp("shop")
    shop = KnownShop.make(KnownShopConfig(n_items=60, seed=0))
    log = collect_log(KnownTruthShopper(shop), shop.catalogue, sessions=SESSIONS, k=K, seed=1)
    log.save(folder)
    return folder


@dataclass(frozen=True)
class Loop:
    """The folders that the loop wrote, the words of each command, and what it answered."""

    folder: Path
    words: dict[str, list[object]]
    answers: dict[str, Answer]

    def __truediv__(self, name: str) -> Path:
        return self.folder / name


@pytest.fixture(scope="session")
def loop(command: Callable[..., Answer], shop_files: Path, tmp_path_factory: pytest.TempPathFactory) -> Loop:
    """Every step of the loop, as small as it goes."""
    at = tmp_path_factory.mktemp("loop")
    log, encoder, shopper, agent = at / "log", at / "encoder", at / "shopper", at / "ppo"
    source = [shop_files / "events.parquet", "--source", "events", "--catalogue", shop_files / "catalogue.parquet"]
    parts = [log, "--encoder", encoder, "--shopper", shopper]
    words: dict[str, list[object]] = {
        "ingest": ["ingest", *source, "--out", log],
        "pretrain": ["pretrain", log, "--out", encoder, "--epochs", 2],
        "fit": ["fit", log, "--encoder", encoder, "--out", shopper, "--members", 3],
        "train": ["train", *parts, "--out", agent, "--steps", 1000, "--trainings", 1, "-k", K],
        "evaluate": ["evaluate", *parts, "--agent", agent, "--out", at / "evaluation", "--shoppers", 20],
        "export": [
            *("export", agent, "--log", log, "--encoder", encoder, "--out", at / "bundle"),
            *("--evaluation", at / "evaluation", "--histories", 20),
        ],
    }
    answers = {}
    for name, said in words.items():
        answers[name] = command(*said, "--json")
        assert answers[name].code == 0, answers[name]
    return Loop(at, words, answers)
