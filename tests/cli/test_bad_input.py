"""Bad input: each kind with what it gets, to the letter; docs/bad_input.md tells the same."""

import gzip
import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from slatewise.datasets.log import ShopLog
from slatewise.datasets.quarantine import read_quarantine

PAGE = Path(__file__).parents[2] / "docs" / "bad_input.md"
HEADER = "shopper_id,time,item_id,event,price,quantity"
GOOD = "ann,2026-01-01T10:00:00Z,mug,view,5,1"


def table(*rows: str, header: str = HEADER) -> bytes:
    """A CSV of rows."""
    return "".join(f"{row}\n" for row in (header, *rows)).encode()


@dataclass(frozen=True)
class Refused:
    """A file that stops the ingest, and what is said."""

    name: str
    content: bytes
    says: str
    words: Sequence[str] = ()


def cut(content: bytes) -> bytes:
    """The first half."""
    return content[: len(content) // 2]


REFUSED = {
    "an empty file": Refused("log.csv", b"", "log.csv is empty"),
    "a header without rows": Refused("log.csv", table(), "log.csv holds a header and no rows"),
    "wrong columns": Refused(
        "log.csv",
        table("1,2", header="user,sku"),
        "log.csv has no column for 'shopper_id'; expected one named so or a mapping shopper_id=THEIRS; found user, sku",
    ),
    "--map names a column that is not there": Refused(
        "log.csv", table(GOOD), "log.csv lacks column 'sku'; expected sku; found", ["--map", "item_id=sku"]
    ),
    "--map names something that is none of our columns": Refused(
        "log.csv", table(GOOD), "mapping names 'sku', which is none of our columns:", ["--map", "sku=item_id"]
    ),
    "a text file called .parquet": Refused("log.parquet", table(GOOD), "log.parquet is not a readable Parquet file"),
    "a truncated gzip": Refused(
        "log.csv.gz",
        cut(gzip.compress(table(*(GOOD.replace("mug", f"mug-{n}") for n in range(2_000))), mtime=0)),
        "log.csv.gz cannot be read to its end: Truncated compressed stream",
    ),
    "no row that is usable": Refused(
        "log.csv",
        table("ann,2026-01-01T10:00:00Z,mug,view,-5,1"),
        "none of 1 rows in log.csv is usable; set aside: price is negative (1)",
    ),
    "a format that the files are not of": Refused(
        "log.csv", table(GOOD), "no file sessions.parquet or sessions.csv in", ["--source", "ga360"]
    ),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_a_file_that_cannot_be_read_is_named_and_leaves_nothing(
    command: Callable[..., Any], tmp_path: Path, kind: str
) -> None:
    case = REFUSED[kind]
    (tmp_path / case.name).write_bytes(case.content)
    answer = command("ingest", tmp_path / case.name, "--out", tmp_path / "log", *case.words, "--json")
    assert (answer.code, answer.json["exit_code"], answer.json["error"]) == (3, 3, "LogFormatError")
    assert case.says in answer.json["message"]
    assert [path.name for path in tmp_path.iterdir()] == [case.name]


def test_a_file_that_is_no_store_is_refused_and_not_made_one(command: Callable[..., Any], tmp_path: Path) -> None:
    (tmp_path / "events.db").touch()
    answer = command("ingest", tmp_path / "events.db", "--source", "store", "--out", tmp_path / "log", "--json")
    assert (answer.code, answer.json["error"]) == (3, "LogFormatError")
    assert "events.db is no event store of schema 1 (schema 0, tables: none)" in answer.json["message"]
    assert "--store" not in answer.json["message"]
    assert [(path.name, path.stat().st_size) for path in tmp_path.iterdir()] == [("events.db", 0)]


@pytest.mark.parametrize("part", [0.3, 0.9])
def test_a_truncated_parquet_is_refused_before_anything_is_written(
    command: Callable[..., Any], shop_files: Path, tmp_path: Path, part: float
) -> None:
    whole = (shop_files / "events.parquet").read_bytes()
    (tmp_path / "events.parquet").write_bytes(whole[: int(len(whole) * part)])
    answer = command("ingest", tmp_path / "events.parquet", "--source", "events", "--out", tmp_path / "log", "--json")
    assert (answer.code, answer.json["error"]) == (3, "LogFormatError")
    assert "events.parquet is not a readable Parquet file" in answer.json["message"]
    assert [path.name for path in tmp_path.iterdir()] == ["events.parquet"]


@dataclass(frozen=True)
class SetAside:
    """Rows after a good one, and what becomes of them: reason -> rows, or of those kept."""

    rows: Sequence[str]
    reasons: dict[str, int] = field(default_factory=dict)
    duplicates: int = 0
    words: Sequence[str] = ()
    ignored: dict[str, int] = field(default_factory=dict)


SET_ASIDE = {
    "mixed time zones: some times with a zone, some without": SetAside(
        ["bob,2026-01-01 10:00:00,mug,view,5,1"], {"time without a zone in a file whose other times have one": 1}
    ),
    "a quote that is never closed": SetAside(['"bob,2026-01-01T10:00:00Z,mug,view,5,1'], {"a quote is not closed": 1}),
    "a negative price": SetAside(["bob,2026-01-01T10:00:00Z,mug,view,-5,1"], {"price is negative": 1}),
    "a price that is no number": SetAside(["bob,2026-01-01T10:00:00Z,mug,view,cheap,1"], {"price is not a number": 1}),
    "a quantity below one": SetAside(["bob,2026-01-01T10:00:00Z,mug,purchase,5,-1"], {"quantity is not positive": 1}),
    "duplicate events": SetAside([GOOD, GOOD], duplicates=2),
    "an unknown event type": SetAside(["bob,2026-01-01T10:00:00Z,mug,stare,5,1"], {"unknown event type": 1}),
    "an event type that --event skips": SetAside(
        ["bob,2026-01-01T10:00:00Z,mug,stare,5,1"], words=["--event", "stare="], ignored={"event stare": 1}
    ),
    "no shopper, or no item": SetAside(
        [",2026-01-01T10:00:00Z,mug,view,5,1", "bob,2026-01-01T10:00:00Z,,view,5,1"],
        {"no shopper_id": 1, "no item_id": 1},
    ),
    "a time that is missing, unreadable, or yet to come": SetAside(
        ["bob,,mug,view,5,1", "bob,yesterday,mug,view,5,1", "bob,2126-01-01T10:00:00Z,mug,view,5,1"],
        {"no time": 1, "time is not readable": 1, "time is in the future": 1},
    ),
    "a row of another width": SetAside(["bob,2026", f"{GOOD},more"], {"wrong number of columns": 2}),
}


@pytest.mark.parametrize("kind", SET_ASIDE)
def test_a_row_that_cannot_be_used_is_set_aside_with_its_reason_and_the_rest_is_read(
    command: Callable[..., Any], tmp_path: Path, kind: str
) -> None:
    case = SET_ASIDE[kind]
    (tmp_path / "log.csv").write_bytes(table(GOOD, *case.rows))
    answer = command("ingest", tmp_path / "log.csv", "--out", tmp_path / "log", *case.words, "--json")
    assert answer.code == 0
    rows = answer.json["rows"]
    assert (rows["read"], rows["kept"], rows["duplicates"]) == (1 + len(case.rows), 1, case.duplicates)
    assert (answer.json["quarantined"], answer.json["ignored"]) == (case.reasons, case.ignored)
    aside = read_quarantine(tmp_path / "log")
    assert aside["reason"].value_counts().to_dict() == case.reasons
    assert set(aside["line"]) <= set(range(3, 3 + len(case.rows)))
    assert list(ShopLog.load(tmp_path / "log").events["shopper_id"]) == ["ann"]


def test_mixed_time_zones_are_all_read_where_the_shop_says_which_zone_is_meant(
    command: Callable[..., Any], tmp_path: Path
) -> None:
    rows = ["bob,2026-01-01 10:00:00,mug,view,5,1", "eve,2026-01-01T10:00:00+05:30,mug,view,5,1"]
    (tmp_path / "log.csv").write_bytes(table(GOOD, *rows))
    words = ["--timezone", "Europe/Warsaw", "--out", tmp_path / "log"]
    assert command("ingest", tmp_path / "log.csv", *words).code == 0
    hours = ShopLog.load(tmp_path / "log").events.set_index("shopper_id")["time"].dt.strftime("%H:%M").to_dict()
    assert hours == {"ann": "10:00", "bob": "09:00", "eve": "04:30"}


def test_a_session_of_no_length_is_kept(command: Callable[..., Any], tmp_path: Path) -> None:
    same = ["bob,2026-01-01T10:00:00Z,mug,view,5,1", "bob,2026-01-01T10:00:00Z,cup,view,5,1"]
    (tmp_path / "log.csv").write_bytes(table(GOOD, *same))
    answer = command("ingest", tmp_path / "log.csv", "--out", tmp_path / "log", "--json")
    assert (answer.code, answer.json["sessions"], answer.json["rows"]["kept"]) == (0, 2, 3)
    log = ShopLog.load(tmp_path / "log")
    assert (log.sessions["start"] == log.sessions["end"]).all()
    assert log.tokens.lengths.tolist() == [1, 2]


def test_a_log_too_short_to_learn_from_is_refused_with_the_number_that_is_missing(
    command: Callable[..., Any], tmp_path: Path
) -> None:
    (tmp_path / "log.csv").write_bytes(table(GOOD, GOOD.replace("ann", "bob").replace("T10", "T11")))
    assert command("ingest", tmp_path / "log.csv", "--out", tmp_path / "log").code == 0
    words = ["--shoppers", "all", "--held-out", "0", "--out", tmp_path / "encoder", "--json"]
    answer = command("pretrain", tmp_path / "log", *words)
    assert (answer.code, answer.json["error"]) == (3, "EvidenceError")
    assert answer.json["message"] == "pretraining needs 20 sessions at least, the log has 2"


def test_an_item_without_text_goes_by_its_id_and_learning_goes_on(
    command: Callable[..., Any], shop_files: Path, tmp_path: Path
) -> None:
    catalogue = pd.read_parquet(shop_files / "catalogue.parquet")
    catalogue.loc[0, "text"] = ""
    catalogue.to_parquet(tmp_path / "catalogue.parquet")
    words = ["--source", "events", "--catalogue", tmp_path / "catalogue.parquet", "--out", tmp_path / "log"]
    answer = command("ingest", shop_files / "events.parquet", *words, "--json")
    assert (answer.code, answer.json["items_without_text"]) == (0, 1)
    first = ShopLog.load(tmp_path / "log").catalogue.frame.iloc[0]
    assert first["text"] == first["item_id"]
    assert (
        "1 items have no text; their id stands for it"
        in command(*("ingest", shop_files / "events.parquet"), *words, "--force").stdout
    )
    assert command("pretrain", tmp_path / "log", "--out", tmp_path / "encoder", "--epochs", 1).code == 0


DAMAGED = {
    "log": ("log", "events.parquet", "train", 3, "events.parquet is not a readable event log"),
    "catalogue": ("log", "catalogue.parquet", "train", 3, "catalogue.parquet is not a readable catalogue"),
    "encoder": ("encoder", "model.safetensors", "train", 4, "holds weights that cannot be read"),
    "shopper": ("shopper", "shopper.safetensors", "train", 4, "is not a readable shopper"),
    "agent": ("ppo", "seed-0/policy.safetensors", "export", 4, "holds weights that cannot be read"),
    "config": ("encoder", "config.json", "train", 4, "config.json is not valid JSON"),
}


@pytest.mark.parametrize("kind", DAMAGED)
def test_a_truncated_file_of_a_finished_step_is_named_by_the_next_step(
    loop: Any, command: Callable[..., Any], tmp_path: Path, kind: str
) -> None:
    folder, file, step, code, says = DAMAGED[kind]
    copied = tmp_path / folder
    shutil.copytree(loop / folder, copied)
    (copied / file).write_bytes(cut((copied / file).read_bytes()))
    words = [copied if word == loop / folder else word for word in loop.words[step]]
    answer = command(*words, "--out", tmp_path / "out", "--json")
    assert (answer.code, answer.json["exit_code"]) == (code, code)
    assert says in answer.json["message"]
    assert str(copied) in answer.json["message"]
    assert not (tmp_path / "out").exists()


def test_an_altered_bundle_is_not_served(loop: Any, command: Callable[..., Any], tmp_path: Path) -> None:
    shutil.copytree(loop / "bundle", tmp_path / "bundle")
    policy = tmp_path / "bundle" / "policy.onnx"
    policy.write_bytes(cut(policy.read_bytes()))
    answer = command("serve", tmp_path / "bundle", "--store", tmp_path / "events.db", "--json")
    assert (answer.code, answer.json["error"]) == (4, "BundleError")
    assert "policy.onnx was altered" in answer.json["message"]
    assert not (tmp_path / "events.db").exists()


def test_parts_of_another_catalogue_are_refused(
    loop: Any, command: Callable[..., Any], shop_files: Path, tmp_path: Path
) -> None:
    catalogue = pd.read_parquet(shop_files / "catalogue.parquet")
    catalogue[::-1].to_parquet(tmp_path / "catalogue.parquet")
    words = ["--source", "events", "--catalogue", tmp_path / "catalogue.parquet", "--out", tmp_path / "log"]
    assert command("ingest", shop_files / "events.parquet", *words).code == 0
    other = [tmp_path / "log" if word == loop / "log" else word for word in loop.words["train"]]
    answer = command(*other, "--out", tmp_path / "ppo", "--json")
    assert (answer.code, answer.json["error"]) == (4, "ArtefactError")
    assert f"{loop / 'encoder'} knows other items than {tmp_path / 'log'}" in answer.json["message"]


@pytest.mark.parametrize("kind", [*REFUSED, *SET_ASIDE])
def test_the_page_tells_what_is_tested(kind: str) -> None:
    row = next(line for line in PAGE.read_text(encoding="utf-8").splitlines() if line.startswith(f"| {kind} |"))
    said = [REFUSED[kind].says] if kind in REFUSED else [*SET_ASIDE[kind].reasons, *SET_ASIDE[kind].ignored]
    for words in said:
        assert words in row, json.dumps(words)
