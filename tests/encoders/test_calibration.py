import numpy as np
import pytest
import torch

from slatewise.datasets.schema import Event
from slatewise.datasets.tokens import Tokens
from slatewise.encoders import MeanEncoder
from slatewise.encoders.calibration import SPANS, Calibration, Returns, asked_of, popularity

VIEW, SEEN, BUY = int(Event.VIEW), int(Event.IMPRESSION), int(Event.PURCHASE)


def test_an_item_is_found_where_it_was_chosen_last() -> None:
    items = torch.tensor([[3, 5, 3, 4, 0], [7, 7, 0, 0, 0]])
    events = torch.tensor([[VIEW, BUY, VIEW, SEEN, 0], [SEEN, SEEN, 0, 0, 0]])
    found = Returns.of(items, events)
    assert found.items.tolist() == [[0, 5, 3, 0, 0], [0, 0, 0, 0, 0]]  # ignored slates are no choices
    assert found.back[0, 1:3].tolist() == [1, 0]
    assert found.often[0, 1:3].tolist() == [1, 2]
    assert found.many[0].tolist() == [2] * 5
    assert found.event[0, 1] == BUY


def test_old_choices_are_of_few_kinds() -> None:
    items = torch.arange(1, 31)[None]
    back = Returns.of(items, torch.full_like(items, VIEW)).back[0].flip(0)
    assert back[:9].tolist() == [0, 1, 2, 3, 4, 5, 5, 6, 6]
    assert back.diff().min() >= 0
    assert back.max() == back[15] == len(Calibration(1).back) - 1


def test_unfitted_it_changes_nothing() -> None:
    calibration, logits = Calibration(6), torch.randn(2, 7)
    logits[:, 0] = -torch.inf
    returns = Returns.of(torch.tensor([[1, 2], [3, 0]]), torch.full((2, 2), VIEW))
    assert torch.equal(calibration(logits), logits)
    assert torch.equal(calibration(logits, returns), logits)


def shoppers(m: int) -> tuple[torch.Tensor, Returns, torch.Tensor, torch.Tensor]:
    """Who choose by twice too sure logits, by popularity, and come back to the item before the last."""
    generator, n = torch.Generator().manual_seed(0), 12
    logits = 4 * torch.randn(m, n + 1, generator=generator)
    logits[:, 0] = -torch.inf
    items = torch.rand(m, n, generator=generator).argsort(1)[:, :3] + 1  # three different ones
    returns = Returns.of(items, torch.full_like(items, VIEW))
    lately = torch.zeros(n + 1, len(SPANS) + 1)
    lately[1:, -2] = torch.randn(n, generator=generator)
    truth = 0.5 * logits + 0.8 * lately[:, -2]
    truth.scatter_add_(1, items, torch.tensor([0.0, 1.5, -1.0]).expand(m, -1))  # the latest stands last
    return logits, returns, torch.multinomial(truth.softmax(1), 1, generator=generator)[:, 0], lately


def test_it_finds_out_how_shoppers_come_back_and_how_sure_to_be() -> None:
    logits, returns, targets, lately = shoppers(20_000)
    calibration = Calibration(logits.shape[1] - 1)
    calibration.fit(lambda part: logits[part], returns, targets, lately)
    assert calibration.sharpness.item() == pytest.approx(0.5, abs=0.03)
    assert calibration.trend[-1].item() == pytest.approx(0.8, abs=0.06)
    assert abs(calibration.nearness.item()) < 0.03
    gain = calibration.back + calibration.event[VIEW] + calibration.many * np.log(3)
    assert gain[:3].tolist() == pytest.approx([-1.0, 1.5, 0.0], abs=0.12)
    before = torch.nn.functional.cross_entropy(logits, targets)
    after = torch.nn.functional.cross_entropy(calibration(logits, returns), targets)
    assert after < before - 0.3
    calibration.follow(torch.zeros_like(lately))
    assert not calibration.items.any()


def test_an_item_never_learnt_from_gains_what_makes_it_as_likely_as_it_is() -> None:
    generator, n, m = torch.Generator().manual_seed(0), 8, 20_000
    logits = torch.randn(m, n + 1, generator=generator)
    logits[:, 0] = -torch.inf
    fresh = torch.zeros(n + 1, len(SPANS) + 1)
    fresh[[0, 2, 5], -1] = 1
    targets = torch.multinomial((logits + 0.7 * fresh[:, -1]).softmax(1), 1, generator=generator)[:, 0]
    returns = Returns.of(torch.zeros(m, 1, dtype=torch.int64), torch.zeros(m, 1, dtype=torch.int64))
    calibration = Calibration(n)
    calibration.trend += 0.3
    calibration.fit(lambda part: logits[part], returns, targets, fresh, names=["fresh"])
    assert calibration.fresh.item() == pytest.approx(0.7, abs=0.05)
    assert calibration.sharpness == 1  # what is not sought stays
    assert calibration.trend[0] == pytest.approx(0.3)
    assert calibration.items[[0, 2, 5]].tolist() == [calibration.fresh.item()] * 3
    assert not calibration.items[1]


def test_few_predictions_move_it_little() -> None:
    logits, returns, targets, lately = shoppers(3)
    calibration = Calibration(logits.shape[1] - 1)
    calibration.fit(lambda part: logits[part], returns, targets, lately)
    assert 0.2 < calibration.sharpness.item() < 1.2
    assert max(value.abs().max().item() for value in (calibration.back, calibration.often, calibration.many)) < 2


def sessions() -> Tokens:
    items = np.array([1, 1, 2, 3, 1, 2, 2, 4])
    events = np.array([VIEW, VIEW, VIEW, SEEN, VIEW, VIEW, VIEW, VIEW], np.int64)
    return Tokens(items, events, np.zeros(8, np.float32), np.array([0, 3, 5, 6, 8]))


def test_popularity_is_counted_over_spans_and_unknown_items_are_like_the_rest() -> None:
    found = popularity(sessions(), 5).numpy()
    assert found.shape == (6, len(SPANS) + 1)
    counts = np.log1p([3, 3, 1])  # items 1, 2 and 4; 3 was only shown, 5 not even that
    assert found[[1, 2, 4], 0] == pytest.approx(counts - counts.mean())
    latest = np.log1p([0, 1, 1])  # the last session alone
    assert found[[1, 2, 4], -2] == pytest.approx(latest - latest.mean())
    assert not found[[0, 3, 5], :-1].any()
    assert found[:, -1].tolist() == [1, 0, 0, 1, 0, 1]


def test_predictions_to_fit_by_are_choices_of_known_items_after_a_first_token() -> None:
    known = np.array([0, 9, 9, 9, 0, 0])
    session, place = asked_of(sessions(), known, 100)
    assert list(zip(session.tolist(), place.tolist(), strict=True)) == [(0, 1), (0, 2), (1, 1)]
    assert len(asked_of(sessions(), known, 2)[0]) == 2
    assert not len(asked_of(sessions(), np.zeros(6, np.int64), 2)[0])


def test_the_plain_encoder_scores_by_nearness_whatever_the_history() -> None:
    encoder = MeanEncoder(torch.randn(5, 3, generator=torch.Generator().manual_seed(0)))
    states = encoder.item_vectors[[2, 4]]
    scores = encoder.scores(states, items=torch.tensor([[2], [4]]), events=torch.full((2, 1), VIEW))
    assert scores[:, 1:].argmax(1).tolist() == [1, 3]
    assert scores[:, 0].tolist() == [-np.inf] * 2
