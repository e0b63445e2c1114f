"""Artefact folders: finished, resumed or refused, and never half written."""

import json
import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest

from slatewise.datasets.artefact import artefact_id, building, fingerprint, is_finished, read_config, write_json
from slatewise.errors import ArtefactError

SETTINGS = {"seed": 1, "width": 8}
INPUTS = {"log": "abc"}


def build(folder: Path, settings: dict[str, Any] | None = None, **options: Any) -> None:
    with building(folder, "encoder", settings or SETTINGS, INPUTS, **options) as draft:
        (draft.folder / "weights.txt").write_text("42")
        draft.facts["loss"] = 0.5


def stop_half_way(folder: Path) -> None:
    with building(folder, "encoder", SETTINGS, INPUTS) as draft:
        (draft.folder / "checkpoint").write_text("half way")
        raise KeyboardInterrupt


def test_a_finished_artefact_holds_its_files_and_its_record(tmp_path: Path) -> None:
    folder = tmp_path / "deep" / "encoder"
    build(folder)
    assert sorted(path.name for path in folder.iterdir()) == ["config.json", "weights.txt"]
    assert not folder.with_name("encoder.partial").exists()
    record = read_config(folder, "encoder")["slatewise_artefact"]
    assert record["kind"] == "encoder"
    assert record["settings"] == SETTINGS
    assert record["inputs"] == INPUTS
    assert record["facts"] == {"loss": 0.5}
    assert {"python", "numpy", "pandas"} <= set(record["versions"])
    assert artefact_id(folder, "encoder") == record["id"]


def test_the_id_follows_settings_and_inputs_and_nothing_else(tmp_path: Path) -> None:
    build(tmp_path / "one")
    build(tmp_path / "two", {"width": 8, "seed": 1})
    build(tmp_path / "three", {"width": 9, "seed": 1})
    ids = [artefact_id(tmp_path / name, "encoder") for name in ("one", "two", "three")]
    assert ids[0] == ids[1] != ids[2]
    assert fingerprint({"a": 1, "b": 2}) == fingerprint({"b": 2, "a": 1}) != fingerprint({"a": 1, "b": 3})


def test_a_config_written_by_the_step_is_kept_beside_the_record(tmp_path: Path) -> None:
    with building(tmp_path / "model", "encoder", SETTINGS) as draft:
        write_json(draft.folder / "config.json", {"model_type": "shop", "width": 8})
    config = read_config(tmp_path / "model", "encoder")
    assert (config["model_type"], config["width"]) == ("shop", 8)
    assert config["slatewise_artefact"]["settings"] == SETTINGS


def test_a_step_that_fails_leaves_a_partial_folder_and_the_next_run_resumes_it(tmp_path: Path) -> None:
    folder = tmp_path / "encoder"
    with pytest.raises(KeyboardInterrupt):
        stop_half_way(folder)
    assert not folder.exists()
    with pytest.raises(ArtefactError, match=r"encoder\.partial is unfinished, run its step again"):
        read_config(folder, "encoder")
    with building(folder, "encoder", SETTINGS, INPUTS) as draft:
        assert (draft.folder / "checkpoint").read_text() == "half way"
        (draft.folder / "checkpoint").unlink()
    assert [path.name for path in folder.iterdir()] == ["config.json"]


@pytest.mark.parametrize(
    ("kind", "settings", "inputs"),
    [
        ("encoder", {"seed": 2, "width": 8}, INPUTS),
        ("encoder", SETTINGS, {"log": "other"}),
        ("shopper", SETTINGS, INPUTS),
    ],
)
def test_a_partial_folder_of_another_plan_is_not_resumed(
    tmp_path: Path, kind: str, settings: dict[str, Any], inputs: dict[str, str]
) -> None:
    folder = tmp_path / "encoder"
    with pytest.raises(KeyboardInterrupt):
        stop_half_way(folder)
    with building(folder, kind, settings, inputs) as draft:
        assert not (draft.folder / "checkpoint").exists()


def test_a_partial_folder_with_a_broken_plan_is_begun_anew(tmp_path: Path) -> None:
    partial = tmp_path / "encoder.partial"
    partial.mkdir()
    (partial / "plan.json").write_text("{")
    (partial / "checkpoint").write_text("half way")
    with building(tmp_path / "encoder", "encoder", SETTINGS) as draft:
        assert not (draft.folder / "checkpoint").exists()


def test_a_finished_folder_is_replaced_only_by_force(tmp_path: Path) -> None:
    folder = tmp_path / "encoder"
    build(folder)
    with pytest.raises(ArtefactError, match="exists; choose another --out or pass --force"):
        build(folder)
    with building(folder, "encoder", {"seed": 2}, force=True) as draft:
        (draft.folder / "new.txt").write_text("")
        assert (folder / "weights.txt").exists()  # the old one stays until the new one is whole
    assert sorted(path.name for path in folder.iterdir()) == ["config.json", "new.txt"]


def test_an_artefact_moved_aside_by_a_killed_replacement_comes_back(tmp_path: Path) -> None:
    out = tmp_path / "log"
    with building(out, "log", {"seed": 1}) as draft:
        (draft.folder / "kept.txt").write_text("old")
    out.rename(tmp_path / "log.replaced")  # as a kill between the two renames leaves it
    assert is_finished(out, "log", {"seed": 1}, {})
    assert (out / "kept.txt").read_text() == "old"
    assert not (tmp_path / "log.replaced").exists()


def test_what_a_kill_left_of_a_replaced_artefact_is_removed(tmp_path: Path) -> None:
    out = tmp_path / "log"
    with building(out, "log", {"seed": 2}):
        pass
    (tmp_path / "log.replaced").mkdir()
    (tmp_path / "log.replaced" / "config.json").write_text("{}")
    assert is_finished(out, "log", {"seed": 2}, {})
    assert not (tmp_path / "log.replaced").exists()


