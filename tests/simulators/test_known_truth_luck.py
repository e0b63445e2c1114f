"""The luck of known-truth shoppers: of one alone as in a batch, on every slate, whoever else asks."""

import torch

from slatewise.simulators.known_truth_luck import luck_of

REACH = 0.9 ** torch.arange(7)


def test_one_shopper_alone_has_the_luck_that_it_has_in_a_batch() -> None:
    seeds = torch.tensor([3, 2**45 + 1, -9])
    for step in (0, 1, 7, 8, 9, 500):
        steps = torch.full((3,), step)
        together = luck_of(seeds, steps, REACH)
        for row in range(3):
            alone = luck_of(seeds[row : row + 1], steps[row : row + 1], REACH)
            for name, mine, ours in zip(together._fields, alone, together, strict=True):
                assert torch.equal(mine, ours[row : row + 1]), name


def test_what_is_drawn_ahead_is_not_spoilt_by_those_who_use_it() -> None:
    seed, step = torch.tensor([11]), torch.tensor([2])
    first = luck_of(seed, step, REACH).dwell.clone()
    luck_of(seed, step, REACH).dwell.mul_(100.0)  # as a shopper's click does
    assert torch.equal(luck_of(seed, step, REACH).dwell, first)


def test_another_length_of_slates_is_another_luck_on_the_same_stream() -> None:
    seed, step = torch.tensor([11]), torch.tensor([2])
    short, long = luck_of(seed, step, REACH[:3]), luck_of(seed, step, REACH)
    assert short.haste.shape == (1, 3)
    assert torch.equal(short.haste, long.haste[:, :3])
    assert torch.equal(short.looks, long.looks[:, :3])
