import numpy as np
import pytest
import torch

from slatewise.datasets.log import ShopLog
from slatewise.datasets.tokens import History
from slatewise.encoders.mean import MeanEncoder
from slatewise.errors import UnknownItemError
from slatewise.serving.history import ShopperEvent
from slatewise.serving.runtime import Filters, Runtime

from .conftest import N_ITEMS, K, NearState

LOOKED = [ShopperEvent("item-9", "view", 0.0), ShopperEvent("item-10", "cart", 5.0)]


def test_scores_are_those_of_torch_and_what_may_not_be_shown_has_none(
    runtime: Runtime, encoder: MeanEncoder, scorer: NearState, log: ShopLog
) -> None:
    history = log.tokens.histories(np.arange(10), last=20)
    parts = (history.items, history.events, history.gaps, history.lengths)
    trained = scorer(encoder.encode(*(torch.from_numpy(part) for part in parts))).numpy()
    scores = runtime.scores(history)
    shown = np.delete(np.arange(N_ITEMS + 1), [0, 3])
    np.testing.assert_allclose(scores[:, shown], trained[:, shown], atol=1e-5)
    assert np.isneginf(scores[:, [0, 3]]).all()


def test_the_best_slate_has_the_best_scores_and_propensity_one(runtime: Runtime) -> None:
    slate = runtime.recommend(LOOKED)
    scores = runtime.scores(runtime.history(LOOKED).history)[0]
    assert [place.item for place in slate] == np.argsort(-scores, kind="stable")[:K].tolist()
    assert [place.propensity for place in slate] == [1.0] * K
    assert (slate.asked, slate.notice) == (K, None)
    assert len(runtime.recommend(LOOKED, 7)) == 7


def test_reasons_name_the_item_of_the_visit_that_is_nearest(runtime: Runtime) -> None:
    vectors = runtime.bundle.item_vectors
    for place in runtime.recommend(LOOKED):
        alike = {f"item-{i}": float(vectors[place.item] @ vectors[i]) for i in (9, 10)}
        if place.item in (9, 10):
            assert place.reason == "looked at before"
        elif max(alike.values()) > 0:
            nearest = max(alike, key=lambda item: alike[item])
            assert place.because_of == nearest
            assert place.reason == f"like Thing number {nearest.removeprefix('item-')}"
        else:
            assert place.reason == "fits this visit as a whole"


def test_newcomers_and_those_who_ignored_all_are_told_so(runtime: Runtime) -> None:
    assert {place.reason for place in runtime.recommend([])} == {"a first pick for a new shopper"}
    ignored = [ShopperEvent("item-9", "impression", 0.0, "s", 0)]
    assert {place.reason for place in runtime.recommend(ignored)} == {"fits this visit as a whole"}


def test_exclusions_and_filters_hold(runtime: Runtime) -> None:
    best = [place.item_id for place in runtime.recommend(LOOKED)]
    assert best[0] not in [place.item_id for place in runtime.recommend(LOOKED, exclude=best[:1])]
    filters = Filters(categories=("even",), brands=("brand-2", "brand-0"), min_price=20, max_price=60)
    slate = runtime.recommend(LOOKED, 40, filters=filters)
    assert sorted(place.item for place in slate) == [i for i in range(10, 31) if i % 2 == 0]
    assert slate.notice is not None
    assert slate.notice.startswith("11 of 40 places filled")
    assert len(runtime.recommend(LOOKED, filters=Filters(categories=("nothing",)))) == 0


def test_an_item_without_a_price_passes_no_bound(runtime: Runtime) -> None:
    assert 7 not in runtime.recommend([], 40, filters=Filters(min_price=0)).items
    assert 7 in runtime.recommend([], 40).items
    assert runtime.items[7].price is None


def test_exploring_repeats_with_its_seed_and_tells_the_chances(runtime: Runtime) -> None:
    one, two = (runtime.recommend(LOOKED, explore=1.0, rng=np.random.default_rng(4)) for _ in range(2))
    assert one == two
    scores = runtime.scores(runtime.history(LOOKED).history)[0].astype(float)
    for number, place in enumerate(one):
        left = np.delete(scores, [0, 3, *(above.item for above in one.places[:number])])
        assert place.propensity == pytest.approx(np.exp(place.score) / np.exp(left).sum(), rel=1e-6)
    best = set(runtime.recommend(LOOKED).items.tolist())
    assert all(place.reason.startswith("tried out") == (place.item not in best) for place in one)


def test_propensities_are_those_of_what_filters_leave(runtime: Runtime) -> None:
    filters = Filters(max_price=10)  # items 1, 2, 4, 5; 3 is not available
    slate = runtime.recommend([], explore=1.0, rng=np.random.default_rng(0), filters=filters)
    assert sorted(slate.items) == [1, 2, 4, 5]
    assert slate.places[-1].propensity == 1.0


def test_unknown_ids_are_passed_over_or_refused(runtime: Runtime) -> None:
    events = [*LOOKED, ShopperEvent("nowhere", "view", 6.0)]
    assert runtime.recommend(events).items.tolist() == runtime.recommend(LOOKED).items.tolist()
    with pytest.raises(UnknownItemError, match="nowhere"):
        runtime.recommend(events, strict=True)
    assert len(runtime.recommend(LOOKED, exclude=["nowhere"])) == K
    with pytest.raises(UnknownItemError, match="nowhere"):
        runtime.recommend(LOOKED, exclude=["nowhere"], strict=True)


@pytest.mark.parametrize(("k", "explore"), [(0, 0.0), (3, -1.0), (3, np.nan), (3, 0.5)])
def test_settings_out_of_range_are_refused(runtime: Runtime, k: int, explore: float) -> None:
    with pytest.raises(ValueError, match=r"need k|explore must be|pass rng"):
        runtime.recommend(History.empty(1), k, explore=explore)
