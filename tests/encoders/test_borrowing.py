import numpy as np
import torch

from slatewise.datasets.schema import Event
from slatewise.datasets.tokens import Tokens
from slatewise.encoders.borrowing import Borrowing
from slatewise.encoders.settings import ShopSessionConfig
from slatewise.encoders.tower import ItemTower


def _tokens(*sessions: list[int]) -> Tokens:
    items = np.concatenate([np.array(session, np.int64) for session in sessions])
    offsets = np.cumsum([0, *(len(session) for session in sessions)]).astype(np.int64)
    return Tokens(items, np.full(len(items), int(Event.VIEW), np.int64), np.zeros(len(items), np.float32), offsets)


def test_an_item_takes_up_a_share_of_what_its_neighbours_have_learned():
    graph = Borrowing(torch.tensor([[0, 0], [2, 3], [1, 0]]), torch.tensor([[0.0, 0.0], [0.75, 0.25], [1.0, 0.0]]), 0.5)
    table = torch.tensor([[0.0, 0.0], [1.0, 0.0], [4.0, 8.0], [0.0, 4.0]])
    # 1: (1, 0) + 0.5 * (0.75 * (4, 8) + 0.25 * (0, 4)); 2: (4, 8) + 0.5 * (1, 0); padding stays zero
    torch.testing.assert_close(
        graph(torch.tensor([1, 2, 0]), table), torch.tensor([[2.5, 3.5], [4.5, 8.0], [0.0, 0.0]])
    )


def test_neighbours_are_the_items_that_share_sessions_and_their_weights_sum_to_one():
    graph = Borrowing.among(_tokens([1, 2], [1, 2], [1, 2], [1, 3], [4]), n_items=5, k=2, share=0.5)
    assert graph.neighbours[1].tolist() == [2, 3]
    assert graph.weights[1, 0] > graph.weights[1, 1] > 0
    torch.testing.assert_close(graph.weights.sum(1), torch.tensor([0.0, 1.0, 1.0, 1.0, 0.0, 0.0]))


def test_only_so_many_neighbours_are_kept_as_asked_for():
    graph = Borrowing.among(_tokens([1, 2, 3, 4, 5], [1, 2]), n_items=5, k=1, share=0.5)
    assert graph.neighbours.shape == (6, 1)
    assert graph.neighbours[1].tolist() == [2]


def test_what_an_item_lends_learns_from_those_that_borrow():
    graph = Borrowing(torch.tensor([[0], [2], [0]]), torch.tensor([[0.0], [1.0], [0.0]]), 0.5)
    table = torch.zeros(3, 2, requires_grad=True)
    graph(torch.tensor([1]), table).sum().backward()
    assert table.grad is not None
    torch.testing.assert_close(table.grad, torch.tensor([[0.0, 0.0], [1.0, 1.0], [0.5, 0.5]]))


def test_what_items_borrowed_becomes_their_own_when_training_is_over():
    config = ShopSessionConfig(n_items=3, text_dim=0, width=4)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        tower = ItemTower(config)
    tower.item_seen[1:3] = 1
    tower.borrowing = Borrowing.among(_tokens([1, 2], [1, 2]), n_items=3, k=2, share=0.5)
    items = torch.arange(4)
    assert tower.ids is not None
    before = tower.eval()(items)
    assert not torch.allclose(before[1], tower.ids(items)[1])
    tower.settle()
    assert tower.borrowing is None
    torch.testing.assert_close(tower(items), before)
    assert set(tower.state_dict()) == set(ItemTower(config).state_dict())
