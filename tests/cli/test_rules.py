"""Rules of a shop from a file, through evaluation and export to the server's runtime."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from slatewise.serving import Bundle, Runtime, ShopperEvent

RULES = {"most_of_category": 1, "most_of_brand": 2, "max_similarity": 0.95}


@pytest.fixture
def rules(tmp_path: Path) -> Path:
    path = tmp_path / "rules.json"
    path.write_text(json.dumps(RULES))
    return path


@pytest.mark.parametrize("agent", ["ppo", "dqn"])
def test_a_bundle_keeps_rules_as_the_trained_policy_under_them_does(
    loop: Any, command: Callable[..., Any], rules: Path, tmp_path: Path, agent: str
) -> None:
    folder = loop / "ppo"
    if agent == "dqn":
        folder = tmp_path / "dqn"
        train = [*loop.words["train"], "--agent", "dqn", "--set", "learning_starts=500", "--out", folder]
        assert command(*train, "--steps", 3000).code == 0
    words = ["export", folder, "--log", loop / "log", "--encoder", loop / "encoder", "--rules", rules]
    answer = command(*words, "--histories", 100, "--out", tmp_path / "bundle", "--json")
    assert answer.code == 0, answer
    assert (answer.json["parity"]["different"], answer.json["parity"]["histories"]) == (0, 100)
    bundle = Bundle.load(tmp_path / "bundle")
    assert bundle.record["rules"] == RULES
    runtime, frame = Runtime(bundle), bundle.catalogue.frame
    for item in frame["item_id"].tolist()[:20]:
        slate = runtime.recommend([ShopperEvent(item, "view", time=0.0)])
        rows = frame.iloc[slate.items - 1]
        assert len(rows) == 4
        assert rows["category"].nunique() == 4
        assert rows["brand"].value_counts().max() <= 2
    rules.write_text(json.dumps({"most_of_brand": 1}))
    other = command(*words, "--histories", 100, "--out", tmp_path / "bundle", "--json")
    assert (other.code, "was built with rules=" in other.json["message"]) == (4, True)


def test_policies_are_judged_under_rules_and_those_that_cannot_keep_them_are_left_out(
    loop: Any, command: Callable[..., Any], rules: Path, tmp_path: Path
) -> None:
    words = [*loop.words["evaluate"], "--rules", rules, "--out", tmp_path / "evaluation", "--json"]
    answer = command(*words)
    assert answer.code == 0, answer
    judged = {row["policy"] for row in answer.json["summary"]}
    assert {"ppo", "popular", "item-kNN", "next item", "contextual bandit"} <= judged
    assert not judged & {"random", "logged slates", "myopic click"}
    page = (tmp_path / "evaluation" / "report.html").read_text(encoding="utf-8")
    assert "All policies kept rules: most_of_category 1, most_of_brand 2, max_similarity 0.95." in page
    mean = {(row["policy"], row["metric"]): row["mean"] for row in answer.json["summary"]}
    free = {(row["policy"], row["metric"]): row["mean"] for row in loop.answers["evaluate"].json["summary"]}
    assert mean["popular", "reward"] != free["popular", "reward"]
    rules.write_text(json.dumps({**RULES, "most_of_brand": 3}))
    other = command(*words)
    assert (other.code, "was built with rules=" in other.json["message"]) == (4, True)


@pytest.mark.parametrize("step", ["evaluate", "export"])
@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("{", "is not valid JSON"),
        ('["brand"]', "must hold names and values, got list"),
        ('{"hide_brands": []}', "asks nothing of a slate"),
        ('{"most_brand": 2}', "there is no rule 'most_brand'; rules are most_of_category"),
        ('{"hide_categories": ["nosuch"]}', "no item has the category 'nosuch'; the catalogue has '"),
        ('{"min_price": 5, "max_price": 2}', "no price lies between min_price=5 and max_price=2"),
        ('{"max_price": 0.001}', "the rules leave 0 items for slates of 4 slots"),
    ],
)
def test_rules_that_cannot_be_kept_are_wrong_usage(
    loop: Any, command: Callable[..., Any], tmp_path: Path, step: str, text: str, says: str
) -> None:
    path = tmp_path / "rules.json"
    path.write_text(text)
    answer = command(*loop.words[step], "--rules", path, "--out", tmp_path / "new", "--json")
    assert (answer.code, says in answer.json["message"]) == (2, True), answer
    assert not (tmp_path / "new").exists()
