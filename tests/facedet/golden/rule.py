"""One rule that fills every parameter from its name alone, and one input, for both implementations."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

import numpy as np
import numpy.typing as npt

INPUT_SIZE_HW = (224, 288)


def values_of(name: str, shape: tuple[int, ...]) -> npt.NDArray[np.float32]:
    """The values of one parameter or buffer: float32 of `shape`, scaled so that activations keep their size.

    RandomState's stream is frozen by numpy's promise, so a name means the same numbers for ever.
    """
    seed = int.from_bytes(hashlib.sha256(name.encode()).digest()[:4], "big")
    uniform = np.random.RandomState(seed).uniform(-1, 1, size=shape)
    if name.endswith("running_var"):
        return (1 + 0.4 * uniform).astype(np.float32)
    if name.endswith("norm.weight"):  # the last norm of a residual block is small: 33 blocks must not explode
        return ((0.25 if ".conv3." in name else 1.0) * (1 + 0.3 * uniform)).astype(np.float32)
    if name.endswith(("fc1.bias", "fc2.bias")):  # sparse activations, so that regions differ from each other
        return (2 * (uniform - 1)).astype(np.float32)
    if name.endswith(("running_mean", "bias")):
        return (0.1 * uniform).astype(np.float32)
    fan_in = int(np.prod(shape[1:]))
    return (_gain(name) * np.sqrt(6 / fan_in) * uniform).astype(np.float32)


def _gain(name: str) -> float:
    """Kaiming's gain for layers before a ReLU, and gains that spread scores and move boxes moderately elsewhere."""
    gains = {
        "fc1": 3.0,
        "fc2": 3.0,
        "cls_score": 0.9,
        "bbox_pred": 0.15,
        "objectness_logits": 0.4,
        "anchor_deltas": 0.05,
        "fpn_": 0.15,
    }
    return next((gain for part, gain in gains.items() if part in name), 1.0)


def image() -> npt.NDArray[np.float32]:
    """The input: smooth coloured blobs and noise, float32 [3, H, W], BGR, 0 to 255."""
    height, width = INPUT_SIZE_HW
    y, x = np.mgrid[0:height, 0:width].astype(np.float64)
    waves = [127 + 90 * np.sin(x / (9 + 4 * c)) * np.cos(y / (13 - 2 * c)) for c in range(3)]
    noise = np.random.RandomState(1).uniform(-30, 30, size=(3, height, width))
    return np.clip(np.stack(waves) + noise, 0, 255).astype(np.float32)


def norms(features: Iterable[npt.NDArray[np.float32]]) -> list[float]:
    """Root mean square of each array."""
    return [float(np.sqrt(np.mean(np.square(f, dtype=np.float64)))) for f in features]
