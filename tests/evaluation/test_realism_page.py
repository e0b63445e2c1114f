"""The realism page: every section where there is something to tell, and words that say what the figures do."""

import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from slatewise.datasets.known_shop import KnownShop, KnownShopConfig
from slatewise.datasets.log import ShopLog
from slatewise.evaluation import write_realism
from slatewise.evaluation.realism_page import render_realism, verdict
from slatewise.simulators import KnownTruthShopper, Realism, collect_log, realism

NASTY = '<b>&"shop"</b>'


@pytest.fixture(scope="module")
def truth() -> KnownTruthShopper:
    return KnownTruthShopper(KnownShop.make(KnownShopConfig.small()))


@pytest.fixture(scope="module")
def log(truth: KnownTruthShopper) -> ShopLog:
    return collect_log(truth, truth.shop.catalogue, sessions=120, k=6, seed=2)


@pytest.fixture(scope="module")
def found(truth: KnownTruthShopper, log: ShopLog) -> Realism:
    """Of a known shopper, with made-up tables of what it would foretell."""
    models = [("fitted", -0.7, 0.0, 0.0, 0.0, 0.64, 0.6, 0.68), ("position", -0.8, 0.1, 0.05, 0.15, 0.5, 0.5, 0.5)]
    columns = ["model", "log_likelihood", "gain", "low", "high", "auc", "auc_low", "auc_high"]
    groups = [("cart", group, 30, 0.1 * group, 0.12 * group, 0.05 * group, 0.2 * group) for group in (1, 2)]
    return replace(
        realism(truth, log, resamples=100),
        likelihood=pd.DataFrame(models, columns=columns),
        calibration=pd.DataFrame(groups, columns=["part", "group", "count", "predicted", "observed", "low", "high"]),
        errors=pd.DataFrame([("cart", 0.04, 0.03, 0.05, 0.01)], columns=["part", "ece", "low", "high", "floor"]),
    )


class Outline(HTMLParser):
    """Sections by id, and what links and sources point to."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.sections: list[str] = []
        self.ids: list[str] = []
        self.targets: list[str] = []
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        held = {name: value or "" for name, value in attrs}
        self.ids += [held["id"]] if "id" in held else []
        self.sections += [held["id"]] if tag == "section" and "id" in held else []
        self.targets += [held[name] for name in ("href", "src") if name in held]
        assert tag not in ("script", "link", "img", "iframe")


def test_the_page_holds_every_section_and_picture_and_needs_nothing_from_elsewhere(
    found: Realism, tmp_path: Path
) -> None:
    path = write_realism(tmp_path / "realism.html", found, shop=NASTY)
    page = path.read_text(encoding="utf-8")
    outline = Outline(page)
    assert outline.sections == ["foretold", "calibrated", "done", "told", "method"]
    assert page.count("<svg") == 5
    assert len(outline.ids) == len(set(outline.ids))
    assert {target.removeprefix("#") for target in outline.targets} <= set(outline.ids)
    assert NASTY not in page
    assert "&lt;b&gt;" in page
    assert "0.64 [0.60, 0.68]" in page
    for measure in found.distances["measure"]:
        assert measure in page
    kept = Realism.from_rows(json.loads((tmp_path / "realism.json").read_text(encoding="utf-8")))
    assert kept.to_rows() == found.to_rows()
    drawn = re.compile(r"\d\d:\d\d UTC|<svg.*?</svg>", re.DOTALL)  # times, and pictures, whose inner ids are random
    assert drawn.sub("", render_realism(kept, shop=NASTY)) == drawn.sub("", page)


def test_the_words_say_what_the_figures_do(found: Realism) -> None:
    said = verdict(found)
    assert [one["outcome"] for one in said] == ["better", "open", "open", "worse"]
    assert "likelier than the model “position”: by 0.10 [0.05, 0.15] nats" in said[0]["sentence"]
    assert "no more than chance" in said[1]["sentence"]
    assert said[2]["sentence"].startswith("None of")
    assert "cart are off by 4.0 % [3.0, 5.0] on average" in said[3]["sentence"]
    told = found.distances.assign(apart=found.distances["measure"] == "time on a slate")
    trees = found.classifier.assign(auc=[0.8, 0.5], low=[0.75, 0.45], high=[0.85, 0.55])
    broken = verdict(replace(found, distances=told, classifier=trees))
    assert [one["outcome"] for one in broken] == ["better", "worse", "worse", "worse"]
    assert "0.80 [0.75, 0.85]" in broken[1]["sentence"]
    assert "1 of" in broken[2]["sentence"]
    assert "time on a slate" in broken[2]["sentence"]


def test_a_page_says_what_was_not_compared(truth: KnownTruthShopper, log: ShopLog) -> None:
    sampled = ShopLog(log.events, log.catalogue, {**log.facts, "length_biased": True}).part(np.arange(60))
    page = render_realism(realism(truth, sampled, resamples=100))
    assert Outline(page).sections == ["done", "told", "method"]
    assert "sampled by length" in page
    assert "slates of a session" not in page
