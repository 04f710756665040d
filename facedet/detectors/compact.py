"""`compact` on onnxruntime: passes over a photo at the right sizes, merged into one set of faces.

A photo within NATIVE_SIDE_PX is read as it is, and again at a half, a quarter ... of its size for its larger faces. A
larger one is read in overlapping tiles at full resolution, for its small faces, and in the same way once reduced;
memory is bounded by a tile. Needs no torch.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from facedet.boxes import voted_boxes
from facedet.errors import WeightsError
from facedet.faces import Faces

Image = npt.NDArray[np.uint8]

BLOCK_PX = 32
"""Inputs are padded to a multiple of the network's coarsest stride."""
PAD_GREY = 114
"""What the network saw beyond photos in training."""
MIN_INPUT_PX = 96
"""A photo no larger than this is enlarged twice, and gets a border if still smaller, so that a face may fill it. Of
crops of 60 px around 177 faces of wider_face/dev, 88 % give their face so, 71 % with a border alone."""
NATIVE_SIDE_PX = 1664
SMALLEST_LOOK_PX = 256
"""A photo is read again at half its size, and at half of that, until its long side is no longer than this."""
MOST_TRUSTED_PX, LEAST_TRUSTED_PX = 200.0, 24.0
"""Faces larger than that are left to the next, smaller look where there is one, smaller ones to the larger look. Of
seven pairs on wider_face/dev and Dataturks the best on both: on dev 0.839 / 0.826 / 0.708, where 200 and 16 have 0.837
/ 0.827 / 0.705 (the weights of run 7)."""
TILE_PX = 1280
TILE_OVERLAP_PX = 192
REDUCED_SIDE_PX = 1024
MOST_TRUSTED_OF_TILE_PX = 2 * LEAST_TRUSTED_PX
"""As in the reduced look: a tile shows parts of what is larger, and takes some of them for faces."""
BATCH_PIXELS = 1_600_000
"""Images of one padded size share a batch up to about this many pixels."""
SAME_FACE_IOU = 0.45
MIN_SCORE = 0.4
VOTER_IOU, VOTER_SCORE = 0.6, 0.1
"""What overlaps a face this much and has this score has a say in its box, also where it is itself no face to report."""
FAINT_BOXES = 600
"""Per look, the boxes that go on to suppression, unless more reach MIN_SCORE. On wider_face/dev from score 0.02 on,
0.001 of AP less than with all of them, in half of the time."""
MODEL_PROPERTY = "crowdmood.detector"


@dataclass(frozen=True)
class _Pass:
    """One look at a part of a photo: pixels = (photo pixels - offset) * scale + border.

    cut_sides: whether the left, top, right and bottom end of the view cut through the photo. size_px: smallest and
    largest face, as the root of its area in pixels of the view, that the view is trusted with.
    """

    photo: int
    pixels: Image
    scale: float
    offset_xy: tuple[float, float]
    border_px: int
    cut_sides: tuple[bool, bool, bool, bool]
    size_px: tuple[float, float]


