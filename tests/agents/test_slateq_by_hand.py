"""SlateQ's targets and losses on a shop of four items, worked out by hand."""

from typing import Any

import numpy as np
import pytest
import torch
from gymnasium import spaces
from torch import Tensor

from slatewise.agents import DQNConfig, SlateDQN
from slatewise.agents.scorers import SlateQScorer
from slatewise.agents.transitions import SlateSamples

UTILITY = torch.log(torch.tensor([0.0, 1.0, 2.0, 4.0, 1.0]))  # attractions of items 1 to 4
GAIN = torch.tensor([0.0, 6.0, 1.0, 0.5, 5.0])


class Fixed(torch.nn.Module):
    """A `PairScorer` whose scores are a table, one weight an item, in every state."""

    def __init__(self, table: Tensor) -> None:
        super().__init__()
        self.table = torch.nn.Parameter(table.clone())

    def forward(self, state: Tensor, table: Tensor) -> Tensor:
        return self.table.expand(len(state), len(table))

    def at(self, state: Tensor, table: Tensor, items: Tensor) -> Tensor:
        return self.table[items]


def fix(scorer: SlateQScorer, gain: Tensor, null: float = 2.0) -> None:
    scorer.choice, scorer.gain = Fixed(UTILITY), Fixed(gain)  # type: ignore[assignment]
    with torch.no_grad():
        scorer.outside.last.bias.fill_(0.0)  # as attractive as item 1
        scorer.null.last.bias.fill_(null)
        scorer.drops.fill_(np.log(np.exp(np.log(2)) - 1))  # the second slot weighs half


@pytest.fixture
def agent(taste_shop: Any) -> SlateDQN:
    env = taste_shop(n_items=4, k=2, dim=8)
    made = DQNConfig(hidden=4).build(env, item_vectors=env.item_vectors)
    fix(made.scorer, GAIN)
    fix(made.policy.target, GAIN)
    made.scorer.unit.fill_(1.0)
    return made


def transition(**changes: Any) -> SlateSamples:
    one = torch.ones(1)
    states = torch.zeros(1, 8)
    batch = SlateSamples(
        states, torch.tensor([[1, 2]]), torch.tensor([0]), states, 0.5 * one, 3 * one, one, one, None, np.zeros(1, int)
    )
    return batch._replace(**changes)


def test_the_target_is_the_reward_and_the_discounted_value_of_the_best_slate(agent: SlateDQN) -> None:
    # Items 1 and 4, in this order: (1 * 6 + 0.5 * 1 * 5) / (1 + 1 + 0.5) = 3.4 over the 2 of no click. Items 3 and 2
    # are shoppers' favourites, and would earn (4 * 0.5 + 1 * 1) / 6 = 0.5.
    assert agent._targets(transition()).item() == pytest.approx(3 + 0.5 * (2 + 3.4))


def test_sarsa_values_the_slate_that_was_shown_and_the_best_one_where_none_was(agent: SlateDQN) -> None:
    agent.target = "shown"
    assert agent._targets(transition(next_slates=torch.tensor([[3, 2]]))).item() == pytest.approx(3 + 0.5 * (2 + 0.5))
    # An empty slot draws no clicks: item 3 alone earns 4 * 0.5 / 5.
    assert agent._targets(transition(next_slates=torch.tensor([[3, 0]]))).item() == pytest.approx(3 + 0.5 * (2 + 0.4))
    assert agent._targets(transition(next_slates=torch.tensor([[0, 0]]))).item() == pytest.approx(3 + 0.5 * (2 + 3.4))


def test_after_a_true_end_only_rewards_count(agent: SlateDQN) -> None:
    assert agent._targets(transition(discounts=torch.zeros(1))).item() == 3


def test_nothing_clicked_is_worth_something_too(agent: SlateDQN) -> None:
    """A SlateQ that takes Q(nothing) for 0 would bootstrap on 3.4 alone, and learn nothing from slates left alone."""
    fix(agent.policy.target, GAIN, null=-7.0)
    assert agent._targets(transition()).item() == pytest.approx(3 + 0.5 * (-7 + 3.4))
    _, loss, value = agent._losses(transition(clicked=torch.tensor([-1])), torch.tensor([9.0]))
    assert value.item() == 2  # Q(s, 0) of the network that learns
    loss.backward()
    bias = agent.scorer.null.last.bias.grad
    assert bias is not None
    assert bias.item() == -1  # a Huber loss far off pulls at its full rate
    assert (agent.scorer.gain.table.grad == 0).all()  # type: ignore[union-attr]


def test_a_squared_loss_pulls_as_hard_as_a_value_is_far_off(agent: SlateDQN) -> None:
    agent.huber = 1_000.0
    _, loss, _ = agent._losses(transition(clicked=torch.tensor([-1])), torch.tensor([9.0]))
    loss.backward()
    bias = agent.scorer.null.last.bias.grad
    assert bias is not None
    assert bias.item() == 2 - 9


def test_the_clicked_item_alone_learns_what_came_of_it(agent: SlateDQN) -> None:
    _, loss, value = agent._losses(transition(clicked=torch.tensor([1])), torch.tensor([9.0]))
    assert value.item() == pytest.approx(2 + 1)  # Q(s, 0) and the gain of item 2
    loss.backward()
    assert agent.scorer.gain.table.grad.tolist() == [0, 0, -1, 0, 0]  # type: ignore[union-attr]


