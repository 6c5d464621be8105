"""V-JEPA 2, https://arxiv.org/abs/2506.09985, made frame-causal."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor
from typing_extensions import override

from lam.encoders.frozen import normalize_channels
from lam.encoders.pretrained import PretrainedEncoder, check_input_size, load_colors, load_config, load_weights

if TYPE_CHECKING:
    from transformers.models.vjepa2.modeling_vjepa2 import VJEPA2RopeAttention

_ATTENTION = "block_causal"


class VJEPA(PretrainedEncoder):
    """Encodes video by a frozen V-JEPA 2 encoder that does not look ahead.

    Two frames make a state. The public model attends over the whole clip in both directions, so a clip's first state would
    depend on its last frame, and a model that predicts the future from it would be given the answer. Here a state's tokens
    attend to those of the same and of earlier states only, as in the causal encoder of jepa-wms. The trade: the weights were
    trained with the future in view, so all features of a clip but those of one state alone differ from the published model's;
    encoding every state without its past would be as causal, but blind to motion between states. Features pass a LayerNorm
    over channels without parameters, as V-JEPA 2-AC does it.

    Args:
        path_or_name: Folder of a VJEPA2Model saved by transformers, or its name on the hub.
        image_size: Height and width of the frames, in pixels.
        input_size: Height and width the frames are resized to, a multiple of the model's patch size; as they are if not
            given.
        clips_at_once: Clips that go through the transformer together; bounds the memory.
    """

    def __init__(
        self, path_or_name: str, image_size: int = 256, input_size: int | None = None, clips_at_once: int = 16
    ) -> None:
        from transformers import AttentionInterface, VJEPA2Model

        config = load_config(path_or_name)
        if config.model_type != "vjepa2":
            raise ValueError(f"{path_or_name} is a {config.model_type} model, VJEPA needs a vjepa2 model.")
        AttentionInterface.register(_ATTENTION, block_causal_attention)
        config._attn_implementation = _ATTENTION
        # the model numbers rows and columns by this, whatever it was trained at
        config.crop_size = check_input_size(image_size, input_size, config.patch_size)
        model = load_weights(VJEPA2Model, path_or_name, config, may_lack=("predictor.",))
        super().__init__(
            backbone=model.get_submodule("encoder"),  # all that its forward runs with skip_predictor=True
            source=path_or_name,
            not_used=(),
            colors=load_colors(path_or_name),
            dim=config.hidden_size,
            patch=config.patch_size,
            image_size=image_size,
            input_size=input_size,
        )
        self.frames_per_state = config.tubelet_size
        self.clips_at_once = clips_at_once

    @override
    @torch.no_grad()
    def forward(self, frames: Tensor) -> Tensor:
        if frames.shape[1] % self.frames_per_state:
            raise ValueError(
                f"A clip has {frames.shape[1]} frames, V-JEPA 2 makes a state of {self.frames_per_state}. "
                "Set data.frames to a multiple of that."
            )
        return torch.cat([self._encode(clips) for clips in frames.split(self.clips_at_once)])

    def _encode(self, frames: Tensor) -> Tensor:
        """Encode frames (n, F, 3, H, W) into states (n, T, N, D)."""
        pixels = self.to_input(frames.flatten(0, 1)).unflatten(0, frames.shape[:2])
        tokens = self.backbone(pixel_values_videos=pixels).last_hidden_state  # (n, T * N, D)
        states: Tensor = normalize_channels(tokens).unflatten(1, (-1, self.shape.tokens))
        return states


def block_causal_attention(
    module: VJEPA2RopeAttention,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: None,
    is_causal: bool,
    scaling: float,
    dropout: float,
) -> tuple[Tensor, None]:
    """Attend from each state to itself and its past; a function for transformers' AttentionInterface.

    State by state over slices of the keys, not by a mask: for T states (T + 1) / 2T of the arithmetic, and kernels that take no
    mask can be used.

    Args:
        module: The V-JEPA 2 attention layer that calls; ``grid_size`` squared are the tokens of a state.
        query: Queries (B, heads, T * N, width).
        key: Keys of the same shape.
        value: Values of the same shape.
        attention_mask: V-JEPA 2 gives none.
        is_causal: False: over tokens the model is not.
        scaling: Factor of the products of queries and keys.
        dropout: 0 in eval mode.

    Returns:
        Output (B, T * N, heads, width) and no attention weights.
    """
    tokens = module.grid_size**2
    states = [
        F.scaled_dot_product_attention(state, key[:, :, :end], value[:, :, :end], dropout_p=dropout, scale=scaling)
        for state, end in zip(query.split(tokens, dim=2), range(tokens, key.shape[2] + 1, tokens), strict=True)
    ]
    return torch.cat(states, dim=2).transpose(1, 2).contiguous(), None
