"""Numbers that belong to a shopper: uniform, independent of each other, and the same in any batch."""

import numpy as np
import pytest
import torch
from scipy import stats

from slatewise.simulators.randomness import _uniform_anywhere, gumbel, mix, normal, uniform

SEEDS = torch.arange(4_000)


def test_the_finaliser_gives_the_published_splitmix64_sequence() -> None:
    # First outputs of SplitMix64 seeded with 0: the mixed multiples of the golden gamma.
    golden = torch.tensor([-7046029254386353131])
    given = mix(golden * torch.arange(1, 4))
    expected = np.array([0xE220A8397B1DCDAF, 0x6E789E6AA1B965F4, 0x06C45D188009454F], dtype=np.uint64)
    assert np.array_equal(given.numpy().view(np.uint64), expected)


@pytest.mark.parametrize(
    "seeds",
    [SEEDS, SEEDS + 2**40, -SEEDS, SEEDS * 2**32, SEEDS * 1_000_003],
    ids=["small", "high", "negative", "wide", "far"],
)
def test_numbers_of_neighbouring_seeds_are_uniform(seeds: torch.Tensor) -> None:
    drawn = uniform(seeds, 0, 3, 5).double().numpy()
    assert drawn.min() > 0
    assert drawn.max() < 1
    assert stats.kstest(drawn.ravel(), "uniform").pvalue > 1e-3
    for column in drawn.T:
        assert stats.kstest(column, "uniform").pvalue > 1e-4


def test_numbers_along_steps_and_along_places_are_uniform() -> None:
    one = torch.full((4_000,), 123)
    assert stats.kstest(uniform(one, torch.arange(4_000), 1, 1).numpy().ravel(), "uniform").pvalue > 1e-3
    assert stats.kstest(uniform(one[:1], 0, 1, 4_000).numpy().ravel(), "uniform").pvalue > 1e-3


def test_seeds_steps_streams_and_places_are_uncorrelated() -> None:
    seeds = SEEDS
    columns = [
        uniform(seeds, 0, 1, 3),
        uniform(seeds, 1, 1, 1),
        uniform(seeds, 0, 2, 1),
        uniform(seeds + 1, 0, 1, 1),
        uniform(seeds + 1, 0, 0, 1),  # a seed up and a stream down
        uniform(seeds, 2**31 - 1, 1, 1),
        uniform(seeds * 2, 0, 1, 1),
    ]
    drawn = torch.cat(columns, 1).double().numpy()
    bar = 4.5 / np.sqrt(len(seeds))
    for values in (drawn, np.abs(drawn - 0.5), drawn > 0.5):
        correlation = np.corrcoef(values.T) - np.eye(drawn.shape[1])
        assert np.abs(correlation).max() < bar
    lagged = uniform(seeds, 0, 1, 1).double().numpy().ravel()
    for lag in (1, 2, 3, 64):
        assert abs(np.corrcoef(lagged[:-lag], lagged[lag:])[0, 1]) < bar


def test_pairs_fill_the_square_evenly() -> None:
    seeds = torch.arange(40_000)
    cells = (uniform(seeds, 0, 1, 2) * 16).long()
    counts = torch.bincount(cells[:, 0] * 16 + cells[:, 1], minlength=256).numpy()
    assert stats.chisquare(counts).pvalue > 1e-4


def test_a_batch_gives_each_shopper_what_it_gets_alone() -> None:
    seeds, steps = torch.tensor([5, -3, 2**62]), torch.tensor([0, 7, 2])
    together = uniform(seeds, steps, 4, 6)
    for row in range(3):
        alone = uniform(seeds[row : row + 1], steps[row : row + 1], 4, 6)
        assert torch.equal(together[row : row + 1], alone)
        assert torch.equal(uniform(seeds[row : row + 1], int(steps[row]), 4, 2), alone[:, :2])


def test_one_shopper_alone_is_given_the_numbers_of_a_batch_however_many() -> None:
    for seed in (0, 1, -1, 2**62 + 7, -(2**63), 2**63 - 1):
        alone = torch.tensor([seed])
        for step in (0, 1, 2**31):
            for n in (1, 16, 32, 33, 300):
                assert torch.equal(uniform(alone, step, 5, n), _uniform_anywhere(alone, step, 5, n))
                assert torch.equal(uniform(alone, torch.tensor([step]), 5, n), _uniform_anywhere(alone, step, 5, n))


@pytest.mark.parametrize("step", [0, 1, 2, 50, 10**6])
def test_a_step_may_be_a_number_or_a_tensor(step: int) -> None:
    assert torch.equal(uniform(SEEDS[:9], step, 0, 2), uniform(SEEDS[:9], torch.full((9,), step), 0, 2))


@pytest.mark.parametrize("step", [0, 7, 2**31, torch.arange(4_000) * 77_777])
@pytest.mark.parametrize("n", [1, 17, 300])
def test_the_cpu_draws_what_every_other_device_draws(step: torch.Tensor | int, n: int) -> None:
    for seeds in (SEEDS, -SEEDS * 2**40, (2**62 + SEEDS)[::2].repeat_interleave(2)):
        assert torch.equal(uniform(seeds, step, 5, n), _uniform_anywhere(seeds, step, 5, n))


def test_normal_and_gumbel_numbers_have_their_distributions() -> None:
    assert stats.kstest(normal(SEEDS, 0, 1, 4).double().numpy().ravel(), "norm").pvalue > 1e-3
    assert stats.kstest(gumbel(SEEDS, 0, 1, 4).double().numpy().ravel(), "gumbel_r").pvalue > 1e-3


def test_the_largest_of_noisy_logits_is_a_draw_from_their_softmax() -> None:
    logits = torch.tensor([0.0, 1.0, -1.0, 2.0])
    seeds = torch.arange(60_000)
    counts = torch.bincount((logits + gumbel(seeds, 3, 9, 4)).argmax(1)).numpy()
    assert stats.chisquare(counts, 60_000 * logits.double().softmax(0).numpy()).pvalue > 1e-4
