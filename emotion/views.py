"""From a face crop to what a network sees. The one place where prediction prepares its input; numpy and OpenCV only."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import cv2
import numpy as np
import numpy.typing as npt

from emotion.card import ModelCard
from emotion.data.fer2013 import SIDE
from emotion.errors import DataError


def grey_faces(crops: Sequence[npt.NDArray[np.uint8]]) -> npt.NDArray[np.uint8]:
    """Crops of any size as uint8 [N, 48, 48] grey.

    crops: uint8 [H, W] grey or [H, W, 3] BGR. A crop that is not square is squeezed: cut squares for best results.
    Raises DataError, naming the crop by its index, when shape or type differ.
    """
    faces = np.empty((len(crops), SIDE, SIDE), np.uint8)
    for i, crop in enumerate(crops):
        faces[i] = _grey_face(crop, i)
    return faces


def _grey_face(crop: npt.NDArray[np.uint8], index: int) -> npt.NDArray[np.uint8]:
    good_shape = crop.ndim == 2 or (crop.ndim == 3 and crop.shape[2] == 3)
    if crop.dtype != np.uint8 or not good_shape or crop.size == 0:
        raise DataError(
            f"crop {index}: expected uint8 [H, W] grey or [H, W, 3] BGR with at least one pixel, "
            f"got {crop.dtype} {list(crop.shape)}"
        )
    grey = cv2.cvtColor(crop, cv2.COLOR_BGR2GRAY).astype(np.uint8, copy=False) if crop.ndim == 3 else crop
    return _resized(grey, SIDE)


def _resized(image: npt.NDArray[np.uint8], side: int) -> npt.NDArray[np.uint8]:
    if image.shape == (side, side):
        return image
    shrinking = min(image.shape) > side
    resized = cv2.resize(image, (side, side), interpolation=cv2.INTER_AREA if shrinking else cv2.INTER_LINEAR)
    return resized.astype(np.uint8, copy=False)


def centre_view(faces: npt.NDArray[np.uint8], size: int, *, view: float) -> npt.NDArray[np.float32]:
    """The middle `view` of faces uint8 [N, 48, 48] as network input float32 [N, 1, size, size] in [0, 1]."""
    margin = _margin(view)
    return _shifted_view(faces, size, margin=margin, top=margin, left=margin)


def mean_logits(
    run: Callable[[npt.NDArray[np.float32]], npt.NDArray[np.float32]],
    faces: npt.NDArray[np.uint8],
    *,
    card: ModelCard,
    test_time: str | None = None,
    batch: int = 64,
) -> npt.NDArray[np.float32]:
    """Logits float32 [N, classes] of faces uint8 [N, 48, 48], averaged over the test-time views.

    run: network input float32 [n, 1, size, size] -> logits [n, classes]. test_time: a mode of `TEST_TIME_MODES`
    instead of the card's. batch: faces per call of `run`.
    """
    mode = used_test_time(card, test_time)
    parts = []
    for start in range(0, len(faces), batch):
        views = [run(view) for view in _views(faces[start : start + batch], card, mode)]
        parts.append(np.mean(views, axis=0, dtype=np.float32))
    return np.concatenate(parts) if parts else np.zeros((0, len(card.labels)), np.float32)


def probabilities(logits: npt.NDArray[np.float32], *, temperature: float = 1.0) -> npt.NDArray[np.float32]:
    """Softmax of logits [N, classes] divided by the temperature, float32."""
    scaled = logits.astype(np.float64) / temperature
    powers = np.exp(scaled - scaled.max(1, keepdims=True))
    shares: npt.NDArray[np.float32] = (powers / powers.sum(1, keepdims=True)).astype(np.float32)
    return shares


def used_test_time(card: ModelCard, mode: str | None = None) -> str:
    """The views that faces are really scored with: "ten" crops of a whole face are one, and so "flip".

    mode: of `TEST_TIME_MODES`, instead of the card's.
    """
    mode = card.test_time if mode is None else mode
    return "flip" if mode == "ten" and _margin(card.view) == 0 else mode


def _views(faces: npt.NDArray[np.uint8], card: ModelCard, mode: str) -> Iterator[npt.NDArray[np.float32]]:
    margin = _margin(card.view)
    corners = [(margin, margin)]
    if mode == "ten":
        corners += [(0, 0), (0, 2 * margin), (2 * margin, 0), (2 * margin, 2 * margin)]
    for top, left in corners:
        view = _shifted_view(faces, card.input_size, margin=margin, top=top, left=left)
        yield view
        if mode != "none":
            yield np.ascontiguousarray(view[..., ::-1])


def _margin(view: float) -> int:
    return round(SIDE * (1 - view) / 2)


def _shifted_view(
    faces: npt.NDArray[np.uint8], size: int, *, margin: int, top: int, left: int
) -> npt.NDArray[np.float32]:
    shown = SIDE - 2 * margin
    crops = faces[:, top : top + shown, left : left + shown]
    if shown != size:
        crops = np.stack([_resized(np.ascontiguousarray(crop), size) for crop in crops])
    return crops[:, None].astype(np.float32) / np.float32(255)
