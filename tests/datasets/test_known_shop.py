"""The made-up shop: readable, varied, exactly repeatable, and with attributes that its titles tell of."""

import inspect
import json
import subprocess
import sys
import time
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from slatewise.datasets import known_shop_config
from slatewise.datasets.catalogue import Catalogue
from slatewise.datasets.known_shop import FILE_NAME, KnownShop, KnownShopConfig
from slatewise.errors import ArtefactError


@pytest.fixture(scope="module")
def shop() -> KnownShop:
    return KnownShop.make(KnownShopConfig.demo())


def test_equal_configs_make_equal_shops_and_seeds_make_others() -> None:
    one, same = (KnownShop.make(KnownShopConfig.small(seed=3)) for _ in range(2))
    pd.testing.assert_frame_equal(one.catalogue.frame, same.catalogue.frame)
    for name in ("category", "brand", "quality", "allure", "style", "log_price", "category_share", "popularity"):
        np.testing.assert_array_equal(getattr(one, name), getattr(same, name), err_msg=name)
    other = KnownShop.make(KnownShopConfig.small(seed=4))
    assert not one.catalogue.frame["text"].equals(other.catalogue.frame["text"])


def test_shoppers_settings_do_not_change_the_items() -> None:
    one = KnownShop.make(KnownShopConfig.small())
    other = KnownShop.make(replace(KnownShopConfig.small(), satiation=0.0, outside_option=5.0, quality=0.0))
    pd.testing.assert_frame_equal(one.catalogue.frame, other.catalogue.frame)
    np.testing.assert_array_equal(one.style, other.style)


def test_titles_are_readable_all_different_and_varied(shop: KnownShop) -> None:
    frame = shop.catalogue.frame
    assert frame["text"].is_unique
    for title, brand in zip(frame["text"], frame["brand"], strict=True):
        assert title.startswith(brand + " ")
        assert title.count(", ") == 1
        assert len(title.split()) >= 5
    words = {word for title in frame["text"] for word in title.replace(",", "").split()}
    assert len(words) > 200
    assert frame["category"].nunique() == 12
    assert frame["brand"].nunique() == 30
    assert frame["available"].all()


def test_prices_are_log_normal_around_the_category(shop: KnownShop) -> None:
    frame = shop.catalogue.frame
    median = frame.groupby("category")["price"].median()
    assert median["Tents"] > 3 * median["Bottles"]
    usual = frame.groupby("category")["price"].transform("median")
    within = np.log((frame["price"] / usual).to_numpy())
    assert 0.3 < within.std() < 0.6
    assert abs(stats.skew(within)) < 0.3
    assert (frame["price"] > 0).all()
    assert pd.Series(within).groupby(frame["brand"]).mean().std() > 0.1  # brands have a level


def test_attributes_are_standardised_and_row_zero_is_padding(shop: KnownShop) -> None:
    for name in ("quality", "allure", "log_price"):
        values = getattr(shop, name)
        assert values.shape == (1_001,)
        assert values[0] == 0
        assert values[1:].mean() == pytest.approx(0, abs=0.02)
        assert values[1:].std() == pytest.approx(1, abs=0.02)
    assert shop.style.shape == (1_001, 8)
    assert not shop.style[0].any()
    taste = np.random.default_rng(0).normal(size=(500, 8))
    assert 0.6 < (shop.style[1:] @ taste.T).std(axis=0).mean() < 1.3
    assert shop.category_share.sum() == pytest.approx(1)
    assert shop.category[1:].max() == 11


def test_the_title_tells_the_style_and_the_allure(shop: KnownShop) -> None:
    text = shop.catalogue.frame["text"]
    words = sorted({word for title in text for word in title.replace(",", "").split()})
    bag = np.array([[f" {word} " in f" {title.replace(',', '')} " for word in words] for title in text], dtype=float)
    train = np.arange(len(bag)) % 2 == 0
    for hidden in (shop.style[1:], shop.allure[1:, None]):
        gram = bag[train].T @ bag[train] + 1.0 * np.eye(len(words))
        guess = bag[~train] @ np.linalg.solve(gram, bag[train].T @ hidden[train])
        unexplained = ((hidden[~train] - guess) ** 2).sum() / ((hidden[~train] - hidden[train].mean(0)) ** 2).sum()
        assert unexplained < 0.45


def test_the_shop_is_saved_as_its_settings_and_made_again(tmp_path: Path) -> None:
    shop = KnownShop.make(replace(KnownShopConfig.small(seed=8), satiation=0.25))
    shop.save(tmp_path)
    back = KnownShop.load(tmp_path)
    assert back.config == shop.config
    pd.testing.assert_frame_equal(back.catalogue.frame, shop.catalogue.frame)
    np.testing.assert_array_equal(back.popularity, shop.popularity)


