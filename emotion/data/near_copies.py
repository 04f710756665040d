"""The same photo in two splits, cut or saved a little differently, which a comparison of bytes does not see."""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt

from emotion.data.fer2013 import FerSplit

SIDE_PX = 24
"""Compared are reductions to this size: a shift by a pixel of 48 still correlates."""
SAME_PHOTO = 0.94
"""Correlation of grey values from which two faces count as one photo. Of 32 pairs of PublicTest and Training between
0.90 and 0.94 most were, too, of 16 between 0.85 and 0.88 less than half: what is found is fewer than there are."""
ROWS = 512
"""Images that are compared with all others at a time."""


def near_copies(split: FerSplit, train: FerSplit) -> npt.NDArray[np.bool_]:
    """bool [N]: which images of `split` show a photo that is in `train`, its byte-identical copies among them."""
    theirs = _patterns(train.images).T
    mine = _patterns(split.images)
    closest = [(mine[i : i + ROWS] @ theirs).max(1) for i in range(0, len(mine), ROWS)]
    found: npt.NDArray[np.bool_] = np.concatenate(closest) >= SAME_PHOTO
    return found


def _patterns(images: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
    """float32 [N, SIDE_PX ** 2], of mean 0 and length 1 (an even grey: 0), so that products are correlations."""
    reduced = [cv2.resize(image, (SIDE_PX, SIDE_PX), interpolation=cv2.INTER_AREA) for image in images]
    flat = np.stack(reduced).reshape(len(images), -1).astype(np.float32)
    flat -= flat.mean(1, keepdims=True)
    patterns: npt.NDArray[np.float32] = flat / np.maximum(np.linalg.norm(flat, axis=1, keepdims=True), 1e-6)
    return patterns
