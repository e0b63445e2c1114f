"""The session encoder: stepping equals reading whole, rows are independent, and what is saved is what was there."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import AutoConfig, AutoModel

from slatewise.encoders.loading import load_encoder
from slatewise.encoders.memory import SessionMemory
from slatewise.encoders.quiet import quiet_transformers
from slatewise.encoders.session import ShopSessionConfig, ShopSessionModel
from slatewise.encoders.settings import GAP_EDGES
from slatewise.errors import ArtefactError, NotTrainedError

N, WINDOW = 40, 6
Batch = tuple[Tensor, Tensor, Tensor, Tensor]


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def made(seed: int = 0, **settings: object) -> ShopSessionModel:
    """An encoder with random weights everywhere, so that every part matters to its states."""
    rng = np.random.default_rng(seed)
    text = rng.normal(size=(N, 16)).astype(np.float32)
    prices = np.append(0, rng.gamma(2, 10, N)).astype(np.float32)
    seen = np.arange(N + 1) % 5 > 0
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        config = ShopSessionConfig(width=32, window=WINDOW, **settings)  # pyright: ignore[reportArgumentType]
        model = ShopSessionModel.for_items(config, text, prices, seen)
        with torch.no_grad():
            for weight in model.parameters():
                weight.normal_(std=0.3)
            model.get_parameter("tower.ids.weight")[0] = 0
    return model.eval()


@pytest.fixture(scope="module")
def model() -> ShopSessionModel:
    return made()


def histories(rows: int, width: int, seed: int = 1) -> Batch:
    rng = np.random.default_rng(seed)
    lengths = rng.integers(0, width + 1, rows)
    lengths[:2] = 0, width
    held = np.arange(width) < lengths[:, None]
    items = np.where(held, rng.integers(1, N + 1, (rows, width)), 0)
    events = np.where(held, rng.integers(1, 7, (rows, width)), 0)
    gaps = np.where(held, rng.gamma(0.5, 200, (rows, width)), 0).astype(np.float32)
    items, events, gaps, lengths = (torch.from_numpy(part) for part in (items, events, gaps, lengths))
    return items, events, gaps, lengths


def in_sight(memory: SessionMemory) -> tuple[Tensor, Tensor]:
    """What is read of the ring and of the items once the next token of each row is written: all but its place."""
    kept = torch.arange(WINDOW) != memory.length[:, None] % WINDOW  # (B, W)
    return memory.ring.permute(1, 2, 0, 3)[kept].view(len(kept), -1), memory.items[kept].view(len(kept), -1)


def close(a: Tensor, b: Tensor) -> bool:
    return torch.allclose(a, b, atol=1e-5, rtol=0)


def test_stepping_through_ragged_histories_three_windows_long_equals_reading_them_whole(
    model: ShopSessionModel,
) -> None:
    items, events, gaps, lengths = histories(12, 3 * WINDOW)
    memory = model.start(12)
    for t in range(items.shape[1]):
        memory = model.step(memory, items[:, t], events[:, t], gaps[:, t])
    whole = model.encode(items, events, gaps, lengths)
    assert close(memory.state, whole)
    with torch.no_grad():
        states = model(items, events, gaps, lengths).states
    assert close(states[torch.arange(12), lengths], whole)
    assert memory.length.tolist() == (lengths + 1).tolist()


def test_rows_replaced_on_the_way_begin_anew_and_leave_the_others_alone(model: ShopSessionModel) -> None:
    items, events, gaps, _ = histories(6, 20)
    items, events = items.clamp(min=1), events.clamp(min=1)
    memory = model.start(6)
    begun = torch.zeros(6, dtype=torch.int64)
    for t in range(20):
        if t in (3, 11, 12):
            rows = torch.tensor([t % 6, (t + 2) % 6])
            memory.put(rows, model.start(2))
            begun[rows] = t
        memory = model.step(memory, items[:, t], events[:, t], gaps[:, t])
    for row, first in enumerate(begun.tolist()):
        i, e, g = (part[row : row + 1, first:] for part in (items, events, gaps))
        assert close(memory.state[row : row + 1], model.encode(i, e, g, torch.tensor([20 - first])))


def test_rows_copied_out_go_on_as_those_they_came_from(model: ShopSessionModel) -> None:
    items, events, gaps, _ = histories(9, 8)
    which = torch.tensor([7, 2, 2])
    memory = model.start(9)
    for place in range(7):
        memory = model.step(memory, items[:, place], events[:, place], gaps[:, place])
    copied = memory.rows(which)
    latest = items[:, 7], events[:, 7], gaps[:, 7]
    memory = model.step(memory, *latest)
    assert close(model.step(copied, *(part[which] for part in latest)).state, memory.state[which])


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # the compiler warns about itself
def test_a_compiled_step_gives_the_same_states_over_the_windows_edge_and_for_other_sizes() -> None:
    model, compiled = made(), made().compile_step()
    items, events, gaps, _ = histories(6, 2 * WINDOW)
    for rows in (6, 4):
        plain, fast = model.start(rows), compiled.start(rows)
        for t in range(2 * WINDOW):
            token = (items[:rows, t], events[:rows, t], gaps[:rows, t])  # some are empty: their rows stay
            plain, fast = model.step(plain, *token), compiled.step(fast, *token)
        assert close(plain.state, fast.state)
        assert close(plain.ring, fast.ring)
        assert torch.equal(plain.length, fast.length)


def test_a_row_without_an_item_stays_exactly_as_it_was(model: ShopSessionModel) -> None:
    items, events, gaps, _ = histories(4, 9)
    memory, other = model.start(4), model.start(4)
    for t in range(9):
        token = (items[:, t].clamp(min=1), events[:, t], gaps[:, t])
        memory, other = model.step(memory, *token), model.step(other, *token)
    before = [part.clone() for part in (memory.state, memory.length, *in_sight(memory))]
    after = model.step(memory, torch.tensor([0, 5, 0, 7]), torch.tensor([1, 3, 0, 3]), torch.full((4,), 9.0))
    for old, new in zip(before, (after.state, after.length, *in_sight(after)), strict=True):
        assert torch.equal(old[[0, 2]], new[[0, 2]])
        assert not torch.equal(old[[1, 3]], new[[1, 3]])
    for t in range(2 * WINDOW):  # nor does what follows know of the empty tokens
        token = (items[:, t % 9].clamp(min=1), events[:, t % 9], gaps[:, t % 9])
        after, other = model.step(after, *token), model.step(other, *token)
        assert torch.equal(after.state[[0, 2]], other.state[[0, 2]])


@pytest.mark.parametrize(
    "settings",
    [
        {"kv_heads": 2},
        {"kv_heads": 4, "layers": 3},
        {"heads": 1, "layers": 1, "feed_forward": 40},
        {"parts": ["text", "id"]},
        {"parts": ["id", "event"]},
    ],
    ids=str,
)
def test_a_step_of_any_shape_of_model_equals_reading_whole(settings: dict[str, object]) -> None:
    model = made(0, **settings)
    items, events, gaps, lengths = histories(8, 2 * WINDOW + 3)
    gaps[1] = torch.tensor(GAP_EDGES)[: gaps.shape[1]] - (torch.arange(gaps.shape[1]) % 3 == 0).float()  # at the edges
    memory = model.start(8)
    for t in range(items.shape[1]):
        memory = model.step(memory, items[:, t], events[:, t], gaps[:, t])
    assert close(memory.state, model.encode(items, events, gaps, lengths))


def test_steps_follow_weights_that_are_loaded() -> None:
    model, other = made(), made(seed=1)
    token = (torch.tensor([3, 4]), torch.tensor([3, 3]), torch.zeros(2))
    model.step(model.start(2), *token)
    model.load_state_dict(other.state_dict())
    assert torch.equal(model.step(model.start(2), *token).state, other.step(other.start(2), *token).state)


def test_a_state_handed_out_is_not_changed_by_the_next_step(model: ShopSessionModel) -> None:
    memory = model.start(2)
    held = memory.state
    copy = held.clone()
    model.step(memory, torch.tensor([3, 4]), torch.tensor([3, 3]), torch.zeros(2))
    assert torch.equal(held, copy)


def test_the_empty_history_has_a_state_and_padding_beyond_the_end_is_not_read(model: ShopSessionModel) -> None:
    items, events, gaps, lengths = histories(5, 8)
    empty = model.encode(items, events, gaps, torch.zeros(5, dtype=torch.int64))
    assert close(empty, model.start(5).state)
    assert empty.norm(dim=1).tolist() == pytest.approx([1.0] * 5)
    i, e, g = (nn.functional.pad(part, (0, 3)) for part in (items, events, gaps))
    assert close(model.encode(i, e, g, lengths), model.encode(items, events, gaps, lengths))


def test_a_state_depends_on_its_reach_of_tokens_and_no_more(model: ShopSessionModel) -> None:
    assert model.reach == 3 * (WINDOW - 1) + 1
    items, events, gaps, _ = histories(3, 30, seed=5)
    items = items.clamp(min=1)
    whole = model.encode(items, events, gaps, torch.full((3,), 30))
    i, e, g = (part[:, -model.reach :] for part in (items, events, gaps))
    assert close(model.encode(i, e, g, torch.full((3,), model.reach)), whole)


def test_item_vectors_are_unit_rows_and_padding_is_zero(model: ShopSessionModel) -> None:
    vectors = model.item_vectors
    assert vectors.shape == (N + 1, 32)
    assert vectors.dtype == torch.float32
    assert vectors[1:].norm(dim=1).tolist() == pytest.approx([1.0] * N, abs=1e-5)
    assert not vectors[0].any()


def test_an_item_never_seen_has_no_embedding_of_its_own() -> None:
    model = made()
    before = model.item_vectors.clone()
    with torch.no_grad():
        model.get_parameter("tower.ids.weight").add_(1.0)
    model.train()
    model.eval()
    moved = (model.item_vectors - before).norm(dim=1) > 1e-4
    assert moved.tolist() == (model.tower.item_seen > 0).tolist()


def test_item_vectors_follow_the_weights_after_training() -> None:
    model = made()
    before = model.item_vectors.clone()
    model.train()
    with torch.no_grad():
        model.get_parameter("tower.price.weight").add_(1.0)
    model.eval()
    assert not close(model.item_vectors, before)


def test_item_vectors_follow_weights_that_are_loaded() -> None:
    model, other = made(), made(seed=1)
    assert not close(model.item_vectors, other.item_vectors)
    model.load_state_dict(other.state_dict())
    assert torch.equal(model.item_vectors, other.item_vectors)
    assert torch.equal(model.start(1).state, other.start(1).state)


def test_saving_and_loading_changes_nothing(tmp_path: Path) -> None:
    model = made(trained=True)
    batch = histories(5, 12)
    with quiet_transformers():
        model.save_pretrained(tmp_path)
    assert {one.name for one in tmp_path.iterdir()} == {"config.json", "model.safetensors"}
    loaded = load_encoder(tmp_path)
    assert torch.equal(loaded.encode(*batch), model.encode(*batch))
    assert torch.equal(loaded.item_vectors, model.item_vectors)
    with quiet_transformers():
        auto = AutoModel.from_pretrained(tmp_path)
    assert isinstance(auto, ShopSessionModel)
    assert torch.equal(auto.eval().encode(*batch), model.encode(*batch))
    assert AutoConfig.from_pretrained(tmp_path).window == WINDOW


def test_an_untrained_encoder_is_refused(tmp_path: Path) -> None:
    with quiet_transformers():
        made().save_pretrained(tmp_path / "new")
    with pytest.raises(NotTrainedError, match="is not trained"):
        load_encoder(tmp_path / "new")
    (tmp_path / "half.partial").mkdir()
    with pytest.raises(NotTrainedError, match="did not finish"):
        load_encoder(tmp_path / "half")
    with pytest.raises(ArtefactError, match="pretrain one first"):
        load_encoder(tmp_path / "none")
    for load in (ShopSessionModel.from_pretrained, AutoModel.from_pretrained):
        with pytest.raises(NotTrainedError, match="is not trained"):
            load(tmp_path / "new")
    with quiet_transformers():
        assert isinstance(AutoModel.from_pretrained(tmp_path / "new", allow_untrained=True), ShopSessionModel)


def test_weights_that_are_missing_are_told_from_weights_that_are_trained(tmp_path: Path) -> None:
    model = made(trained=True)
    with quiet_transformers():
        model.save_pretrained(tmp_path)
    path = tmp_path / "model.safetensors"
    weights = load_file(path)
    del weights["project.weight"]
    save_file(weights, path, {"format": "pt"})
    with pytest.raises(ArtefactError, match=r"lacks 1 of its weights, first project\.weight"):
        load_encoder(tmp_path)
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(ArtefactError, match="cannot be read"):
        load_encoder(tmp_path)


class _Encode(nn.Module):
    def __init__(self, model: ShopSessionModel) -> None:
        super().__init__()
        self.model = model

    def forward(self, items: Tensor, events: Tensor, gaps: Tensor, lengths: Tensor) -> Tensor:
        return self.model.encode(items, events, gaps, lengths)


@pytest.mark.filterwarnings("ignore")  # torch's exporter warns about itself
def test_the_exported_graph_gives_the_same_states_for_any_batch_and_length(
    tmp_path: Path,
) -> None:
    model = made()  # never used before, so that nothing of the exporter's may stay in it
    onnxruntime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    batch, time = torch.export.Dim("batch"), torch.export.Dim("time")
    both = {0: batch, 1: time}
    program = torch.onnx.export(
        _Encode(model).eval(),
        histories(3, 9),
        dynamo=True,
        verbose=False,
        dynamic_shapes=(both, both, both, {0: batch}),
        input_names=["items", "events", "gaps", "lengths"],
        output_names=["state"],
    )
    assert program is not None
    program.save(tmp_path / "encoder.onnx")
    session = onnxruntime.InferenceSession(tmp_path / "encoder.onnx", providers=["CPUExecutionProvider"])
    names = [one.name for one in session.get_inputs()]
    assert names == ["items", "events", "gaps", "lengths"]
    for rows, width in ((7, 20), (1, 1), (2, 50)):
        items, events, gaps, lengths = (part[:rows] for part in histories(max(rows, 2), width, seed=width))
        (state,) = session.run(None, {n: p.numpy() for n, p in zip(names, (items, events, gaps, lengths), strict=True)})
        assert np.abs(state - model.encode(items, events, gaps, lengths).numpy()).max() < 1e-4


def test_scores_tell_of_returns_where_the_history_is_given(model: ShopSessionModel) -> None:
    items, events = torch.tensor([[3, 5], [2, 0]]), torch.tensor([[2, 2], [2, 0]])
    states = model.encode(items, events, torch.zeros(2, 2), torch.tensor([2, 1]))
    plain = model.scores(states)
    assert torch.equal(plain, model.scores(states, items=items, events=events))  # not calibrated
    try:
        model.calibration.back += 1.5
        gain = model.scores(states, items=items, events=events) - plain
    finally:
        model.calibration.back.zero_()
    expected = torch.zeros(2, model.n_items + 1)
    expected[0, [3, 5]] = expected[1, 2] = 1.5
    assert torch.allclose(gain[:, 1:], expected[:, 1:], atol=1e-5)
    with pytest.raises(ValueError, match="together"):
        model.scores(states, items=items)