def test_a_shop_of_other_items_or_settings_is_refused(tmp_path: Path) -> None:
    KnownShop.make(KnownShopConfig.small()).save(tmp_path)
    path = tmp_path / FILE_NAME
    saved = json.loads(path.read_text())
    path.write_text(json.dumps({**saved, "catalogue": "0" * 16}))
    with pytest.raises(ArtefactError, match="other items"):
        KnownShop.load(tmp_path)
    path.write_text(json.dumps({**saved, "config": {**saved["config"], "boredom": 1}}))
    with pytest.raises(ArtefactError, match="'boredom'"):
        KnownShop.load(tmp_path)
    path.write_text("{")
    with pytest.raises(ArtefactError, match="not a readable"):
        KnownShop.load(tmp_path)
    with pytest.raises(ArtefactError, match="not a readable"):
        KnownShop.load(tmp_path / "nowhere")


def test_a_shop_saved_before_there_were_seasons_is_read_as_one_without(tmp_path: Path) -> None:
    KnownShop.make(KnownShopConfig.small(seed=2)).save(tmp_path)
    path = tmp_path / FILE_NAME
    saved = json.loads(path.read_text())
    later = ("complements", "seasonality", "turnover", "shelf_days", "come_back", "come_back_after", "delight", "owned")
    for name in later:
        del saved["config"][name]
    path.write_text(json.dumps(saved))
    assert KnownShop.load(tmp_path).config == KnownShopConfig.small(seed=2)


@pytest.mark.parametrize("preset", ["tiny", "small", "demo", "realistic", "large"])
def test_presets_make_shops_of_their_size_within_seconds(preset: str) -> None:
    begun = time.process_time()
    shop = KnownShop.make(getattr(KnownShopConfig, preset)(seed=5))
    assert time.process_time() - begun < 10
    sizes = {"tiny": 8, "small": 200, "demo": 1_000, "realistic": 1_000, "large": 50_000}
    assert shop.n_items == len(shop.catalogue) == sizes[preset]
    assert shop.catalogue.frame["text"].is_unique


def test_each_category_has_two_that_go_with_it_and_not_itself(shop: KnownShop) -> None:
    assert not shop.companions.diagonal().any()
    np.testing.assert_array_equal(np.sort(shop.companions, axis=1)[:, -3:], [[0.0, 0.5, 1.0]] * 12)
    one, two = (KnownShop.make(KnownShopConfig(n_categories=n)).companions for n in (1, 2))
    assert one.tolist() == [[0.0]]
    assert two.tolist() == [[0.0, 1.0], [1.0, 0.0]]


def test_items_that_come_and_go_at_a_low_turnover_do_so_at_a_higher_one() -> None:
    low, high = (KnownShop.make(replace(KnownShopConfig.small(), turnover=share)) for share in (0.1, 0.4))
    assert 5 < (low.shelf_period > 0).sum() < (high.shelf_period > 0).sum() < 110
    moving = low.shelf_period > 0
    np.testing.assert_array_equal(low.shelf_period[moving], high.shelf_period[moving])


def test_the_catalogue_survives_saving_and_loading(tmp_path: Path, shop: KnownShop) -> None:
    shop.catalogue.save(tmp_path / "catalogue.parquet")
    back = Catalogue.load(tmp_path / "catalogue.parquet")
    np.testing.assert_array_equal(back.prices, shop.catalogue.prices)
    assert back.texts() == shop.catalogue.texts()
    assert back.texts()[0].endswith(f"{shop.catalogue.frame['category'][0]}. {shop.catalogue.frame['brand'][0]}")


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("n_items", 1),
        ("n_categories", 0),
        ("n_categories", 13),
        ("n_brands", 41),
        ("style_width", 0),
        ("position_decay", 1.0),
        ("position_decay", -0.1),
        ("outside_option", -1.0),
        ("satiation", -0.1),
        ("satiation_kept", 1.1),
        ("patience", -1),
        ("leave", 1.5),
        ("cart_rate", 1.0),
        ("allure", float("nan")),
        ("complements", -0.5),
        ("seasonality", -1.0),
        ("turnover", 1.5),
        ("shelf_days", 0.0),
        ("come_back", 1.0),
        ("come_back_after", 0.0),
        ("delight", -1.0),
        ("owned", -2.0),
    ],
)
def test_a_setting_out_of_range_is_named_with_its_value(setting: str, value: Any) -> None:
    with pytest.raises(ValueError, match=f"{setting} must be .* got {value}"):
        KnownShopConfig(**{setting: value})


def test_more_items_than_titles_are_refused() -> None:
    with pytest.raises(ValueError, match="lower n_items"):
        KnownShop.make(KnownShopConfig(n_items=20_000, n_categories=1, n_brands=1))


def test_every_setting_is_documented() -> None:
    source = inspect.getsource(known_shop_config)
    for one in fields(KnownShopConfig):
        after = source.split(f"    {one.name}: ", 1)[1].split("\n", 2)[1]
        assert after.strip().startswith('"""'), one.name


def test_the_shop_needs_no_torch() -> None:
    code = "import sys, slatewise.datasets.known_shop; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
