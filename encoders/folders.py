"""Encoders that may be used: those whose pretraining has come to its end, and whose weights are all there."""

import json
from pathlib import Path
from typing import Any, cast

from transformers import PreTrainedModel

from ..datasets.artefact import read_config
from ..errors import ArtefactError, NotTrainedError
from .settings import ShopSessionConfig


def check_trained(folder: Path) -> None:
    """See that a folder holds a session encoder whose pretraining has come to its end.

    Raises:
        ArtefactError: the folder is missing, or holds something else.
        NotTrainedError: the encoder in it was never trained, or its pretraining was interrupted.
    """
    path = folder / "config.json"
    if not path.is_file():
        partial = folder if folder.name.endswith(".partial") else folder.with_name(folder.name + ".partial")
        if partial.is_dir():
            raise NotTrainedError(f"the pretraining of {folder} did not finish; run it again to resume from {partial}")
        raise ArtefactError(f"{folder} holds no encoder (it has no config.json); pretrain one first")
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ArtefactError(f"{path} is not valid JSON: {error}") from error
    if not isinstance(config, dict) or config.get("model_type") != ShopSessionConfig.model_type:
        read_config(folder, "encoder")  # names what the folder holds instead
    if not config.get("trained"):
        raise NotTrainedError(f"the encoder in {folder} is not trained; run its pretraining to the end")


class TrainedModel(PreTrainedModel):
    """A model of transformers that is not loaded before it is trained, by whatever way."""

    @classmethod
    def from_pretrained(  # pyright: ignore[reportIncompatibleMethodOverride]
        cls, pretrained_model_name_or_path: Any, *model_args: Any, allow_untrained: bool = False, **kwargs: Any
    ) -> Any:
        """As in transformers, but an encoder that was not trained to its end is refused.

        Args:
            pretrained_model_name_or_path: a folder, or a name on a hub.
            model_args: see transformers.
            allow_untrained: load it all the same.
            kwargs: see transformers.

        Raises:
            NotTrainedError: the encoder was never trained, or its pretraining was interrupted.
            ArtefactError: the weights are not all there.
        """
        name = pretrained_model_name_or_path
        if not allow_untrained and Path(name).is_dir():
            check_trained(Path(name))
        wants_told = kwargs.pop("output_loading_info", False)
        loaded = cast(Any, super().from_pretrained(name, *model_args, output_loading_info=True, **kwargs))
        model, told = loaded
        if told["missing_keys"]:
            raise ArtefactError(
                f"{name} lacks {len(told['missing_keys'])} of its weights, first {min(told['missing_keys'])}: it is "
                "damaged, or of another version of slatewise; pretrain it again"
            )
        if not (model.config.trained or allow_untrained):
            raise NotTrainedError(f"the encoder {name} is not trained; run its pretraining to the end")
        return loaded if wants_told else model
