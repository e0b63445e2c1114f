"""The page and its pictures: whole, self-contained, and safe with whatever a catalogue holds."""

import re
import threading
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from slatewise.errors import EvidenceError
from slatewise.evaluation import Evaluation, Extras, Outcomes, figures, find, headline_figure, write_report
from slatewise.evaluation.drawing import as_svg
from slatewise.evaluation.outcomes import COUNTS, FIXED

NASTY = "<script>alert('cheap')</script> & \"shoes\""
VOID = {"meta", "br", "hr", "img", "input", "link", "path", "use", "rect", "circle"}


def judged(simulator: str, lift: float, seed: int, shoppers: int = 60) -> Outcomes:
    """Outcomes of two learners and two rules, drawn from rates whose order is known."""
    rng = np.random.default_rng(seed)
    frames, places, items = [], [], []
    for policy, seeds, rate in (
        ("PPO", (0, 1, 2), 0.5),
        (NASTY, (0,), 0.4),
        ("popular", (FIXED,), 0.3),
        ("random", (FIXED,), 0.1),
    ):
        for training_seed in seeds:
            keys = {"simulator": simulator, "policy": policy, "training_seed": training_seed}
            slates = 1 + rng.poisson(4, shoppers)
            clicks = rng.binomial(slates, rate)
            carts = rng.binomial(clicks, 0.4)
            bought = rng.binomial(carts, 0.5)
            table = {
                "shopper": np.arange(shoppers),
                "slates": slates,
                "clicks": clicks,
                "carts": carts,
                "purchases": bought,
            }
            spread = {"spread": 0.5 * slates, "distinct_items": slates, "distinct_categories": np.nan}
            rest = {
                "revenue": 9.5 * bought,
                "reward": lift * (clicks + 5.0 * bought),
                "slots": 3 * slates,
                "examined": 2 * slates,
            }
            frames.append(pd.DataFrame(table | rest | spread).assign(**keys))
            shown = [slates.sum()] * 3
            places.append(
                pd.DataFrame({"place": range(3), "shown": shown, "examined": [9, 8, 7], "clicked": [4, 2, 1]}).assign(
                    **keys
                )
            )
            items.append(pd.DataFrame({"item": [1, 2, 3], "shown": shown, "clicked": 1, "purchased": 0}).assign(**keys))
    facts = {
        "shoppers": shoppers,
        "seed": seed,
        "k": 3,
        "max_slates": 30,
        "available": 4,
        "reward": {"click": 1.0, "purchase": 5.0},
    }
    assert set(COUNTS) <= set(frames[0])
    return Outcomes(*(pd.concat(part, ignore_index=True) for part in (frames, places, items)), {simulator: facts})


@pytest.fixture(scope="module")
def evaluation() -> Evaluation:
    outcomes = Outcomes.joined([judged("the truth", 1.0, 1), judged("fitted", 1.3, 2)])
    return find(outcomes, trained_in={"PPO": "fitted", NASTY: "fitted"}, resamples=200)


@pytest.fixture(scope="module")
def extras() -> Extras:
    steps = [(policy, seed, step, step / 100) for policy in ("PPO", NASTY) for seed in range(2) for step in (100, 200)]
    groups = [(part, 10, 0.1, 0.12, 0.05, 0.2) for part in ("choice", "cart", "leaving", "purchase")]
    return Extras(
        shop=NASTY,
        currency="EUR",
        settings={"priors": NASTY},
        notes=[NASTY],
        curves=pd.DataFrame(steps, columns=["policy", "training_seed", "steps", "value"]),
        next_item=pd.DataFrame(
            [(NASTY, "recall@20", 0.41, 0.40, 0.42)], columns=["model", "metric", "value", "low", "high"]
        ),
        realism=pd.DataFrame(
            [("fitted", -1.3, 0, 0, 0), (NASTY, -1.5, 0.2, 0.1, 0.3)],
            columns=["model", "log_likelihood", "gain", "low", "high"],
        ),
        evidence=pd.DataFrame(
            [
                (NASTY, "learned from the log", "9 clicks", 0.1, 0.05, 0.2),
                ("click rate", "assumed", "none", 0.1, None, None),
            ],
            columns=["quantity", "source", "evidence", "value", "low", "high"],
        ),
        calibration=pd.DataFrame(groups, columns=["part", "count", "predicted", "observed", "low", "high"]),
        catalogue=pd.DataFrame({"item_id": ["1", "2", "3", "4"], "text": [NASTY, "", "plain shoes", "unseen"]}),
        places={"log": "runs/<b>log</b>"},
    )


@pytest.fixture(scope="module")
def page(evaluation: Evaluation, extras: Extras, tmp_path_factory: pytest.TempPathFactory) -> str:
    path = write_report(tmp_path_factory.mktemp("report") / "report.html", evaluation, extras)
    return path.read_text(encoding="utf-8")


