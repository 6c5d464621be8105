"""Results of a function of tensors, remembered by what is in them: rows of a table ask much the same of the same clips."""

from __future__ import annotations

import functools
import hashlib
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterable
from typing import ParamSpec, TypeVar

import torch
from torch import Tensor

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")


def remember(results: int) -> Callable[[Callable[Arguments, Result]], Callable[Arguments, Result]]:
    """Make a function that is determined by its arguments compute each result once, and hand out the same object again.

    Arguments may be tensors, tuples of arguments, and what can be hashed. Nobody may change a result.

    Args:
        results: How many results are kept; those used longest ago are forgotten.
    """

    def decorate(function: Callable[Arguments, Result]) -> Callable[Arguments, Result]:
        known: OrderedDict[Hashable, Result] = OrderedDict()

        @functools.wraps(function)
        def remembering(*args: Arguments.args, **kwargs: Arguments.kwargs) -> Result:
            key = _key((*args, *sorted(kwargs.items())))
            if key in known:
                known.move_to_end(key)
            else:
                known[key] = function(*args, **kwargs)
                if len(known) > results:
                    known.popitem(last=False)
            return known[key]

        return remembering

    return decorate


def _key(arguments: Iterable[object]) -> Hashable:
    """Return what stands for arguments: type, shape and SHA-256 of a tensor, other things themselves."""
    found: list[Hashable] = []
    for argument in arguments:
        if isinstance(argument, Tensor):
            content = argument.detach().cpu().contiguous().flatten().view(torch.uint8).numpy()
            found.append((argument.dtype, tuple(argument.shape), hashlib.sha256(content.data).digest()))
        elif isinstance(argument, tuple):
            found.append((type(argument), _key(argument)))
        else:
            hash(argument)  # says so where it cannot be hashed
            found.append(argument)
    return tuple(found)