class CompactDetector:
    """Faces by the project's own network. Arguments as in `facedet.load_detector`.

    weights: content of an ONNX file made by `facedet export`; where: its place, for errors. Raises WeightsError.
    """

    def __init__(
        self,
        weights: bytes,
        *,
        where: str,
        name: str = "compact",
        scale: int | None = None,
        threads: int | None = None,
        min_score: float | None = None,
        min_face_px: int | None = None,
    ) -> None:
        self.name = name
        self._session = open_session(weights, where, threads)
        self._input = self._session.get_inputs()[0].name
        self._scale = scale
        self._min_score = MIN_SCORE if min_score is None else min_score
        self._min_face_px = 1 if min_face_px is None else min_face_px

    @property
    def test_scale(self) -> str:
        """At which size photos are read, for reports."""
        size = "native" if self._scale is None else f"long side at most {self._scale} px"
        return (
            f"{size}, and at half and a quarter of it down to {SMALLEST_LOOK_PX} px, "
            f"above {NATIVE_SIDE_PX} px in tiles of {TILE_PX} and once reduced"
        )

    def detect(self, images: Sequence[Image]) -> list[Faces]:
        """One Faces per image, in order. images: upright, BGR uint8 [H, W, 3], sizes may differ."""
        found: list[list[npt.NDArray[np.float32]]] = [[] for _ in images]
        passes = (p for i, image in enumerate(images) for p in passes_of(image, photo=i, scale=self._scale))
        for batch in batches_of(passes):
            outputs = self._session.run(None, {self._input: _to_input(batch)})[0]
            for view, output in zip(batch, outputs, strict=True):
                found[view.photo].append(self._faces_of(view, output))
        return [self._merge(parts, image) for parts, image in zip(found, images, strict=True)]

    def _faces_of(self, view: _Pass, output: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """float32 [N, 5] of one pass, in pixels of the photo: x1, y1, x2, y2, score."""
        least = max(min(self._min_score, VOTER_SCORE), 1e-6)
        floor = np.log(least / (1 - least))
        output = output[output[:, 0] >= floor]
        boxes = output[:, 1:]
        height, width = view.pixels.shape[:2]
        left, top, right, bottom = view.cut_sides
        kept = ~(
            (left & (boxes[:, 0] < 2)) | (top & (boxes[:, 1] < 2))
            | (right & (boxes[:, 2] > width - 2)) | (bottom & (boxes[:, 3] > height - 2))
        )  # fmt: skip
        size = np.sqrt(((boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])).clip(min=0))
        kept &= (size >= view.size_px[0]) & (size <= view.size_px[1])
        boxes = (boxes[kept] - view.border_px) / view.scale + np.array(view.offset_xy * 2, np.float32)
        scores = 1 / (1 + np.exp(-output[kept, :1]))
        return np.concatenate([boxes, scores], 1).astype(np.float32)

    def _merge(self, parts: list[npt.NDArray[np.float32]], image: Image) -> Faces:
        size_wh = (image.shape[1], image.shape[0])
        raw = np.concatenate(parts) if parts else np.zeros((0, 5), np.float32)
        # Where many scores below the default are asked for, nearly all are noise, and suppression takes longer than the
        # network.
        sure = int((raw[:, 4] >= MIN_SCORE).sum())
        raw = raw[np.argsort(-raw[:, 4], kind="stable")[: max(sure, FAINT_BOXES * len(parts))]]
        boxes, scores = raw[:, :4], raw[:, 4]
        asked = int((scores >= self._min_score).sum())
        if asked == 0:
            return Faces.empty(size_wh)
        corner_and_size = np.concatenate([boxes[:asked, :2], boxes[:asked, 2:] - boxes[:asked, :2]], 1)
        found = cv2.dnn.NMSBoxes(corner_and_size.tolist(), scores[:asked].tolist(), 0.0, SAME_FACE_IOU)
        kept = np.array(found, np.intp).reshape(-1)
        voters = int((scores >= VOTER_SCORE).sum())
        sited = boxes[kept]
        heard = kept < voters
        sited[heard] = voted_boxes(sited[heard], boxes[:voters], scores[:voters], VOTER_IOU)
        return Faces.from_raw(sited, scores[kept], size_wh, min_side_px=self._min_face_px)


def passes_of(image: Image, *, photo: int, scale: int | None) -> Iterator[_Pass]:
    """The looks at one photo. scale: long side in pixels to reduce it to first, None for full resolution."""
    if min(image.shape[:2]) == 0:
        return
    base = 1.0
    if scale is not None and max(image.shape[:2]) > scale:
        image, base = _reduced(image, scale)
    elif max(image.shape[:2]) <= MIN_INPUT_PX:
        image, base = cv2.resize(image, None, fx=2, fy=2).astype(np.uint8, copy=False), 2.0
    height, width = image.shape[:2]
    side = max(height, width)
    if side <= NATIVE_SIDE_PX:
        yield from _looks(image, photo, base, least_px=0.0)
        return
    # What the tiles' overlap does not hold whole, the reduced look has to believe.
    reduced, ratio = _reduced(image, max(REDUCED_SIDE_PX, math.ceil(side * LEAST_TRUSTED_PX / TILE_OVERLAP_PX)))
    most_px = MOST_TRUSTED_OF_TILE_PX / ratio
    yield from _looks(reduced, photo, base * ratio, least_px=LEAST_TRUSTED_PX)
    for y in _starts(height):
        for x in _starts(width):
            tile = image[y : y + TILE_PX, x : x + TILE_PX]
            cut = (x > 0, y > 0, x + TILE_PX < width, y + TILE_PX < height)
            yield _Pass(photo, tile, base, (x / base, y / base), 0, cut, (0.0, most_px))