def test_a_forced_step_that_fails_leaves_the_old_artefact(tmp_path: Path) -> None:
    folder = tmp_path / "encoder"
    build(folder)
    with pytest.raises(RuntimeError), building(folder, "encoder", {"seed": 2}, force=True):
        raise RuntimeError("stopped")
    assert read_config(folder, "encoder")["slatewise_artefact"]["settings"] == SETTINGS


@pytest.mark.parametrize("kind", [None, "log"])
def test_force_replaces_nothing_but_an_artefact_of_the_same_kind(tmp_path: Path, kind: str | None) -> None:
    folder = tmp_path / "photos"
    if kind:
        with building(folder, kind, SETTINGS):
            pass
    else:
        folder.mkdir()
    (folder / "mine.txt").write_text("keep me")
    with (
        pytest.raises(ArtefactError, match="--force replaces only that, so choose another --out"),
        building(folder, "encoder", SETTINGS, force=True),
    ):
        pass
    assert (folder / "mine.txt").read_text() == "keep me"
    assert not (tmp_path / "photos.partial").exists()


def test_an_empty_folder_may_be_built_in(tmp_path: Path) -> None:
    (tmp_path / "encoder").mkdir()
    build(tmp_path / "encoder")
    assert is_finished(tmp_path / "encoder", "encoder", SETTINGS, INPUTS)


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs a signal that cannot be caught")
def test_a_killed_step_leaves_a_partial_folder_to_resume(tmp_path: Path) -> None:
    code = textwrap.dedent(
        f"""
        import os, signal
        from pathlib import Path
        from slatewise.datasets.artefact import building
        with building(Path({str(tmp_path / "encoder")!r}), "encoder", {SETTINGS!r}, {INPUTS!r}) as draft:
            (draft.folder / "checkpoint").write_text("half way")
            os.kill(os.getpid(), signal.SIGKILL)
        """
    )
    done = subprocess.run([sys.executable, "-c", code], check=False, env={**os.environ})
    assert done.returncode == -signal.SIGKILL
    assert not (tmp_path / "encoder").exists()
    with building(tmp_path / "encoder", "encoder", SETTINGS, INPUTS) as draft:
        assert (draft.folder / "checkpoint").read_text() == "half way"
    assert is_finished(tmp_path / "encoder", "encoder", SETTINGS, INPUTS)


def test_a_kill_just_before_the_rename_loses_no_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "encoder"

    def killed(self: Path, target: Path) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Path, "rename", killed)
        with pytest.raises(KeyboardInterrupt):
            build(folder)
    assert not folder.exists()
    with building(folder, "encoder", SETTINGS, INPUTS) as draft:
        assert (draft.folder / "weights.txt").read_text() == "42"
    assert sorted(path.name for path in folder.iterdir()) == ["config.json", "weights.txt"]
    assert is_finished(folder, "encoder", SETTINGS, INPUTS)


def test_what_is_not_there_is_not_finished(tmp_path: Path) -> None:
    assert not is_finished(tmp_path / "nowhere", "encoder", SETTINGS, INPUTS)
    (tmp_path / "empty").mkdir()
    assert not is_finished(tmp_path / "empty", "encoder", SETTINGS, INPUTS)


@pytest.mark.parametrize(
    ("settings", "inputs", "named"),
    [
        ({"seed": 2, "width": 8}, INPUTS, "seed=1, now 2"),
        ({"seed": 1}, INPUTS, "width=8, now None"),
        ({"seed": 1, "width": 8, "depth": 3}, INPUTS, "depth=None, now 3"),
        (SETTINGS, {"log": "other"}, "log='abc', now 'other'"),
    ],
)
def test_an_artefact_of_other_settings_is_refused_by_the_first_that_differs(
    tmp_path: Path, settings: dict[str, Any], inputs: dict[str, str], named: str
) -> None:
    build(tmp_path / "encoder")
    with pytest.raises(ArtefactError, match=named):
        is_finished(tmp_path / "encoder", "encoder", settings, inputs)


def test_settings_are_compared_as_json_holds_them(tmp_path: Path) -> None:
    settings = {"fractions": (0.8, 0.1), "path": Path("a/b")}
    build(tmp_path / "encoder", settings)
    assert is_finished(tmp_path / "encoder", "encoder", settings, INPUTS)


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("{", "not valid JSON"),
        ("[]", "holds 'something else', not 'encoder'"),
        ("{}", "holds 'something else', not 'encoder'"),
        ('{"slatewise_artefact": []}', "holds 'something else', not 'encoder'"),
        ('{"slatewise_artefact": {"kind": "shopper"}}', "holds 'shopper', not 'encoder'"),
        ('{"slatewise_artefact": {"kind": "encoder", "schema": 99}}', "written by a newer slatewise"),
    ],
)
def test_a_folder_that_holds_something_else_is_refused(tmp_path: Path, text: str, named: str) -> None:
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(ArtefactError, match=named):
        read_config(tmp_path, "encoder")


def test_a_folder_without_a_config_is_refused(tmp_path: Path) -> None:
    (tmp_path / "other.txt").write_text("")
    with pytest.raises(ArtefactError, match=r"no finished encoder \(it has no config.json\)"):
        is_finished(tmp_path, "encoder", SETTINGS, INPUTS)


def test_json_is_written_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "figures.json"
    write_json(path, {"a": 1})
    loop: list[Any] = []
    loop.append(loop)
    with pytest.raises(ValueError):
        write_json(path, loop)
    assert json.loads(path.read_text()) == {"a": 1}
    assert [one.name for one in tmp_path.iterdir()] == ["figures.json"]
