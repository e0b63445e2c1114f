"""What passes from encoder to encoder: the same shop with other items, and another shop's beginning."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from slatewise.datasets.artefact import read_config
from slatewise.datasets.catalogue import Catalogue
from slatewise.datasets.log import ShopLog
from slatewise.encoders.loading import load_encoder
from slatewise.encoders.pretrain import PretrainConfig, pretrain
from slatewise.encoders.session import ShopSessionModel
from slatewise.encoders.transfer import WarmStart, grow, items_of
from slatewise.errors import ArtefactError

CONFIG = PretrainConfig(width=32, epochs=12, learning_rate=5e-3)


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def folder(small_log: ShopLog, item_text: np.ndarray, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("transfer") / "encoder"
    pretrain(small_log, out, config=CONFIG, text=item_text)
    return out


def with_new_item(catalogue: Catalogue, category: str) -> Catalogue:
    """The items in another order, some gone, and one that nobody has seen yet at the end."""
    frame = catalogue.frame.iloc[np.r_[np.arange(20)[::-1], 24, 25]]
    fresh = frame.iloc[[0]].assign(item_id="new", text="a new thing", category=category)
    return Catalogue(pd.concat([frame, fresh], ignore_index=True))


def text_of(catalogue: Catalogue, old: Catalogue, vectors: np.ndarray, new: np.ndarray) -> np.ndarray:
    place = old.index_of(catalogue.item_ids[1:], unknown="zero")
    return np.where(place[:, None] > 0, vectors[place - 1], new).astype(np.float32)


def histories(encoder: ShopSessionModel, place: np.ndarray) -> torch.Tensor:
    """(2, D) states of two histories, in which old item i is item `place[i]`."""
    items = torch.from_numpy(place[np.array([[3, 4, 5, 20], [18, 1, 0, 0]])])
    events, gaps = torch.full((2, 4), 2), torch.tensor([[0.0, 5, 9, 3], [0, 40, 0, 0]])
    return encoder.encode(items, events * (items > 0), gaps, torch.tensor([4, 2]))


def test_old_items_and_states_stay_what_they_were_and_a_new_item_is_found_by_its_text(
    folder: Path, small_log: ShopLog, item_text: np.ndarray, tmp_path: Path
) -> None:
    old, before = small_log.catalogue, load_encoder(folder)
    catalogue = with_new_item(old, "group 1")
    vectors = text_of(catalogue, old, item_text, item_text[8])  # the new item reads like one of the second group
    after = grow(folder, catalogue, tmp_path / "grown", text=vectors)
    assert after.n_items == 23
    place = catalogue.index_of(old.item_ids[1:], unknown="zero")
    kept = np.flatnonzero(place)
    assert torch.allclose(after.item_vectors[place[kept]], before.item_vectors[kept + 1], atol=1e-6)
    place = np.concatenate([[0], place])
    assert torch.allclose(histories(after, place), histories(before, np.arange(27)), atol=1e-6)
    assert torch.equal(after.calibration.items[place[kept + 1]], before.calibration.items[kept + 1])
    assert after.calibration.items[23] == before.calibration.fresh  # nothing is known of how popular the new item is
    assert before.calibration.fresh != 0
    assert torch.equal(after.calibration.back, before.calibration.back)
    # Looking for what is like the new item finds its group; and a shopper of that group is offered it among them.
    near = after.item_vectors[1:] @ after.item_vectors[23]
    near[22] = -1
    assert set(catalogue.frame["category"].iloc[near.topk(6).indices.numpy()]) == {"group 1"}
    state = after.encode(
        torch.from_numpy(place[[[7, 8, 9]]]), torch.full((1, 3), 2), torch.zeros(1, 3), torch.tensor([3])
    )
    assert 22 in (state @ after.item_vectors[1:].T)[0].topk(7).indices
    assert items_of(tmp_path / "grown").item_ids.tolist() == catalogue.item_ids.tolist()


def test_a_grown_encoder_says_where_it_comes_from_and_can_grow_again(
    folder: Path, small_log: ShopLog, item_text: np.ndarray, tmp_path: Path
) -> None:
    old = small_log.catalogue
    catalogue = with_new_item(old, "a kind that nobody has seen")
    vectors = text_of(catalogue, old, item_text, item_text[8])
    first = grow(folder, catalogue, tmp_path / "grown", text=vectors)
    record = read_config(tmp_path / "grown", "encoder")["slatewise_artefact"]
    assert record["inputs"]["encoder"] == read_config(folder, "encoder")["slatewise_artefact"]["id"]
    assert [record["facts"][f"items_{what}"] for what in ("kept", "new", "gone")] == [22, 1, 4]
    assert "22 items were kept, 1 are new, 4 went" in (tmp_path / "grown" / "README.md").read_text()
    again = grow(folder, catalogue, tmp_path / "grown", text=vectors)  # read back
    assert torch.equal(again.item_vectors, first.item_vectors)
    with pytest.raises(ArtefactError, match="was built with catalogue="):
        grow(folder, old, tmp_path / "grown", text=item_text)
    back = grow(tmp_path / "grown", old, tmp_path / "back", text=item_text)
    kept = np.r_[1:21, 25, 26]
    assert torch.allclose(back.item_vectors[kept], load_encoder(folder).item_vectors[kept], atol=1e-6)


def test_growing_needs_the_catalogue_and_the_text_model_that_were(
    folder: Path, small_log: ShopLog, item_text: np.ndarray, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match=r"text must be \(26, 12\), got \(26, 3\)"):
        grow(folder, small_log.catalogue, tmp_path / "grown", text=item_text[:, :3])
    pretrain(small_log, tmp_path / "old", config=replace(CONFIG, epochs=1), text=item_text)
    (tmp_path / "old" / "catalogue.parquet").unlink()
    with pytest.raises(ArtefactError, match="pretrain it again"):
        grow(tmp_path / "old", small_log.catalogue, tmp_path / "grown", text=item_text)
    assert not (tmp_path / "grown.partial").exists()


def test_a_warm_start_begins_with_what_the_other_has_learnt(
    folder: Path, small_log: ShopLog, item_text: np.ndarray, tmp_path: Path
) -> None:
    few = small_log.part(np.arange(40))
    short = replace(CONFIG, epochs=1, learning_rate=1e-4)
    cold = pretrain(few, tmp_path / "cold", config=short, text=item_text)
    warm = pretrain(few, tmp_path / "warm", config=short, text=item_text, warm_start=folder)
    source = load_encoder(folder)
    assert torch.allclose(warm.item_vectors[1:7], source.item_vectors[1:7], atol=0.05)
    facts = {name: read_config(tmp_path / name, "encoder")["slatewise_artefact"] for name in ("cold", "warm")}
    losses = {name: record["facts"]["validation_loss"] for name, record in facts.items()}
    assert losses["warm"] < losses["cold"] - 0.5
    assert facts["warm"]["facts"]["warm_start"] == {"from": "encoder", "items": 24, "categories": 5, "brands": 0}
    assert facts["warm"]["inputs"]["warm_start"] == read_config(folder, "encoder")["slatewise_artefact"]["id"]
    with pytest.raises(ArtefactError, match="was built with warm_start=None"):
        pretrain(few, tmp_path / "cold", config=short, text=item_text, warm_start=folder)
    assert not torch.allclose(cold.item_vectors[1:7], source.item_vectors[1:7], atol=0.05)


def other_shop(log: ShopLog) -> ShopLog:
    """Items of the same ids that are other things, in one kind with the same name."""
    frame = log.catalogue.frame
    text = ["another " + text if number >= 3 else text for number, text in enumerate(frame["text"])]
    category = ["group 0" if number < 3 else f"kind {number % 2}" for number in range(len(frame))]
    return ShopLog(log.events, Catalogue(frame.assign(text=text, category=category)), log.facts)


def test_only_items_of_the_same_id_and_description_keep_their_embedding(folder: Path, small_log: ShopLog) -> None:
    start = WarmStart.load(folder)
    shop = other_shop(small_log)
    fresh = ShopSessionModel.for_catalogue(
        CONFIG.model(n_seen=24), shop.catalogue, np.zeros((26, 12), np.float32), np.zeros(27, bool)
    )
    before = fresh.tower.text_mean.clone()
    assert start.into(fresh, shop.catalogue) == {"from": "encoder", "items": 3, "categories": 1, "brands": 0}
    source = start.model.tower
    assert fresh.tower.ids is not None
    assert source.ids is not None
    assert torch.equal(fresh.tower.ids.weight[1:4], source.ids.weight[1:4])
    assert not fresh.tower.ids.weight[4:].any()
    assert fresh.tower.item_seen.tolist() == [0.0] + [1.0] * 3 + [0.0] * 23
    assert torch.equal(fresh.tower.text_mean, before)
    assert torch.equal(fresh.project.weight, start.model.project.weight)


def test_shops_that_describe_nothing_share_items_by_id_alone(small_log: ShopLog, tmp_path: Path) -> None:
    frame = small_log.catalogue.frame.assign(text="", category="", brand="")
    log = ShopLog(small_log.events, Catalogue(frame), small_log.facts)
    none = np.zeros((26, 0), np.float32)
    pretrain(log, tmp_path / "first", config=replace(CONFIG, epochs=1), text=none)
    fresh = ShopSessionModel.for_catalogue(CONFIG.model(n_seen=24), log.catalogue, none, np.zeros(27, bool))
    start = WarmStart.load(tmp_path / "first")
    assert start.into(fresh, log.catalogue)["items"] == 24
    # A shop that does describe its items is another shop.
    fresh = ShopSessionModel.for_catalogue(CONFIG.model(n_seen=24), small_log.catalogue, none, np.zeros(27, bool))
    assert start.into(fresh, small_log.catalogue)["items"] == 0


def test_a_warm_start_of_another_shape_or_text_model_is_refused(
    folder: Path, small_log: ShopLog, item_text: np.ndarray, tmp_path: Path
) -> None:
    wide = replace(CONFIG, width=64, layers=1)
    with pytest.raises(ArtefactError, match="width=32, layers=2, and width=64, layers=1 is asked for"):
        pretrain(small_log, tmp_path / "new", config=wide, text=item_text, warm_start=folder)
    with pytest.raises(ArtefactError, match="another model"):
        pretrain(small_log, tmp_path / "new", config=CONFIG, text=item_text[:, :3], warm_start=folder)
    start = WarmStart.load(folder)
    text = {"name": "tuned", "fingerprint": "other", "base_fingerprint": next(iter(start.text))}
    start.check(CONFIG, 12, text)  # one that was fine-tuned from it reads alike
    with pytest.raises(ArtefactError, match="another model"):
        start.check(CONFIG, 12, {"name": "other", "fingerprint": "other"})
    assert not list(tmp_path.iterdir())


def test_a_warm_start_is_as_wide_as_what_it_begins_with(
    folder: Path, small_log: ShopLog, item_text: np.ndarray, tmp_path: Path
) -> None:
    config = replace(CONFIG, width=None, epochs=1)  # alone it would be 64 wide
    begun = pretrain(small_log, tmp_path / "new", config=config, text=item_text, warm_start=folder)
    assert begun.dim == CONFIG.width
