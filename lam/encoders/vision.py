"""Image transformers, frame by frame: DINOv2 with and without registers, DINOv3 and the plain ViT."""

from __future__ import annotations

import torch
from torch import Tensor
from typing_extensions import override

from lam.encoders.frozen import normalize_channels
from lam.encoders.pretrained import PretrainedEncoder, load_colors, load_config, load_weights

_KNOWN = ("dinov2", "dinov2_with_registers", "dinov3_vit", "vit")
_NOT_USED = ("pooler.", "embeddings.mask_token")
"""Weights that checkpoints may lack: heads over the class token, and the token that stands for hidden patches."""


class Vision(PretrainedEncoder):
    """Encodes every frame on its own by a frozen image transformer.

    A state is the last layer's patch tokens, without class and register tokens, after a LayerNorm over channels without
    parameters. Colors are normalized as the model's preprocessor_config.json says, else by ImageNet's statistics. Positions
    are interpolated to the size of the input, as the models do it themselves.

    Args:
        path_or_name: Folder of a model saved by transformers, or its name on the hub.
        image_size: Height and width of the frames, in pixels.
        input_size: Height and width the frames are resized to, a multiple of the model's patch size; as they are if not
            given.
        frames_at_once: Frames that go through the transformer together; bounds the memory.
    """

    def __init__(
        self, path_or_name: str, image_size: int = 224, input_size: int | None = None, frames_at_once: int = 256
    ) -> None:
        from transformers import AutoModel

        config = load_config(path_or_name)
        if config.model_type not in _KNOWN:
            raise ValueError(f"{path_or_name} is a {config.model_type} model, Vision knows {', '.join(_KNOWN)}.")
        super().__init__(
            backbone=load_weights(AutoModel, path_or_name, config, may_lack=_NOT_USED),
            source=path_or_name,
            not_used=_NOT_USED,
            colors=load_colors(path_or_name),
            dim=config.hidden_size,
            patch=config.patch_size,
            image_size=image_size,
            input_size=input_size,
        )
        self.frames_at_once = frames_at_once
        # the class token comes first, then the registers of those models that have any
        self.prefix = 1 + config.to_dict().get("num_register_tokens", 0)
        # the plain ViT alone has to be asked to fit its positions to the input
        self.options = {"interpolate_pos_encoding": True} if config.model_type == "vit" else {}

    @override
    @torch.no_grad()
    def forward(self, frames: Tensor) -> Tensor:
        chunks = frames.flatten(0, 1).split(self.frames_at_once)
        states: Tensor = torch.cat([self._encode(chunk) for chunk in chunks]).unflatten(0, frames.shape[:2])
        return states

    def _encode(self, frames: Tensor) -> Tensor:
        """Encode frames (n, 3, H, W) into patch tokens (n, N, D)."""
        tokens = self.backbone(self.to_input(frames), **self.options).last_hidden_state
        return normalize_channels(tokens[:, self.prefix :])
