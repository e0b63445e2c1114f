"""Options of a training run: gradients added up, less precision, compiled blocks, and what a tracker is told."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from slatewise.datasets.artefact import read_config
from slatewise.datasets.log import ShopLog
from slatewise.datasets.schema import Event
from slatewise.datasets.tokens import Tokens
from slatewise.encoders import training
from slatewise.encoders.batches import Layout, PackedBatch, layouts, packed_batch
from slatewise.encoders.pretrain import PretrainConfig, pretrain, pretrain_tokens
from slatewise.encoders.session import ShopSessionModel
from slatewise.encoders.training import Run, batch_size

TINY = PretrainConfig(
    width=16,
    layers=1,
    heads=2,
    feed_forward=16,
    window=8,
    epochs=2,
    batch_tokens=128,
    dropout=0.0,
    rival_dropout=0.0,
    id_dropout=0.0,
)


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def run_of(log: ShopLog, text: np.ndarray, config: PretrainConfig) -> Run:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        seen = np.arange(log.catalogue.n_items + 1) > 0
        model = ShopSessionModel.for_catalogue(config.model(n_seen=24), log.catalogue, text, seen)
    return Run(model, log.tokens, log.tokens.part(np.arange(40)), config, "cpu")


def gradient(run: Run) -> torch.Tensor:
    return torch.cat([weight.grad.flatten() for weight in run.model.parameters() if weight.grad is not None])


def test_a_step_of_two_batches_goes_where_their_mean_goes(small_log: ShopLog, item_text: np.ndarray) -> None:
    both = layouts(small_log.tokens.lengths[:60], pack=32, size=256, rng=None)[:2]
    rng = np.random.default_rng(0)
    apart = []
    for one in both:
        run = run_of(small_log, item_text, TINY)
        run._loss(packed(run, one), rng).backward()
        apart.append(gradient(run))
    run = run_of(small_log, item_text, replace(TINY, accumulate=2))
    run._step(both, rng, rate=1.0)
    mean = (apart[0] + apart[1]) / 2
    mean *= min(1.0, 1.0 / float(mean.norm()))  # clipped
    assert torch.allclose(gradient(run), mean, atol=1e-5)


def packed(run: Run, layout: Layout) -> PackedBatch:
    return packed_batch(run.train_tokens, layout, run.config.max_tokens)


class Told:
    def __init__(self) -> None:
        self.rows: list[tuple[int, dict[str, float]]] = []

    def log(self, values: dict[str, float], /, *, step: int) -> None:
        self.rows.append((step, values))


def test_a_tracker_is_told_of_passes_and_of_steps_between_and_fewer_where_gradients_are_added_up(
    small_log: ShopLog, item_text: np.ndarray, tmp_path: Path
) -> None:
    plain, added = Told(), Told()
    config = replace(TINY, batch_tokens=32)
    pretrain(small_log, tmp_path / "plain", config=config, text=item_text, tracker=plain)
    pretrain(small_log, tmp_path / "added", config=replace(config, accumulate=3), text=item_text, tracker=added)
    for told in (plain, added):
        steps = [step for step, _ in told.rows]
        assert steps == sorted(steps)
        passes = [values for _, values in told.rows if "validation_loss" in values]
        assert len(passes) == 2
    between = [values for _, values in plain.rows if "rate" in values]
    assert between
    assert all(np.isfinite(one["loss"]) and 0 < one["rate"] <= 1 for one in between)
    ends = [max(step for step, values in told.rows if "validation_loss" in values) for told in (plain, added)]
    assert ends[0] == pytest.approx(3 * ends[1], abs=4)
    assert plain.rows[-1][0] > ends[0]  # of the steps that learn from the latest sessions too


def test_less_precision_trains_as_well_and_leaves_full_weights(
    small_log: ShopLog, item_text: np.ndarray, tmp_path: Path
) -> None:
    losses, weights = {}, {}
    for precision in ("float32", "bfloat16"):
        config = replace(TINY, precision=precision, epochs=3)
        encoder = pretrain(small_log, tmp_path / precision, config=config, text=item_text)
        assert all(weight.dtype == torch.float32 for weight in encoder.parameters())
        facts = read_config(tmp_path / precision, "encoder")["slatewise_artefact"]["facts"]
        losses[precision] = facts["validation_loss"]
        weights[precision] = encoder.project.weight
    assert losses["bfloat16"] == pytest.approx(losses["float32"], rel=0.02)
    assert not torch.equal(weights["bfloat16"], weights["float32"])
    assert not run_of(small_log, item_text, TINY).reduced  # auto, on a processor


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # the compiler warns about itself
def test_compiled_blocks_learn_the_same(small_log: ShopLog, item_text: np.ndarray, tmp_path: Path) -> None:
    log = small_log.part(np.arange(60))
    config = replace(TINY, epochs=1)
    eager = pretrain(log, tmp_path / "eager", config=config, text=item_text)
    compiled = pretrain(log, tmp_path / "compiled", config=replace(config, compile=True), text=item_text)
    for name, weight in eager.state_dict().items():
        assert torch.allclose(compiled.state_dict()[name], weight, atol=1e-3), name
    assert torch.allclose(eager.item_vectors, compiled.item_vectors, atol=1e-3)


def test_batches_grow_with_the_log_and_leave_enough_steps() -> None:
    assert [batch_size(tokens, 2_048) for tokens in (1_000, 10_000, 100_000, 400_000, 10**7)] == [
        128,
        250,
        512,
        1_000,
        2_048,
    ]
    assert batch_size(10**7, 300) == 300


def test_a_large_log_is_judged_by_sessions_from_all_of_its_end(
    small_log: ShopLog, item_text: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(training, "_VALIDATED", 12)
    run = run_of(small_log, item_text, TINY)  # it holds out 40
    assert len(run.held_out) == 10
    assert run.held_out.items.tolist() == small_log.tokens.part(np.arange(0, 40, 4)).items.tolist()


def test_what_only_the_latest_sessions_show_is_learnt_at_last(
    small_log: ShopLog, item_text: np.ndarray, tmp_path: Path
) -> None:
    """Item 26 is new: the sessions that have it are all held out, and it always follows item 1 there."""
    tokens = small_log.tokens.part(np.arange(300))
    late = 40
    more = Tokens(
        np.concatenate([tokens.items[tokens.items != 26], np.tile([1, 26], late)]),
        np.concatenate([tokens.events[tokens.items != 26], np.full(2 * late, int(Event.VIEW))]),
        np.concatenate([tokens.gaps[tokens.items != 26], np.zeros(2 * late, np.float32)]),
        np.concatenate([_offsets(tokens), _offsets(tokens)[-1] + 2 * np.arange(1, late + 1)]),
    )
    history = (torch.tensor([[1]]), torch.tensor([[int(Event.VIEW)]]), torch.zeros(1, 1), torch.tensor([1]))
    rank = {}
    for share in (0.0, 1.0):
        config = replace(
            TINY,
            epochs=4,
            batch_tokens=64,
            learning_rate=5e-3,
            refresh=share,
            refresh_rate=1.0,
            validation_fraction=0.12,
        )
        out = tmp_path / f"refresh-{share}"
        encoder = pretrain_tokens(more, small_log.catalogue, out, config=config, text=item_text)
        assert bool(encoder.tower.item_seen[26]) == bool(share)
        scores = encoder.scores(encoder.encode(*history))[0]
        rank[share] = int((scores >= scores[26]).sum())
        facts = read_config(out, "encoder")["slatewise_artefact"]["facts"]
        assert facts["sessions"] + facts["validation_sessions"] == len(more)
    assert rank[1.0] <= 3 < rank[0.0]


def _offsets(tokens: Tokens) -> np.ndarray:
    """Offsets of the sessions once item 26 is taken out of them."""
    kept = np.concatenate([[0], np.cumsum(tokens.items != 26)])
    return kept[tokens.offsets]
