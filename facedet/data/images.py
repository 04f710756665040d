"""Read a photo file, or say which one cannot be read."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from facedet.errors import DataError


def read_photo(path: Path) -> npt.NDArray[np.uint8]:
    """BGR uint8 [H, W, 3], upright (EXIF orientation applied); DataError naming the file when it cannot be read."""
    try:
        data = np.fromfile(path, np.uint8)
    except OSError as e:
        raise DataError(f"{path}: cannot read: {e.strerror}") from e
    try:
        image = cv2.imdecode(data, cv2.IMREAD_COLOR) if data.size else None
    except cv2.error as e:  # more pixels than OpenCV takes
        raise DataError(f"{path}: expected an image of at most 2**30 pixels, could not decode it") from e
    if image is None:
        raise DataError(f"{path}: expected an image, could not decode it")
    return image.astype(np.uint8, copy=False)
