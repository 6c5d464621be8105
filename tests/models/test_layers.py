"""The blocks the heads share: positions are relative, the past is all that is seen, AdaLN-zero starts as the identity."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from lam.encoders.base import StateShape
from lam.models.layers import (
    AdaLNBlock,
    Attention,
    Block,
    CrossAttention,
    RoPE,
    attend,
    attend_block_causally,
    attend_explicitly,
    grid_positions,
    rotate,
)

CPU = torch.device("cpu")


def logits(q, k, positions, rope):
    rotation = rope(positions)
    return rotate(q, rotation) @ rotate(k, rotation).mT


def test_rotary_products_depend_on_offsets_only():
    torch.manual_seed(0)
    rope, positions = RoPE(16), grid_positions(StateShape(3, 4, 1), 2, CPU)
    q, k = torch.randn(2, 24, 16)
    shifted = positions + torch.tensor([5.0, -7.0, 11.0])
    torch.testing.assert_close(logits(q, k, positions, rope), logits(q, k, shifted, rope), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_rotary_products_change_with_the_offset_along_every_axis(axis):
    torch.manual_seed(0)
    q, k = torch.randn(2, 1, 16)
    rope, here, there = RoPE(16), torch.zeros(1, 3), torch.zeros(1, 3)
    there[0, axis] = 1.0
    moved = rotate(q, rope(here)) @ rotate(k, rope(there)).mT
    assert (moved - q @ k.T).abs().item() > 1e-2


def test_rotation_is_the_complex_product_it_stands_for():
    torch.manual_seed(0)
    rope, positions = RoPE(14), torch.rand(5, 3) * 10  # 7 pairs: 2 an axis and one that does not turn
    x = torch.randn(5, 14)
    frequencies = torch.tensor([1.0, 0.1])  # 100 ** -(0/2), 100 ** -(1/2)
    angles = torch.cat([positions[:, axis, None] * frequencies for axis in range(3)] + [torch.zeros(5, 1)], dim=1)
    turned = torch.complex(x[:, :7], x[:, 7:]) * torch.polar(torch.ones_like(angles), angles)
    torch.testing.assert_close(rotate(x, rope(positions)), torch.cat((turned.real, turned.imag), dim=1))


def test_grid_positions_count_columns_fastest():
    positions = grid_positions(StateShape(2, 3, 1), 2, CPU)
    assert positions[:7].tolist() == [[0, 0, 0], [0, 0, 1], [0, 0, 2], [0, 1, 0], [0, 1, 1], [0, 1, 2], [1, 0, 0]]


def test_explicit_attention_is_fused_attention():
    torch.manual_seed(0)
    q, k, v = (torch.randn(2, 3, n, 8, requires_grad=True) for n in (5, 7, 7))
    explicit, fused = attend_explicitly(q, k, v), F.scaled_dot_product_attention(q, k, v)
    torch.testing.assert_close(explicit, fused)
    for ours, theirs in zip(
        torch.autograd.grad(explicit.square().sum(), (q, k, v)),
        torch.autograd.grad(fused.square().sum(), (q, k, v)),
        strict=True,
    ):
        torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("dtype, explicit", [(torch.float32, False), (torch.bfloat16, True)])
def test_attention_is_written_out_on_the_cpu_in_bfloat16_only(dtype, explicit):
    torch.manual_seed(0)
    q, k, v = torch.randn(3, 2, 4, 16, 8, dtype=dtype, requires_grad=True)
    assert ("Softmax" in graph_names(attend(q, k, v).grad_fn)) == explicit


def graph_names(node):
    return type(node).__name__ + "".join(graph_names(parent) for parent, _ in node.next_functions if parent is not None)


def test_attention_in_bfloat16_is_as_close_to_the_truth_as_the_fused_kernel():
    torch.manual_seed(0)
    q, k, v = torch.randn(3, 2, 4, 64, 32, dtype=torch.float64)
    truth = F.scaled_dot_product_attention(q, k, v)
    low = [x.bfloat16() for x in (q, k, v)]
    ours = (attend(*low).double() - truth).abs().mean()
    assert ours <= 2 * (F.scaled_dot_product_attention(*low).double() - truth).abs().mean()
    assert ours < 0.01 * truth.abs().mean() + 2e-3


def test_attention_to_the_past_is_masked_attention():
    torch.manual_seed(0)
    q, k, v = torch.randn(3, 2, 3, 12, 8)
    state = torch.arange(12) // 4
    mask = state[:, None] >= state[None, :]
    expected = F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
    torch.testing.assert_close(attend_block_causally(q, k, v, num_states=3), expected)


def test_attention_module_is_torch_multihead_attention():
    torch.manual_seed(0)
    ours, theirs = Attention(12, 2), nn.MultiheadAttention(12, 2, batch_first=True)
    theirs.load_state_dict(
        {
            "in_proj_weight": ours.to_qkv.weight,
            "in_proj_bias": ours.to_qkv.bias,
            "out_proj.weight": ours.to_out.weight,
            "out_proj.bias": ours.to_out.bias,
        }
    )
    x = torch.randn(2, 5, 12)
    torch.testing.assert_close(ours(x, None), theirs(x, x, x, need_weights=False)[0])


def test_cross_attention_module_is_torch_multihead_attention():
    torch.manual_seed(0)
    ours, theirs = CrossAttention(12, 2), nn.MultiheadAttention(12, 2, batch_first=True)
    theirs.load_state_dict(
        {
            "in_proj_weight": torch.cat((ours.to_q.weight, ours.to_kv.weight)),
            "in_proj_bias": torch.cat((ours.to_q.bias, ours.to_kv.bias)),
            "out_proj.weight": ours.to_out.weight,
            "out_proj.bias": ours.to_out.bias,
        }
    )
    x, context = torch.randn(2, 5, 12), torch.randn(2, 3, 12)
    torch.testing.assert_close(ours(x, context), theirs(x, context, context, need_weights=False)[0])


def test_block_is_a_pre_norm_encoder_layer():
    torch.manual_seed(0)
    ours = Block(12, 2)
    theirs = nn.TransformerEncoderLayer(12, 2, 48, dropout=0.0, activation="gelu", batch_first=True, norm_first=True)
    names = {
        "attention.to_qkv.": "self_attn.in_proj_",
        "attention.to_out.": "self_attn.out_proj.",
        "norm_attention.": "norm1.",
        "norm_mlp.": "norm2.",
        "mlp.0.": "linear1.",
        "mlp.2.": "linear2.",
    }
    state = ours.state_dict()
    theirs.load_state_dict({new + part: state[old + part] for old, new in names.items() for part in ("weight", "bias")})
    x = torch.randn(2, 5, 12)
    torch.testing.assert_close(ours(x, None), theirs(x))


def test_adaln_block_starts_as_the_identity_and_modulates_each_state_by_its_own_condition():
    torch.manual_seed(0)
    block, rope = AdaLNBlock(12, 2), RoPE(6)
    x, condition = torch.randn(2, 3, 4, 12), torch.randn(2, 3, 12)
    rotation = rope(grid_positions(StateShape(2, 2, 1), 3, CPU))
    assert torch.equal(block(x, rotation, condition), x)
    nn.init.normal_(block.modulation.weight, std=0.2)
    changed = condition.clone()
    changed[:, 1] += 1.0
    difference = (block(x, rotation, changed) - block(x, rotation, condition)).abs().amax(dim=(0, 2, 3))
    assert difference[0] == 0
    assert difference[1] > 1e-3
    assert difference[2] > 1e-4  # it attends to the tokens of state 1, which changed


def test_adaln_block_is_the_published_formula():
    torch.manual_seed(0)
    block = AdaLNBlock(12, 2)
    nn.init.normal_(block.modulation.weight, std=0.2)
    nn.init.normal_(block.modulation.bias, std=0.2)
    rotation = RoPE(6)(grid_positions(StateShape(2, 2, 1), 1, CPU))
    x, condition = torch.randn(2, 1, 4, 12), torch.randn(2, 1, 12)
    shift_1, scale_1, gate_1, shift_2, scale_2, gate_2 = block.modulation(F.silu(condition)).chunk(6, dim=-1)
    y = x[:, 0] + gate_1 * block.attention(F.layer_norm(x[:, 0], (12,)) * (1 + scale_1) + shift_1, rotation)
    y = y + gate_2 * block.mlp(F.layer_norm(y, (12,)) * (1 + scale_2) + shift_2)
    torch.testing.assert_close(block(x, rotation, condition)[:, 0], y)


@pytest.mark.parametrize("width, heads", [(10, 4), (8, 0)])
def test_uneven_heads_are_refused(width, heads):
    with pytest.raises(ValueError, match=f"width {width} cannot be shared by {heads} heads"):
        Attention(width, heads)


@pytest.mark.parametrize("head_dim", [4, 7])
def test_heads_too_small_for_three_axes_are_refused(head_dim):
    with pytest.raises(ValueError, match="rotary positions need an even number >= 6"):
        RoPE(head_dim)
