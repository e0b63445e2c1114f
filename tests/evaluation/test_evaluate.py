"""The evaluation step: one artefact with outcomes, figures, comparisons and the page."""

import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from slatewise.agents.baselines import PopularPolicy, RandomPolicy
from slatewise.datasets.artefact import building, read_config
from slatewise.datasets.catalogue import Catalogue
from slatewise.encoders.mean import MeanEncoder
from slatewise.envs.defaults import default_shop
from slatewise.errors import ArtefactError, EvidenceError
from slatewise.evaluation import EvaluationConfig, Outcomes, evaluate, gather_extras
from slatewise.simulators.known_truth import KnownTruthShopper

CONFIG = EvaluationConfig(shoppers=40, k=4, resamples=100, max_slates=5, batch=16)


def parts() -> tuple[dict, dict, MeanEncoder]:
    shop = default_shop()
    available = shop.catalogue.available
    rules = {
        "popular": PopularPolicy(shop.quality, 4, available),
        "random": [RandomPolicy(available, 4, seed) for seed in (1, 2)],
    }
    judges = {"trained in": KnownTruthShopper(shop), "elsewhere": KnownTruthShopper(shop)}
    return rules, judges, MeanEncoder.from_catalogue(shop.catalogue)


def test_the_artefact_holds_all_that_was_found(tmp_path: Path) -> None:
    told: list[tuple[int, int, str]] = []
    found = evaluate(
        *parts(),
        tmp_path / "e",
        config=CONFIG,
        trained_in={"random": "trained in"},
        catalogue=default_shop().catalogue,
        inputs={"encoder": "abc"},
        progress=lambda *one: told.append(one),
    )
    assert found.primary == "elsewhere"
    tables, words = ("items", "outcomes", "places"), ("comparisons", "config", "summary")
    expected = [f"{name}.parquet" for name in tables] + [f"{name}.json" for name in words] + ["report.html"]
    assert sorted(path.name for path in (tmp_path / "e").iterdir()) == sorted(expected)
    record = read_config(tmp_path / "e", "evaluation")["slatewise_artefact"]
    assert record["facts"]["flattered"] == [["random", "trained in"]]
    assert record["settings"]["policies"] == {"popular": 0, "random": 2}
    assert len(found.outcomes.frame) == 2 * 3 * 40
    assert found.outcomes.frame["distinct_categories"].between(1, 20).all()
    assert json.loads((tmp_path / "e" / "comparisons.json").read_text())[0]["policy"] == "random"
    assert default_shop().catalogue.frame["text"].iloc[0][:8] in (tmp_path / "e" / "report.html").read_text()
    assert told[-1][0] == told[-1][1] == 2 * 3 * 40
    # The same shoppers in two simulators that are one: what is fixed earns the same to the cent.
    popular = found.summary[found.summary["policy"] == "popular"].pivot_table(
        index="metric", columns="simulator", values="mean"
    )
    assert (popular["trained in"] == popular["elsewhere"]).all()


def test_a_finished_evaluation_is_read_back_and_another_is_refused(tmp_path: Path) -> None:
    policies, judges, encoder = parts()
    one = {"elsewhere": judges["elsewhere"]}
    first = evaluate(policies, one, encoder, tmp_path / "e", config=CONFIG)
    again = evaluate(policies, one, encoder, tmp_path / "e", config=CONFIG)
    pd.testing.assert_frame_equal(first.outcomes.frame, again.outcomes.frame)
    pd.testing.assert_frame_equal(first.summary, again.summary)
    with pytest.raises(ArtefactError, match="was built with"):
        evaluate({"popular": policies["popular"]}, one, encoder, tmp_path / "e", config=CONFIG)


def test_a_killed_evaluation_judges_only_what_is_left(tmp_path: Path) -> None:
    policies, judges, encoder = parts()
    one = {"elsewhere": judges["elsewhere"]}
    asked: list[str] = []

    def stop(done: int, total: int, words: str) -> None:
        asked.append(words)
        if words.startswith("random, training 2"):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        evaluate(policies, one, encoder, tmp_path / "e", config=CONFIG, progress=stop)
    kept = {path: path.stat().st_mtime_ns for path in (tmp_path / "e.partial" / "judged").rglob("outcomes.parquet")}
    assert len(kept) == 2
    found = evaluate(policies, one, encoder, tmp_path / "e", config=CONFIG)
    assert len(found.outcomes.frame) == 3 * 40
    assert not (tmp_path / "e" / "judged").exists()


def test_settings_that_cannot_be_are_refused_before_judging(tmp_path: Path) -> None:
    cases: list[dict[str, Any]] = [
        {"shoppers": 1},
        {"level": 95},
        {"resamples": 10},
        {"metric": "gmv"},
        {"reward": "smiles"},
    ]
    for wrong in cases:
        with pytest.raises(ValueError, match="|".join(map(str, wrong.values()))):
            EvaluationConfig(**wrong)
    with pytest.raises(EvidenceError, match="no outcomes"):
        evaluate({"popular": parts()[0]["popular"]}, {}, parts()[2], tmp_path / "e", config=CONFIG)


def test_extras_are_read_from_the_folders_of_the_steps_before(tmp_path: Path) -> None:
    rows = [{"quantity": "click rate", "source": "assumed", "evidence": "", "value": 0.1, "low": 0.02, "high": 0.3}]
    with building(tmp_path / "shopper", "shopper", {}) as draft:
        draft.facts.update({"evidence": rows, "held_out": [{"model": "fitted", "gain": 0.0, "low": 0.0, "high": 0.0}]})
    with building(tmp_path / "agent", "agent", {}) as draft:
        (draft.folder / "seed-4").mkdir()
        (draft.folder / "seed-4" / "curve.csv").write_text("timesteps,reward,ctr\n10,nan,0.1\n20,1.5,0.2\n")
        (draft.folder / "config.json").write_text('{"seeds": [4, 5]}')
    with building(tmp_path / "log", "log", {}) as draft:
        Catalogue(default_shop().catalogue.frame).save(draft.folder / "catalogue.parquet")
        draft.facts["currency"] = "EUR"
    found = gather_extras(
        log=tmp_path / "log", shopper=tmp_path / "shopper", agents={"PPO": tmp_path / "agent"}, shop="A shop"
    )
    assert found.currency == "EUR"
    assert found.shop == "A shop"
    assert found.evidence is not None
    assert found.evidence["quantity"].tolist() == ["click rate"]
    assert found.realism is not None
    assert found.calibration is None
    assert found.curves is not None
    assert found.curves.to_dict("records") == [{"steps": 20, "value": 1.5, "policy": "PPO", "training_seed": 4}]
    assert set(found.places) == {"log", "shopper", "PPO"}
    with pytest.raises(ArtefactError, match="no finished shopper"):
        gather_extras(shopper=tmp_path / "nothing")


def test_damaged_outcomes_name_the_file(tmp_path: Path) -> None:
    (tmp_path / "outcomes.parquet").write_bytes(b"not a table")
    with pytest.raises(ArtefactError, match=r"outcomes\.parquet is not a readable table"):
        Outcomes.load(tmp_path)
