"""Reading a pretrained session encoder back from its folder."""

from pathlib import Path

import torch
from safetensors import SafetensorError

from ..errors import ArtefactError
from .folders import check_trained
from .quiet import quiet_transformers
from .session import ShopSessionModel


def load_encoder(folder: str | Path, *, device: str | torch.device = "cpu") -> ShopSessionModel:
    """A pretrained session encoder, in eval mode.

    Raises:
        ArtefactError: the folder is missing, holds something else, or its weights cannot be read.
        NotTrainedError: the encoder in it was never trained, or its pretraining was interrupted.
    """
    folder = Path(folder)
    check_trained(folder)
    try:
        with quiet_transformers():
            model = ShopSessionModel.from_pretrained(folder, dtype=torch.float32)
    except (SafetensorError, OSError, RuntimeError) as error:
        if isinstance(error, ArtefactError):
            raise
        raise ArtefactError(f"{folder} holds weights that cannot be read ({error}); pretrain it again") from error
    model = model.to(device).eval()  # pyright: ignore[reportArgumentType]
    model.item_vectors  # noqa: B018  worked out here, so that an exported graph holds it and not the way to it
    return model
