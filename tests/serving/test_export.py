"""From artefacts to a bundle: a session Transformer and a slate PPO in the known-truth shop, both hardly trained."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from gymnasium.vector import AutoresetMode

from slatewise.agents.artefact import load_agent, save_agent
from slatewise.agents.ppo import PPOConfig
from slatewise.datasets.artefact import building, fingerprint
from slatewise.datasets.known_shop import KnownShop, KnownShopConfig
from slatewise.datasets.rules import SlateRules
from slatewise.encoders.loading import load_encoder
from slatewise.encoders.session import ShopSessionConfig, ShopSessionModel
from slatewise.envs.sb3 import SB3Bridge
from slatewise.envs.vector import ShopVectorEnv
from slatewise.errors import ArtefactError, BundleError, EvidenceError
from slatewise.serving import Bundle, Runtime, ShopperEvent, export_bundle
from slatewise.simulators.collect import collect_log
from slatewise.simulators.known_truth import KnownTruthShopper


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folders `log`, `encoder`, `agent` and `evaluation`."""
    root = tmp_path_factory.mktemp("artefacts")
    shop = KnownShop.make(KnownShopConfig(n_items=60, seed=3))
    shopper = KnownTruthShopper(shop)
    log = collect_log(shopper, shop.catalogue, sessions=80, k=4, seed=1)
    with building(root / "log", "log", {"seed": 1}) as draft:
        log.save(draft.folder)
    config = ShopSessionConfig(width=16, heads=2, feed_forward=32, window=10)
    text = np.random.default_rng(0).normal(size=(60, 12)).astype(np.float32)
    encoder = ShopSessionModel.for_items(config, text, shop.catalogue.prices, np.ones(61, bool)).eval()
    with building(root / "encoder", "encoder", {"seed": 0}, {"log": "made up"}) as draft:
        encoder.config.trained = True
        encoder.save_pretrained(draft.folder)
    env = SB3Bridge(ShopVectorEnv(8, shopper, encoder, 4, autoreset_mode=AutoresetMode.SAME_STEP))
    agent = PPOConfig(rollout=128, minibatches=2).build(env, item_vectors=encoder.item_vectors, seed=5).learn(256)
    save_agent(agent, root / "agent", inputs={"encoder": _id(root / "encoder"), "log": _id(root / "log")})
    with building(root / "evaluation", "evaluation", {}) as draft:
        frame = pd.DataFrame(
            {"simulator": "truth", "policy": "ppo", "training_seed": 0, "shopper": range(3), "reward": 1.0}
        )
        frame.to_parquet(draft.folder / "outcomes.parquet")
        rows = [{"policy": "ppo", "metric": "reward", "mean": 1.0, "low": 0.9, "high": 1.1}, {"policy": "random"}]
        (draft.folder / "summary.json").write_text(json.dumps({"summary": rows}))
        draft.facts.update({"primary": "truth", "flattered": []})
    return root


def _id(folder: Path) -> str:
    return json.loads((folder / "config.json").read_text())["slatewise_artefact"]["id"]


def export(folders: Path, out: Path, **more: Any) -> Bundle:
    return export_bundle(folders / "agent", folders / "encoder", folders / "log", out, histories=60, **more)


@pytest.fixture(scope="module")
def exported(folders: Path) -> Bundle:
    return export(folders, folders / "bundle", seed="best", evaluation_folder=folders / "evaluation")


def test_a_bundle_shows_the_slates_of_the_agent_it_was_made_from(folders: Path, exported: Bundle) -> None:
    parity = exported.record["parity"]
    assert parity["equal"] + parity["tied"] == parity["histories"] == 60
    assert exported.record["training"]["seed"] == 5
    assert exported.record["evaluation"]["figures"] == [
        {"policy": "ppo", "metric": "reward", "mean": 1.0, "low": 0.9, "high": 1.1}
    ]
    assert exported.history_limit == load_encoder(folders / "encoder").reach
    agent, encoder = load_agent(folders / "agent"), load_encoder(folders / "encoder")
    newcomer = agent.predict(encoder.start(1).state.numpy())[0][0]
    assert Runtime(exported).recommend([]).items.tolist() == newcomer.tolist()
    card = (exported.folder / "README.md").read_text()
    assert "trained with | ppo" in card
    assert '"mean": 1.0' in card


def test_histories_longer_than_the_encoder_reaches_change_nothing(exported: Bundle) -> None:
    runtime = Runtime(exported)
    ids = exported.catalogue.item_ids
    events = [ShopperEvent(str(ids[1 + i * 7 % 60]), "view", i * 30.0) for i in range(200)]
    late = runtime.recommend(events)
    assert runtime.history(events).history.lengths[0] == exported.history_limit
    assert late.items.tolist() == runtime.recommend(events[50:]).items.tolist()


def test_a_finished_bundle_is_read_back_and_other_settings_are_refused(folders: Path, exported: Bundle) -> None:
    written = (exported.folder / "bundle.json").stat().st_mtime_ns
    again = export(folders, exported.folder, seed=5, evaluation_folder=folders / "evaluation")
    assert again.id == exported.id
    assert (exported.folder / "bundle.json").stat().st_mtime_ns == written
    with pytest.raises(ArtefactError, match="was built with evaluation="):
        export(folders, exported.folder)


def test_figures_of_another_agent_or_under_other_rules_are_refused(folders: Path, tmp_path: Path) -> None:
    rules = SlateRules(max_price=1e6)
    with pytest.raises(BundleError, match="judged policies without rules"):
        export(folders, tmp_path / "bundle", rules=rules, evaluation_folder=folders / "evaluation")
    for name, inputs in (("ruled", {"rules": fingerprint(rules.to_dict())}), ("other", {"ppo": "another"})):
        with building(tmp_path / name, "evaluation", {}, inputs) as draft:
            draft.facts["primary"] = "truth"
    with pytest.raises(BundleError, match="judged policies under other rules"):
        export(folders, tmp_path / "bundle", rules=SlateRules(max_price=2e6), evaluation_folder=tmp_path / "ruled")
    with pytest.raises(BundleError, match="judged policies under other rules"):
        export(folders, tmp_path / "bundle", evaluation_folder=tmp_path / "ruled")
    with pytest.raises(BundleError, match="judged another agent called 'ppo'"):
        export(folders, tmp_path / "bundle", evaluation_folder=tmp_path / "other")
    assert not (tmp_path / "bundle").exists()


def test_the_best_seed_needs_an_evaluation_of_this_agent(folders: Path, tmp_path: Path) -> None:
    with pytest.raises(EvidenceError, match="pass evaluation_folder"):
        export(folders, tmp_path / "bundle", seed="best")
    with pytest.raises(EvidenceError, match="judged 0 trainings of 'dqn'"):
        export(folders, tmp_path / "bundle", seed="best", judged_as="dqn", evaluation_folder=folders / "evaluation")
    with pytest.raises(ArtefactError, match="not 9"):
        export(folders, tmp_path / "bundle", seed=9)


def test_another_encoder_than_the_agents_is_refused(folders: Path, tmp_path: Path) -> None:
    with building(tmp_path / "other", "encoder", {"seed": 1}) as draft:
        load_encoder(folders / "encoder").save_pretrained(draft.folder)
    with pytest.raises(BundleError, match="learnt with another encoder"):
        export_bundle(folders / "agent", tmp_path / "other", folders / "log", tmp_path / "bundle")