def _looks(image: Image, photo: int, base: float, *, least_px: float) -> Iterator[_Pass]:
    """A photo as it is, or reduced by `base`, and again and again at half the size."""
    whole = (False, False, False, False)
    border = max(0, -(-(MIN_INPUT_PX - max(image.shape[:2])) // 2))
    pixels, ratio = image if border == 0 else _bordered(image, border, border, border, border), 1.0
    while True:
        last = max(pixels.shape[:2]) <= SMALLEST_LOOK_PX
        most_px = float("inf") if last else MOST_TRUSTED_PX
        yield _Pass(photo, pixels, base * ratio, (0, 0), border, whole, (least_px, most_px))
        if last:
            return
        if min(pixels.shape[:2]) == 1:
            return
        pixels, ratio = _halved(pixels), ratio / 2
        least_px = LEAST_TRUSTED_PX


def load_compact(
    path: Path | None = None,
    *,
    scale: int | None = None,
    threads: int | None = None,
    min_score: float | None = None,
    min_face_px: int | None = None,
) -> CompactDetector:
    """The shipped detector (path None) or one exported from a run. Raises WeightsError, naming the file."""
    source = path or resources.files("facedet") / "weights" / "compact.onnx"
    try:
        weights = source.read_bytes()
    except OSError as error:
        raise WeightsError(f"{source}: cannot be read: {error.strerror}") from None
    name = "compact" if path is None else f"compact:{path.name}"
    return CompactDetector(
        weights, where=str(source), name=name,
        scale=scale, threads=threads, min_score=min_score, min_face_px=min_face_px,
    )  # fmt: skip


def open_session(weights: bytes, where: str, threads: int | None) -> Any:
    """An onnxruntime session; it has no common error class, so that whatever opening raises means damage."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    # Else its threads go on spinning after each call, and slow what comes next: the other network, other programs.
    options.add_session_config_entry("session.force_spinning_stop", "1")
    if threads is not None:
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
    try:
        session = onnxruntime.InferenceSession(weights, options, providers=["CPUExecutionProvider"])
    except Exception as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise WeightsError(
            f"{where}: damaged or no ONNX file: expected one made by `facedet export` ({reason})"
        ) from None
    made = session.get_modelmeta().custom_metadata_map.get(MODEL_PROPERTY)
    if made != "compact":
        raise WeightsError(
            f"{where}: not a compact detector: expected {MODEL_PROPERTY}=compact in its metadata, got {made!r}"
        )
    return session


def batches_of(passes: Iterator[_Pass]) -> Iterator[list[_Pass]]:
    """Passes whose padded sizes agree, up to BATCH_PIXELS together."""
    waiting: dict[tuple[int, int], list[_Pass]] = {}
    for view in passes:
        size = _padded_size(view.pixels)
        batch = waiting.setdefault(size, [])
        batch.append(view)
        if (len(batch) + 1) * size[0] * size[1] > BATCH_PIXELS:
            yield waiting.pop(size)
    yield from waiting.values()


def _padded_size(pixels: Image) -> tuple[int, int]:
    height, width = pixels.shape[:2]
    return -(-height // BLOCK_PX) * BLOCK_PX, -(-width // BLOCK_PX) * BLOCK_PX


def _to_input(batch: Sequence[_Pass]) -> npt.NDArray[np.float32]:
    """[N, 3, H, W] of views of one padded size."""
    inputs = np.full((len(batch), 3, *_padded_size(batch[0].pixels)), PAD_GREY, np.float32)
    for target, view in zip(inputs, batch, strict=True):
        height, width = view.pixels.shape[:2]
        target[:, :height, :width] = view.pixels.transpose(2, 0, 1)
    return inputs


def _bordered(image: Image, top: int, bottom: int, left: int, right: int) -> Image:
    grey = (PAD_GREY, PAD_GREY, PAD_GREY)
    return cv2.copyMakeBorder(image, top, bottom, left, right, cv2.BORDER_CONSTANT, value=grey).astype(
        np.uint8, copy=False
    )


def _reduced(image: Image, side: int) -> tuple[Image, float]:
    """The image with a long side of `side` pixels, and by which factor it was reduced.

    By halves, then bilinearly: as good as the mean over areas for the network, and ten times as fast.
    """
    factor = 1.0
    while max(image.shape[:2]) >= 2 * side and min(image.shape[:2]) > 1:
        image, factor = _halved(image), factor / 2
    ratio = side / max(image.shape[:2])
    size = (max(1, round(image.shape[1] * ratio)), max(1, round(image.shape[0] * ratio)))
    return cv2.resize(image, size, interpolation=cv2.INTER_LINEAR).astype(np.uint8, copy=False), factor * ratio


def _halved(image: Image) -> Image:
    """Means of 2 x 2 pixels; of an odd row or column the last is left out. Both sides are at least 2."""
    height, width = image.shape[0] // 2, image.shape[1] // 2
    even = image[: 2 * height, : 2 * width]
    return cv2.resize(even, (width, height), interpolation=cv2.INTER_AREA).astype(np.uint8, copy=False)


def _starts(length: int) -> list[int]:
    """Starts of the tiles that cover `length`, evenly spread, overlapping by at least TILE_OVERLAP_PX."""
    if length <= TILE_PX:
        return [0]
    count = -(-(length - TILE_OVERLAP_PX) // (TILE_PX - TILE_OVERLAP_PX))
    return [round(i * (length - TILE_PX) / (count - 1)) for i in range(count)]
