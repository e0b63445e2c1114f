"""What only a GPU can show; skipped where there is none."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from slatewise.datasets.log import ShopLog
from slatewise.encoders.loading import load_encoder
from slatewise.encoders.pretrain import PretrainConfig, pretrain
from slatewise.testing import check_encoder

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
TINY = PretrainConfig(width=16, layers=1, heads=2, feed_forward=16, window=8, epochs=3, batch_tokens=192)


@pytest.mark.parametrize("precision", ["auto", "float32"])
def test_an_encoder_trained_on_a_gpu_is_like_any_other(
    small_log: ShopLog, item_text: np.ndarray, tmp_path: Path, precision: str
) -> None:
    config = replace(TINY, precision=precision)
    encoder = pretrain(small_log, tmp_path / "one", config=config, text=item_text, device="cuda")
    assert {weight.dtype for weight in encoder.parameters()} == {torch.float32}
    check_encoder(encoder)
    here = load_encoder(tmp_path / "one")
    check_encoder(here)
    assert torch.allclose(here.item_vectors, encoder.item_vectors.cpu(), atol=1e-5)
    again = pretrain(small_log, tmp_path / "again", config=config, text=item_text, device="cuda")
    assert torch.equal(again.item_vectors, encoder.item_vectors)


def test_sampled_candidates_and_compiled_blocks_train_on_a_gpu(
    small_log: ShopLog, item_text: np.ndarray, tmp_path: Path
) -> None:
    config = replace(TINY, full_softmax_up_to=10, negatives=10, compile=True)
    encoder = pretrain(small_log, tmp_path / "sampled", config=config, text=item_text, device="cuda")
    check_encoder(encoder)