class Outline(HTMLParser):
    """Every tag opened is closed, in order; ids, and what links and sources point to."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.ids: list[str] = []
        self.targets: list[str] = []
        self.seen: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.add(tag)
        self.note(attrs)
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.add(tag)
        self.note(attrs)

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID:
            assert self.open, f"</{tag}> closes nothing"
            assert self.open.pop() == tag, f"</{tag}> at {self.getpos()} closes another tag"

    def note(self, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        self.ids += [found["id"] or ""] if "id" in found else []
        self.targets += [value or "" for name, value in attrs if name in ("href", "src", "action", "data", "srcset")]


@pytest.fixture(scope="module")
def outline(page: str) -> Outline:
    parser = Outline()
    parser.feed(page)
    parser.close()
    return parser


def test_every_tag_is_closed_and_every_id_is_unique(outline: Outline) -> None:
    assert outline.open == []
    assert len(outline.ids) == len(set(outline.ids))


def test_the_page_needs_nothing_from_elsewhere(page: str, outline: Outline) -> None:
    assert all(target.startswith("#") for target in outline.targets)
    assert {target[1:] for target in outline.targets} <= set(outline.ids)
    assert not outline.seen & {"script", "link", "img", "iframe", "object", "embed"}
    assert "http" not in page
    assert not re.search(r"url\((?!#)|@import", page)


def test_whatever_a_catalogue_or_a_name_holds_is_text(page: str) -> None:
    assert "<script>alert" not in page
    assert "<b>log</b>" not in page
    assert page.count("&lt;script&gt;alert") > 5


def test_a_judge_that_trained_is_called_out(page: str, evaluation: Evaluation) -> None:
    assert evaluation.primary == "the truth"
    assert "were trained in “fitted”, which also judges here" in page
    assert "judges here too" in page
    assert "one training only" in page


def test_sections_appear_only_with_something_to_tell(evaluation: Evaluation, page: str, tmp_path: Path) -> None:
    plain = write_report(tmp_path / "plain.html", evaluation).read_text(encoding="utf-8")
    for name in ("shown", "learning", "encoder", "shopper"):
        assert f'<section id="{name}">' in page
        assert f'<section id="{name}">' not in plain
    for name in ("judged", "earned", "compared", "how", "method"):
        assert f'<section id="{name}">' in plain


def test_one_policy_in_one_simulator_makes_a_page_too(tmp_path: Path) -> None:
    outcomes = judged("the truth", 1.0, 1)
    keep = {
        name: part[part["policy"] == "popular"]
        for name, part in (("f", outcomes.frame), ("p", outcomes.places), ("i", outcomes.items))
    }
    alone = find(Outcomes(keep["f"], keep["p"], keep["i"], outcomes.facts), resamples=100)
    text = write_report(tmp_path / "one.html", alone).read_text(encoding="utf-8")
    assert "nothing to hold it against" in text


def test_pictures_take_the_pages_colours_and_keep_their_ids_apart(evaluation: Evaluation) -> None:
    svg = as_svg(figures.policy_values(evaluation.summary), "values", 'a "title" <b>')
    assert svg.startswith("<svg role=")
    assert "&lt;b&gt;" in svg
    assert "var(--ink)" in svg
    assert "#1c2128" not in svg
    assert re.findall(r'\bid="', svg)
    assert all(name.startswith("values-") for name in re.findall(r'\bid="([^"]*)"', svg))


def test_pictures_may_be_drawn_by_several_threads(evaluation: Evaluation) -> None:
    drawn: list[str] = []
    work = [
        threading.Thread(target=lambda: drawn.append(as_svg(figures.policy_values(evaluation.summary), "v", "t")))
        for _ in range(4)
    ]
    for one in work:
        one.start()
    for one in work:
        one.join()
    assert len(drawn) == 4
    assert len({len(text) for text in drawn}) == 1


def test_the_headline_picture_is_a_png(evaluation: Evaluation, tmp_path: Path) -> None:
    headline_figure(tmp_path / "headline.png", evaluation.summary, simulator="the truth")
    assert (tmp_path / "headline.png").read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"


def test_pictures_without_data_say_what_is_missing(evaluation: Evaluation) -> None:
    with pytest.raises(EvidenceError, match="nothing was compared with 'nobody'"):
        figures.paired_differences(evaluation.comparisons, "nobody")
    with pytest.raises(EvidenceError, match="learning curves lack"):
        figures.learning_curves(pd.DataFrame({"policy": []}))
    with pytest.raises(EvidenceError, match="no policy was judged in both"):
        figures.two_simulators(evaluation.summary, "the truth", "nowhere")


def test_an_evaluation_survives_a_round_trip(evaluation: Evaluation, tmp_path: Path) -> None:
    evaluation.save(tmp_path)
    back = Evaluation.load(tmp_path)
    pd.testing.assert_frame_equal(back.summary, evaluation.summary, check_exact=True)
    pd.testing.assert_frame_equal(back.comparisons, evaluation.comparisons, check_exact=True)
    assert back.trained_in == evaluation.trained_in
    assert back.primary == evaluation.primary
    assert "NaN" not in (tmp_path / "summary.json").read_text(encoding="utf-8")