def test_the_next_slate_is_picked_by_one_network_and_valued_by_the_other(agent: SlateDQN) -> None:
    other = torch.tensor([0.0, 0.0, 0.0, 0.0, 9.0])  # wants item 4, and anything beside it
    fix(agent.policy.target, other)
    # Online picks 1, 4; of these the target says: 0.5 * 9 / 2.5 = 1.8.
    assert agent._targets(transition()).item() == pytest.approx(3 + 0.5 * (2 + 1.8))
    agent.double = False  # the target picks for itself: 4 first, then 1 or 2 or 3, the least attractive: 9 / 2.5
    assert agent._targets(transition()).item() == pytest.approx(3 + 0.5 * (2 + 3.6))


def test_the_choice_model_learns_from_chances_where_they_are_told(agent: SlateDQN) -> None:
    chances = torch.tensor([[0.5, 0.25, 0.25]])
    loss, _, _ = agent._losses(transition(chances=chances), torch.zeros(1))
    # Slate 1, 2: nothing 1, item 1 with 1, item 2 with 2 * 0.5: a third each.
    assert loss.item() == pytest.approx(np.log(3))
    loss.backward()
    drop = agent.scorer.outside.last.bias.grad
    assert drop is not None
    assert drop.item() == pytest.approx(1 / 3 - 0.5)


def test_what_is_shown_counts_whatever_is_clicked(taste_shop: Any) -> None:
    env = taste_shop(n_items=4, k=2, dim=8)
    agent = DQNConfig(hidden=4, shown_value=True).build(env, item_vectors=env.item_vectors)
    shown = torch.tensor([9.0, -4.0, 0.5, 0.25, 0.0])  # the padding's counts for nothing
    for one in (agent.scorer, agent.policy.target):
        fix(one, GAIN)
        one.shown = Fixed(shown)  # type: ignore[assignment]
        one.unit.fill_(1.0)
    # Item 1 costs 4 wherever it is shown. Of the others 4 and 2: (1 * 5 + 0.5 * 2 * 1) / (1 + 1 + 1) + 0.5 = 2.5.
    assert agent._targets(transition()).item() == pytest.approx(3 + 0.5 * (2 + 2.5))
    agent.target = "shown"  # item 3 alone: 4 * 0.5 / 5 + 0.25
    assert agent._targets(transition(next_slates=torch.tensor([[3, 0]]))).item() == pytest.approx(3 + 0.5 * (2 + 0.65))
    _, loss, value = agent._losses(transition(clicked=torch.tensor([1])), torch.tensor([9.0]))
    assert value.item() == pytest.approx(2 + 1 - 4 + 0.5)  # Q(s, 0), the gain of item 2, and both that were shown
    loss.backward()
    assert agent.scorer.shown.table.grad.tolist() == [0, -1, -1, 0, 0]  # type: ignore[union-attr]


@pytest.mark.parametrize("shown_value", [False, True])
def test_losses_have_the_slopes_that_small_steps_show(taste_shop: Any, shown_value: bool) -> None:
    env = taste_shop(n_items=12, k=3)
    agent = DQNConfig(hidden=4, shown_value=shown_value).build(env, item_vectors=env.item_vectors, seed=1)
    rng = np.random.default_rng(0)
    agent.policy.double()
    with torch.no_grad():
        for weight in agent.scorer.parameters():
            weight.add_(0.3 * torch.from_numpy(rng.normal(size=weight.shape)))
    slates = torch.from_numpy(np.stack([rng.permutation(np.arange(1, 13))[:3] for _ in range(9)]))
    states, ones = torch.from_numpy(rng.normal(size=(9, 8)) / 3), torch.ones(9, dtype=torch.float64)
    clicked = torch.from_numpy(rng.integers(-1, 3, 9))
    weights = torch.from_numpy(rng.uniform(0.2, 1, 9))
    batch = SlateSamples(states, slates, clicked, states, ones, ones, weights, weights, None, np.arange(9))
    wanted = torch.from_numpy(rng.normal(size=9))

    def loss() -> Tensor:
        choice, value, _ = agent._losses(batch, wanted)
        return choice + value

    loss().backward()
    for weight in agent.scorer.parameters():
        assert weight.grad is not None
        at = tuple(int(rng.integers(size)) for size in weight.shape)
        with torch.no_grad():
            held, found = weight[at].item(), []
            for step in (1e-6, -1e-6):
                weight[at] = held + step
                found.append(loss().item())
            weight[at] = held
        assert (found[0] - found[1]) / 2e-6 == pytest.approx(weight.grad[at].item(), abs=1e-7)


def test_what_a_config_cannot_mean_is_refused(taste_shop: Any) -> None:
    env = taste_shop()
    with pytest.raises(ValueError, match="click_model"):
        DQNConfig(choice="shopper").build(env, item_vectors=env.item_vectors)
    with pytest.raises(ValueError, match="choice"):
        DQNConfig(choice="guessed")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="target"):
        DQNConfig(target="next")  # type: ignore[arg-type]
    assert isinstance(env.action_space, spaces.MultiDiscrete)
