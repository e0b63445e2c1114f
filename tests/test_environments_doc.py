"""What the page on environments shows runs as it stands, in order."""

import re
from pathlib import Path
from typing import Any

import pytest

PAGE = Path(__file__).resolve().parents[1] / "docs" / "environments.md"
BLOCK = re.compile(r"^```python ?(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
HEADING = re.compile(r"^## (.+)$", re.MULTILINE)


def blocks() -> list[tuple[str, str]]:
    """The package that each block needs, and its code."""
    if not PAGE.is_file():
        pytest.skip("the page is not beside the tests; run them from a checkout")
    return BLOCK.findall(PAGE.read_text(encoding="utf-8"))


def run(which: str, capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    names: dict[str, Any] = {}
    for needs, code in blocks():
        if needs in ("", which):
            exec(compile(code, str(PAGE), "exec"), names)
    capsys.readouterr()
    return names


def test_the_page_runs(capsys: pytest.CaptureFixture[str]) -> None:
    names = run("", capsys)
    assert names["picture"].shape == (80 + 48 * 5 + 32, 720, 3)
    assert names["told"].click.shape == (1, 5)
    assert names["items"].shape == (5,)
    assert names["features"].shape[0] == 51
    assert names["masks"].all()
    assert names["model"].num_timesteps == 256


def test_what_it_shows_of_minari_runs(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("minari")
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path))
    names = run("minari", capsys)
    assert len(names["again"].slates) == len(names["log"].slates) > 20


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # Ray's own
def test_what_it_shows_of_rllib_runs(capsys: pytest.CaptureFixture[str]) -> None:
    ray = pytest.importorskip("ray")
    pytest.importorskip("ray.rllib")
    ray.init(num_cpus=2, include_dashboard=False, logging_level="ERROR")
    try:
        names = run("rllib", capsys)
        assert names["result"]["env_runners"]["num_episodes"] > 10
        names["algorithm"].stop()
    finally:
        ray.shutdown()


def test_its_links_lead_somewhere() -> None:
    text = PAGE.read_text(encoding="utf-8")
    headings = {re.sub(r"[^\w -]", "", one.lower()).replace(" ", "-") for one in HEADING.findall(text)}
    for link in re.findall(r"\]\(([^)\s]+)\)", text):
        if link.startswith("#"):
            assert link[1:] in headings, link
        else:
            assert (PAGE.parent / link).is_file(), link
