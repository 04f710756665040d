"""THE one place where a box becomes the 48x48 grey crop that the emotion classifier sees.

FER-2013's faces, on which the classifier was trained, were cut out by OpenCV's cascade: square, from the eyebrows to
the chin. Detectors draw other boxes, so each has its own rule. To change where a crop lies, edit `CROP_RULES`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import cv2
import numpy as np
import numpy.typing as npt

CROP_SIDE_PX = 48
"""Width and height of a crop: FER-2013's own."""

Side = Literal["mean", "width", "height", "max", "min"]
Padding = Literal["replicate", "reflect", "black"]
Grey = Literal["luma", "mean", "green"]
Resampling = Literal["cubic", "linear", "lanczos", "nearest"]


@dataclass(frozen=True)
class CropRule:
    """How a detector's box becomes a square.

    side: which side of the box the square is measured by ("mean": of width and height). scale: the square's side over
    that. shift_y: the square's centre below the box's centre (negative: above), as a part of the square's side.
    padding: what lies outside the photo. grey: how a pixel of a colour photo becomes grey ("luma": as OpenCV and
    Pillow do it). resampling: how a smaller square is enlarged; a larger one is always averaged down.
    """

    side: Side = "mean"
    scale: float = 1.0
    shift_y: float = 0.0
    padding: Padding = "replicate"
    grey: Grey = "luma"
    resampling: Resampling = "cubic"


CROP_RULES: dict[str, CropRule] = {
    "haar": CropRule(side="mean", scale=1.0, shift_y=0.0),
    "compact": CropRule(side="mean", scale=1.05, shift_y=0.0),
    "faster_rcnn": CropRule(side="width", scale=0.95, shift_y=0.0),
}
"""By how a detector's name begins; the longest match counts. faster_rcnn's fits Dataturks, whose boxes are tall."""

DEFAULT_RULE = CROP_RULES["compact"]
"""For detectors that have no rule of their own: a box around the whole head front is what most of them draw."""

_BORDERS: dict[Padding, int] = {
    "replicate": cv2.BORDER_REPLICATE,
    "reflect": cv2.BORDER_REFLECT_101,
    "black": cv2.BORDER_CONSTANT,
}
_ENLARGED: dict[Resampling, int] = {
    "cubic": cv2.INTER_CUBIC,
    "linear": cv2.INTER_LINEAR,
    "lanczos": cv2.INTER_LANCZOS4,
    "nearest": cv2.INTER_NEAREST,
}


def rule_for(detector_name: str, rules: Mapping[str, CropRule] = CROP_RULES) -> CropRule:
    """The rule of a detector by its name, such as faster_rcnn_x101_fpn; `DEFAULT_RULE` for a name that has none."""
    names = [name for name in rules if detector_name.startswith(name)]
    return rules[max(names, key=len)] if names else DEFAULT_RULE


def crop_faces(
    image: npt.NDArray[np.uint8], boxes_xyxy: npt.NDArray[np.float32], *, rule: CropRule, side_px: int = CROP_SIDE_PX
) -> list[npt.NDArray[np.uint8]]:
    """Cut out every box of an image, BGR uint8 [H, W, 3] or grey [H, W]. Returns N crops, uint8 [side_px, side_px].

    boxes_xyxy: float [N, 4], pixels, x1 < x2 and y1 < y2; squares may reach outside the image.
    """
    return [_crop(image, square, rule, side_px) for square in square_boxes(boxes_xyxy, rule=rule).tolist()]


def square_boxes(boxes_xyxy: npt.NDArray[np.float32], *, rule: CropRule) -> npt.NDArray[np.float64]:
    """The squares that are cut out, float [N, 4] xyxy pixels, not clipped to the image."""
    x1, y1, x2, y2 = np.asarray(boxes_xyxy, np.float64).reshape(-1, 4).T
    width, height = x2 - x1, y2 - y1
    sides: dict[Side, npt.NDArray[np.float64]] = {
        "mean": (width + height) / 2,
        "width": width,
        "height": height,
        "max": np.maximum(width, height),
        "min": np.minimum(width, height),
    }
    side = sides[rule.side] * rule.scale
    centre_x, centre_y = (x1 + x2) / 2, (y1 + y2) / 2 + rule.shift_y * side
    return np.stack([centre_x - side / 2, centre_y - side / 2, centre_x + side / 2, centre_y + side / 2], axis=1)


def _crop(image: npt.NDArray[np.uint8], square: list[float], rule: CropRule, side_px: int) -> npt.NDArray[np.uint8]:
    height, width = image.shape[:2]
    side = max(1, round(square[2] - square[0]))
    left, top = round(square[0]), round(square[1])
    x1, y1 = min(max(left, 0), width - 1), min(max(top, 0), height - 1)
    x2, y2 = max(min(left + side, width), x1 + 1), max(min(top + side, height), y1 + 1)
    grey = _grey(image[y1:y2, x1:x2], rule.grey)
    margins = (max(y1 - top, 0), max(top + side - y2, 0), max(x1 - left, 0), max(left + side - x2, 0))
    if any(margins):
        border = "replicate" if rule.padding == "reflect" and min(grey.shape) == 1 else rule.padding
        grey = np.asarray(cv2.copyMakeBorder(grey, *margins, borderType=_BORDERS[border], value=0), np.uint8)
    how = cv2.INTER_AREA if grey.shape[0] > side_px else _ENLARGED[rule.resampling]
    return np.asarray(cv2.resize(grey, (side_px, side_px), interpolation=how), np.uint8)


def _grey(pixels: npt.NDArray[np.uint8], kind: Grey) -> npt.NDArray[np.uint8]:
    """uint8 [H, W] of BGR [H, W, 3]; grey pixels stay as they are."""
    if pixels.ndim == 2:
        return pixels
    if kind == "luma":
        return np.asarray(cv2.cvtColor(pixels, cv2.COLOR_BGR2GRAY), np.uint8)
    return pixels[:, :, 1] if kind == "green" else pixels.mean(axis=2).round().astype(np.uint8)
