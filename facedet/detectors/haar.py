"""OpenCV's frontal face cascade (Viola and Jones 2001; Lienhart and Maydt 2002): needs no weights of ours.

A cascade fires on many windows around a face and on few around anything else. OpenCV's own grouping throws that
knowledge away; here the raw windows are merged and scored by their number and by the last stage's weight. All
constants were chosen by measuring: docs/haar.md.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from pathlib import Path

import cv2
import cv2.data
import numpy as np
import numpy.typing as npt

from facedet.boxes import iou_matrix, suppress_overlaps
from facedet.errors import WeightsError
from facedet.faces import Faces

CASCADE = "haarcascade_frontalface_alt2.xml"
SCALE_FACTOR = 1.1
MIN_FACE_PX = 20
MAX_SIDE_PX = 1600
LOW_CONTRAST = 16.0
"""Photos whose grey values deviate less than this (of 255) are equalised; the cascade takes them for flat otherwise."""
SAME_FACE_IOU = 0.6
"""Windows that overlap this much are votes for one face."""
MAX_IOU = 0.2
"""Of faces that overlap more, the better one stays."""
SCORE_PER_LOG_VOTE, SCORE_PER_WEIGHT, SCORE_BIAS = 1.53, 1.16, -66.4
"""Logistic regression of "is a face" on log(windows) and on the last stage's weight."""
MIN_SCORE = 0.4


class HaarDetector:
    """Faces by OpenCV's cascade; a score of 0.8 means that about 8 of 10 such boxes hold a face.

    Arguments as in `facedet.load_detector`. Safe to share between threads: calls take turns.
    Raises WeightsError when this OpenCV carries no cascades.
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
        self._max_side_px = MAX_SIDE_PX if scale is None else scale
        self._threads = threads
        self._min_score = MIN_SCORE if min_score is None else min_score
        self._min_face_px = MIN_FACE_PX if min_face_px is None else min_face_px
        self._cascade = load_cascade(CASCADE)
        self._turn = threading.Lock()

    @property
    def test_scale(self) -> str:
        """At which size photos are read, for reports."""
        return f"native, long side at most {self._max_side_px} px"

    def detect(self, images: Sequence[npt.NDArray[np.uint8]]) -> list[Faces]:
        """One Faces per image, in order. images: upright, BGR uint8 [H, W, 3] or grey [H, W], any size."""
        with self._turn:
            before = cv2.getNumThreads()
            if self._threads is not None:
                cv2.setNumThreads(self._threads)
            try:
                return [self._detect_one(image) for image in images]
            finally:
                cv2.setNumThreads(before)

    def _detect_one(self, image: npt.NDArray[np.uint8]) -> Faces:
        height, width = image.shape[:2]
        grey = image if image.ndim == 2 else cv2.cvtColor(image, cv2.COLOR_BGR2GRAY)
        factor = min(1.0, self._max_side_px / max(height, width))
        if factor < 1:
            small_wh = (max(1, round(width * factor)), max(1, round(height * factor)))
            grey = cv2.resize(grey, small_wh, interpolation=cv2.INTER_AREA)
        smallest = max(1, round(self._min_face_px * factor))
        windows_xywh, _, weights = self._cascade.detectMultiScale3(
            cv2.equalizeHist(grey) if grey.std() < LOW_CONTRAST else grey,
            scaleFactor=SCALE_FACTOR,
            minNeighbors=0,  # no grouping
            minSize=(smallest, smallest),
            outputRejectLevels=True,  # or there are no weights
        )
        windows = np.array(windows_xywh, np.float32).reshape(-1, 4) / factor
        windows[:, 2:] += windows[:, :2]
        boxes, scores = merge_windows(windows, np.array(weights, np.float32).reshape(-1))
        good = scores >= self._min_score
        return Faces.from_raw(boxes[good], scores[good], (width, height), min_side_px=self._min_face_px)


def merge_windows(
    windows_xyxy: npt.NDArray[np.float32], weights: npt.NDArray[np.float32]
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """Make faces of raw windows: boxes float32 [N, 4], the mean of a face's windows, and scores float32 [N] in (0, 1).

    windows_xyxy: float32 [M, 4]; weights: float32 [M], the cascade's certainty at its last stage.
    """
    near = iou_matrix(windows_xyxy, windows_xyxy) >= SAME_FACE_IOU
    free = np.ones(len(weights), bool)
    boxes: list[npt.NDArray[np.float32]] = []
    evidence: list[float] = []
    for leader in np.lexsort((-weights, -near.sum(1))):
        if free[leader]:
            votes = near[leader] & free
            free &= ~votes
            boxes.append(windows_xyxy[votes].mean(0))
            evidence.append(SCORE_PER_LOG_VOTE * np.log(votes.sum()) + SCORE_PER_WEIGHT * weights[votes].max())
    merged = np.array(boxes, np.float32).reshape(-1, 4)
    scores = (1 / (1 + np.exp(-(np.array(evidence) + SCORE_BIAS)))).astype(np.float32)
    kept = suppress_overlaps(merged, scores, MAX_IOU)
    return merged[kept], scores[kept]


def load_cascade(file_name: str) -> cv2.CascadeClassifier:
    """A cascade that ships with OpenCV. Raises WeightsError when it is not there or cannot be read."""
    path = Path(cv2.data.haarcascades) / file_name
    cascade = cv2.CascadeClassifier()
    try:
        readable = path.is_file() and cascade.load(str(path))
    except cv2.error:
        readable = False
    if not readable:
        raise WeightsError(f"{path}: OpenCV {cv2.__version__} has no readable cascade there")
    return cascade
