"""Results are remembered by the content of tensors, and never mistaken for those of others."""

from typing import NamedTuple

import pytest
import torch
from torch import Tensor

from lam.metrics.memo import remember


class Pair(NamedTuple):
    first: Tensor | None
    second: Tensor | None = None


@pytest.fixture
def doubled():
    calls = []

    @remember(results=2)
    def doubled(x: Tensor | Pair, factor: int = 2) -> Tensor:
        calls.append(x)
        return (x[0] if isinstance(x, Pair) else x) * factor

    doubled.calls = calls
    return doubled


def test_equal_content_is_computed_once(doubled):
    x = torch.arange(6.0)
    first = doubled(x)
    assert doubled(x.clone()) is first and doubled(x.view(2, 3)[0]).tolist() == [0, 2, 4]
    assert len(doubled.calls) == 2
    assert doubled(Pair(x)) is doubled(Pair(x.clone())) and len(doubled.calls) == 3


@pytest.mark.parametrize(
    "other",
    [
        torch.arange(6.0).view(2, 3),
        torch.arange(6.0).double(),
        torch.arange(6.0).to(torch.bfloat16),
        torch.arange(6.0).nextafter(torch.tensor(9.0)),
        Pair(torch.arange(6.0)),
        Pair(torch.arange(6.0), torch.arange(6.0)),
    ],
)
def test_shape_type_and_every_bit_count(doubled, other):
    doubled(torch.arange(6.0))
    doubled(other)
    assert len(doubled.calls) == 2


def test_other_arguments_count_and_strided_tensors_are_seen_whole(doubled):
    x = torch.arange(12.0).view(3, 4)
    assert doubled(x, 3)[0, 1] == 3 and doubled(x, factor=2)[0, 1] == 2
    assert torch.equal(doubled(x.T), 2 * x.T)
    assert len(doubled.calls) == 3


def test_what_was_used_longest_ago_is_forgotten(doubled):
    first, second, third = (torch.full((3,), float(i)) for i in range(3))
    for x in (first, second, first, third, first, second):
        doubled(x)
    assert [x[0].item() for x in doubled.calls] == [0, 1, 2, 1]


def test_what_fails_is_not_remembered_and_what_cannot_be_hashed_is_refused():
    @remember(results=1)
    def fails(x: object) -> None:
        raise ValueError("no")

    for _ in range(2):
        with pytest.raises(ValueError, match="no"):
            fails(1)
    with pytest.raises(TypeError, match="unhashable"):
        fails([1])
