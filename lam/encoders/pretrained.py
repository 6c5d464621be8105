"""Frozen backbones from transformers: all of their weights, or an error."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from typing_extensions import override

from lam.encoders.frozen import FrozenEncoder, color_features, hash_weights

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedModel


class PretrainedClass(Protocol):
    """A class of transformers, of models or one that finds them by name."""

    def from_pretrained(self, *args: Any, **kwargs: Any) -> Any:
        """Load a model, with what was found in its file where that is asked for."""


class ColorStatistics(NamedTuple):
    """Statistics that a backbone expects its input to be normalized by.

    Attributes:
        mean: Mean of red, green and blue, in [0, 1].
        std: Their standard deviations.
    """

    mean: tuple[float, float, float]
    std: tuple[float, float, float]


IMAGENET = ColorStatistics((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
"""Statistics of ImageNet as torchvision documents them; DINOv2, DINOv3 and V-JEPA 2 were trained with them."""

_SETTINGS_FILES = ("preprocessor_config.json", "video_preprocessor_config.json")


class PretrainedEncoder(FrozenEncoder):
    """Base of encoders around a pretrained transformer: prepares its input and renders its features.

    Args:
        backbone: The transformer.
        source: Folder or name on the hub that its weights came from.
        not_used: Prefixes of the names of its weights that the states do not depend on.
        colors: Statistics that its input is normalized by.
        dim: Width D of its tokens.
        patch: Pixels a side of its patches.
        image_size: Height and width of the frames, in pixels.
        input_size: Height and width the frames are resized to; None leaves them as they are.
    """

    pixel_mean: Tensor
    pixel_std: Tensor

    def __init__(
        self,
        backbone: nn.Module,
        source: str,
        not_used: tuple[str, ...],
        colors: ColorStatistics,
        dim: int,
        patch: int,
        image_size: int,
        input_size: int | None,
    ) -> None:
        super().__init__()
        self.image_size = image_size
        self.input_size = check_input_size(image_size, input_size, patch)
        self.dim = dim
        self.grid = (self.input_size // patch, self.input_size // patch)
        self.backbone = backbone
        self.source = source
        self.digest = hash_weights(backbone, not_used)  # what is not used may be missing, and is random then
        self.register_buffer("pixel_mean", torch.tensor(colors.mean)[:, None, None], persistent=False)
        self.register_buffer("pixel_std", torch.tensor(colors.std)[:, None, None], persistent=False)
        self.requires_grad_(False).eval()

    def to_input(self, frames: Tensor) -> Tensor:
        """Resize and normalize frames (n, 3, H, W) uint8 to the backbone's input (n, 3, S, S), S = input_size."""
        pixels = frames / 255
        if self.input_size != self.image_size:
            size = (self.input_size, self.input_size)
            pixels = F.interpolate(pixels, size, mode="bicubic", align_corners=False, antialias=True).clamp(0, 1)
        return (pixels - self.pixel_mean) / self.pixel_std

    @override
    @torch.no_grad()
    def to_image(self, states: Tensor) -> Tensor:
        return color_features(states, self.grid, self.image_size)


def check_input_size(image_size: int, input_size: int | None, patch: int) -> int:
    """Return the height and width of the backbone's input.

    Raises:
        ValueError: It is not a multiple of the patch size.
    """
    size = image_size if input_size is None else input_size
    if size < patch or size % patch:
        nearest = max(patch, round(size / patch) * patch)
        raise ValueError(
            f"The backbone cuts its input into patches of {patch} pixels, {size} is not a multiple of that. "
            f"Set model.encoder.input_size, for example to {nearest}."
        )
    return size


def load_config(path_or_name: str) -> PretrainedConfig:
    """Load the settings a backbone was saved with.

    Raises:
        OSError: There are none, or they cannot be read.
    """
    from transformers import AutoConfig

    with _plain_errors(path_or_name):
        config: PretrainedConfig = AutoConfig.from_pretrained(path_or_name, local_files_only=Path(path_or_name).is_dir())
    return config


def load_weights(
    model_class: PretrainedClass, path_or_name: str, config: PretrainedConfig, may_lack: tuple[str, ...]
) -> PreTrainedModel:
    """Load a transformers model in eval mode with every weight from its file; safetensors only, nothing is unpickled.

    transformers fills weights that a file lacks with random numbers and carries on, so they are looked for here.

    Args:
        model_class: Class of the model.
        path_or_name: Local folder, or name on the hub.
        config: Settings from ``load_config``.
        may_lack: Prefixes of the names of weights that are not used and may be missing.

    Raises:
        OSError: The weights are missing, unreadable or not those of this model.
    """
    with _plain_errors(path_or_name):
        model: PreTrainedModel
        model, found = model_class.from_pretrained(
            path_or_name,
            config=config,
            local_files_only=Path(path_or_name).is_dir(),
            use_safetensors=True,
            output_loading_info=True,
        )
        missing = sorted(name for name in found["missing_keys"] if not name.startswith(may_lack))
        if missing:
            raise ValueError(f"it lacks {len(missing)} weights of a {type(model).__name__}, such as {missing[0]}")
    return model


def load_colors(path_or_name: str) -> ColorStatistics:
    """Load the statistics that a backbone's input is normalized by, as saved beside its weights, else those of ImageNet.

    Raises:
        OSError: The file cannot be read.
    """
    from transformers.utils.hub import cached_file

    with _plain_errors(path_or_name):
        for name in _SETTINGS_FILES:
            file = cached_file(
                path_or_name,
                name,
                local_files_only=Path(path_or_name).is_dir(),
                _raise_exceptions_for_missing_entries=False,
            )
            if file is not None:
                settings = json.loads(Path(file).read_text())
                return ColorStatistics(tuple(settings["image_mean"]), tuple(settings["image_std"]))
    return IMAGENET


@contextmanager
def _plain_errors(path_or_name: str) -> Iterator[None]:
    """Turn every failure into an OSError of one line that names the remedy, and silence the library's own report of it."""
    from safetensors import SafetensorError
    from transformers.utils import logging

    verbosity = logging.get_verbosity()
    logging.set_verbosity_error()
    try:
        yield
    except (OSError, ValueError, KeyError, RuntimeError, SafetensorError) as error:
        place = "The folder" if Path(path_or_name).is_dir() else "There is no such folder, and the hub's"
        raise OSError(
            f"{place} {path_or_name} gives no usable weights: {' '.join(str(error).split())} "
            "Give the folder of a model saved by transformers (config.json and model.safetensors), or a name on the hub "
            "and a network. Random weights are never used instead."
        ) from error
    finally:
        logging.set_verbosity(verbosity)
