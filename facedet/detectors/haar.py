"""OpenCV's frontal face cascade (Viola and Jones 2001; Lienhart and Maydt 2002): needs no weights of ours."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from facedet.errors import WeightsError
from facedet.faces import Faces

CASCADE = "haarcascade_frontalface_alt2.xml"
SCALE_FACTOR = 1.1
MIN_NEIGHBOURS = 3
MIN_FACE_PX = 20
MAX_SIDE = 1600
MERGE_IOU = 0.3


class HaarDetector:
    """Faces by OpenCV's cascade, with a score per face. Safe to share between threads: calls take turns.

    Arguments as in `facedet.load_detector`. Raises WeightsError when this OpenCV carries no cascades.
    """

    name = "haar"

    def __init__(
        self,
        *,
        scale: int | None = None,
        threads: int | None = None,
        min_score: float | None = None,
        min_face_px: int | None = None,
    ) -> None:
        self._max_side = MAX_SIDE if scale is None else scale
        self._threads = threads
        self._min_score = 0.0 if min_score is None else min_score
        self._min_face_px = MIN_FACE_PX if min_face_px is None else min_face_px
        self._cascade = load_cascade(CASCADE)
        self._lock = threading.Lock()

    def detect(self, images: Sequence[npt.NDArray[np.uint8]]) -> list[Faces]:
        """One Faces per image, in order. images: upright, BGR uint8 [H, W, 3] or grey [H, W]."""
        with self._lock:
            before = cv2.getNumThreads()
            if self._threads is not None:
                cv2.setNumThreads(self._threads)
            try:
                return [self._detect_one(image) for image in images]
            finally:
                cv2.setNumThreads(before)

    def _detect_one(self, image: npt.NDArray[np.uint8]) -> Faces:
        height, width = image.shape[:2]
        factor = min(1.0, self._max_side / max(height, width))
        grey = image if image.ndim == 2 else cv2.cvtColor(image, cv2.COLOR_BGR2GRAY)
        if factor < 1:
            grey = cv2.resize(grey, None, fx=factor, fy=factor, interpolation=cv2.INTER_AREA)
        smallest = max(1, round(self._min_face_px * factor))
        if min(grey.shape[:2]) < smallest:
            return Faces.empty((width, height))
        boxes_xywh, levels, weights = self._cascade.detectMultiScale3(
            cv2.equalizeHist(grey),
            scaleFactor=SCALE_FACTOR,
            minNeighbors=MIN_NEIGHBOURS,
            minSize=(smallest, smallest),
            outputRejectLevels=True,
        )
        xywh = np.array(boxes_xywh, np.float32).reshape(-1, 4) / factor
        xyxy = np.concatenate([xywh[:, :2], xywh[:, :2] + xywh[:, 2:]], 1)
        scores = 1 / (1 + np.exp(-np.array(weights, np.float32).reshape(-1)))
        return Faces.from_raw(xyxy, scores, (width, height), min_side_px=self._min_face_px)


def load_cascade(file_name: str) -> cv2.CascadeClassifier:
    """A cascade that ships with OpenCV. Raises WeightsError when it is not there or cannot be read."""
    path = Path(cv2.data.haarcascades) / file_name
    cascade = cv2.CascadeClassifier()
    if not path.is_file() or not cascade.load(str(path)):
        raise WeightsError(f"{path}: OpenCV {cv2.__version__} has no readable cascade there")
    return cascade
