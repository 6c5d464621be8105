"""What the steps of an RLDS data set consist of: from the features.json of TensorFlow Datasets, and in a record."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

OBSERVATION = "observation/"


@dataclass(frozen=True)
class Feature:
    """Feature of a step.

    Attributes:
        kind: Whether it is a picture, numbers, or something else (a text, a sequence).
        shape: Its shape, -1 where it varies.
        dtype: Its type.
    """

    kind: Literal["image", "numbers", "other"]
    shape: tuple[int, ...] = ()
    dtype: str = ""

    @property
    def dim(self) -> int:
        """Return how many numbers it has."""
        return math.prod(self.shape)

    def __str__(self) -> str:
        """Return type and shape."""
        return f"{self.dtype or self.kind}{list(self.shape) or ''}"


def read_features(path: Path) -> dict[str, Feature]:
    """Return features of a step by name, nested ones as group/name.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It is damaged, or not that of an RLDS data set.
    """
    if not path.is_file():
        raise FileNotFoundError(f"No {path}, which says what the records hold. Copy it from the data set.")
    try:
        steps = json.loads(path.read_text())["featuresDict"]["features"]["steps"]["sequence"]["feature"]
        return _flat(steps)
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path} has no steps as RLDS data sets have ({error!r}).") from error


def _flat(node: dict[str, Any], name: str = "") -> dict[str, Feature]:
    if "featuresDict" in node:
        found: dict[str, Feature] = {}
        for key, each in node["featuresDict"]["features"].items():
            found |= _flat(each, f"{name}/{key}" if name else key)
        return found
    for key, kind in _KINDS.items():
        if key in node:
            shape = tuple(int(each) for each in node[key]["shape"].get("dimensions", []))
            is_text = node[key]["dtype"] in ("string", "object")
            return {name: Feature("other" if is_text else kind, shape, node[key]["dtype"])}
    return {name: Feature("other")}


_KINDS: dict[str, Literal["image", "numbers"]] = {"image": "image", "tensor": "numbers"}


def step_images(features: dict[str, Any], image: str) -> Sequence[bytes]:
    """Return image files of all steps of a record.

    Raises:
        ValueError: There are none.
    """
    images: Sequence[bytes] = _feature(features, f"steps/{OBSERVATION}{image}").bytes_list.value
    return images


def is_blank(pictures: Sequence[bytes]) -> bool:
    """Return whether all are one picture, byte for byte; those of a camera are not, for their noise."""
    return len(pictures) > 1 and all(picture == pictures[0] for picture in pictures)


def step_numbers(features: dict[str, Any], name: str, dim: int, steps: int) -> np.ndarray:
    """Return numbers of all steps of a record, (steps, dim) float32.

    Raises:
        ValueError: They are not finite, or not as many.
    """
    feature = _feature(features, f"steps/{name}")
    values = feature.float_list.value or feature.int64_list.value  # the other list is empty
    if len(values) != steps * dim:
        raise ValueError(f"{name!r} has {len(values)} numbers, expected {dim} for each of {steps} pictures")
    rows = np.array(values, np.float32).reshape(steps, dim)
    for step, number in np.argwhere(~np.isfinite(rows))[:1]:
        raise ValueError(f"number {number} of {name!r} is {rows[step, number]} in step {step}, expected finite numbers")
    return rows


def _feature(features: dict[str, Any], name: str) -> Any:
    if name not in features:
        raise ValueError(f"the record has no feature {name}, it has: {', '.join(sorted(features))}")
    return features[name]
