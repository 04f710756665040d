"""Contact sheets: many photos with boxes, or many cut-outs, on one picture."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from facedet.data.whole_file import write_whole
from facedet.errors import DataError

Image = npt.NDArray[np.uint8]
Colour = tuple[int, int, int]

GREEN: Colour = (80, 200, 60)
RED: Colour = (50, 50, 230)
BLUE: Colour = (230, 150, 40)
GREY: Colour = (160, 160, 160)
BACKGROUND = 32
CAPTION_PX = 18


def draw_boxes(
    image: Image, boxes_xyxy: npt.NDArray[np.float32], colour: Colour, *, labels: Sequence[str] = ()
) -> Image:
    """A copy of `image` (BGR uint8) with boxes, lines as thick as its size asks for, and a short text above each."""
    canvas = image.copy()
    thickness = max(1, round(max(image.shape[:2]) / 300))
    for i, box in enumerate(boxes_xyxy):
        x1, y1, x2, y2 = (round(float(v)) for v in box)
        cv2.rectangle(canvas, (x1, y1), (x2, y2), colour, thickness)
        if i < len(labels) and labels[i]:
            at, size = (x1, max(y1 - 3, 12)), 0.4 * thickness
            cv2.putText(canvas, labels[i], at, cv2.FONT_HERSHEY_SIMPLEX, size, colour, thickness, cv2.LINE_AA)
    return canvas


def tile(image: Image, *, side_px: int, caption: str = "") -> Image:
    """`image` fitted into a square of `side_px` on a dark ground, with a caption below: uint8 [side + 18, side, 3]."""
    canvas = np.full((side_px + CAPTION_PX, side_px, 3), BACKGROUND, np.uint8)
    factor = side_px / max(image.shape[:2])
    width, height = (max(1, min(side_px, round(n * factor))) for n in (image.shape[1], image.shape[0]))
    small = cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA if factor < 1 else cv2.INTER_CUBIC)
    x, y = (side_px - width) // 2, (side_px - height) // 2
    canvas[y : y + height, x : x + width] = small
    text = caption.encode("ascii", "replace").decode()[: max(4, side_px // 6)]
    cv2.putText(canvas, text, (3, side_px + 13), cv2.FONT_HERSHEY_SIMPLEX, 0.38, (230, 230, 230), 1, cv2.LINE_AA)
    return canvas


def cut_out(image: Image, box_xyxy: npt.NDArray[np.float32], *, margin: float = 0.6) -> tuple[Image, tuple[int, int]]:
    """The surroundings of a box, `margin` of its longer side around it, and the corner (x, y) they start at."""
    x1, y1, x2, y2 = (float(v) for v in box_xyxy)
    pad = margin * max(x2 - x1, y2 - y1) + 4
    height, width = image.shape[:2]
    left, top = int(max(0, min(x1 - pad, width - 1))), int(max(0, min(y1 - pad, height - 1)))
    right, bottom = int(min(width, max(x2 + pad, left + 1))), int(min(height, max(y2 + pad, top + 1)))
    return image[top:bottom, left:right], (left, top)


def spot_tile(
    image: Image,
    spot_xyxy: npt.NDArray[np.float32],
    layers: Sequence[tuple[npt.NDArray[np.float32], Colour]],
    *,
    side_px: int = 200,
    caption: str = "",
) -> Image:
    """A tile of the surroundings of a box, enlarged, with the boxes of each layer drawn in its colour."""
    view, (left, top) = cut_out(image, spot_xyxy)
    factor = side_px / max(view.shape[:2])
    canvas = tile(view, side_px=side_px, caption=caption)
    shift = np.array([left, top, left, top], np.float32)
    offset = np.array([(side_px - round(n * factor)) // 2 for n in (view.shape[1], view.shape[0])] * 2, np.float32)
    for boxes, colour in layers:
        canvas[:side_px] = draw_boxes(canvas[:side_px], (boxes - shift) * factor + offset, colour)
    return canvas


def contact_sheet(tiles: Sequence[Image], *, columns: int = 6) -> Image:
    """Tiles of one size in rows; a small empty picture when there are none."""
    if not tiles:
        return np.full((64, 256, 3), BACKGROUND, np.uint8)
    columns = min(columns, len(tiles))
    rows = -(-len(tiles) // columns)
    height, width = tiles[0].shape[:2]
    sheet = np.full((rows * height, columns * width, 3), BACKGROUND, np.uint8)
    for i, one in enumerate(tiles):
        r, c = divmod(i, columns)
        sheet[r * height : (r + 1) * height, c * width : (c + 1) * width] = one
    return sheet


def write_image(path: Path, image: Image) -> None:
    """Write by the suffix of `path`; DataError when the suffix or the folder cannot be written."""
    try:
        good, data = cv2.imencode(path.suffix, image)
    except cv2.error as e:
        raise DataError(f"{path}: expected a suffix of an image format, such as .jpg") from e
    if not good:
        raise DataError(f"{path}: the image could not be encoded")
    try:
        write_whole(path, data.tobytes())
    except OSError as e:
        raise DataError(f"{path}: cannot be written: {e.strerror}") from e
