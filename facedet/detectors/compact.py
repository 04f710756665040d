"""`compact` on onnxruntime: what it finds in the looks at a photo, merged into one set of faces. Needs no torch."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import resources
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from facedet.boxes import voted_boxes
from facedet.detectors.passes import (
    NATIVE_SIDE_PX,
    SMALLEST_LOOK_PX,
    STEP_OF_ENLARGED,
    TILE_PX,
    Image,
    Pass,
    batches_of,
    enlargement,
    passes_of,
    to_input,
)
from facedet.errors import WeightsError
from facedet.faces import Faces

SAME_FACE_IOU = 0.45
MIN_SCORE = 0.4
VOTER_IOU, VOTER_SCORE = 0.6, 0.1
"""What overlaps a face this much and has this score has a say in its box, also where it is itself no face to report."""
FAINT_BOXES = 600
"""Per look, the boxes that go on to suppression, unless more reach MIN_SCORE. On wider_face/dev from score 0.02 on,
0.001 of AP less than with all of them, in half of the time."""
MODEL_PROPERTY = "crowdmood.detector"


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
        self._input = input_of(self._session)
        self._scale = scale
        self._min_score = MIN_SCORE if min_score is None else min_score
        self._min_face_px = 1 if min_face_px is None else min_face_px

    @property
    def test_scale(self) -> str:
        """At which size photos are read, for reports."""
        size = "native" if self._scale is None else f"long side at most {self._scale} px"
        factor = 1.0 if self._scale is None else enlargement(self._scale)
        looks = (
            "half and a quarter of it" if factor == 1 else f"{factor:.2g} and {factor / STEP_OF_ENLARGED:.2g} times it"
        )
        return (
            f"{size}, and at {looks} down to {SMALLEST_LOOK_PX} px, "
            f"above {NATIVE_SIDE_PX} px in tiles of {TILE_PX} and once reduced"
        )

    def detect(self, images: Sequence[Image]) -> list[Faces]:
        """One Faces per image, in order. images: upright, BGR uint8 [H, W, 3], sizes may differ."""
        found: list[list[npt.NDArray[np.float32]]] = [[] for _ in images]
        passes = (p for i, image in enumerate(images) for p in passes_of(image, photo=i, scale=self._scale))
        for batch in batches_of(passes):
            outputs = self._session.run(None, {self._input[0]: to_input(batch, self._input[1])})[0]
            for view, output in zip(batch, outputs, strict=True):
                found[view.photo].append(self._faces_of(view, output))
        return [self._merge(parts, image) for parts, image in zip(found, images, strict=True)]

    def _faces_of(self, view: Pass, output: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
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


def input_of(session: Any) -> tuple[str, type[np.uint8] | type[np.float32]]:
    """Name and type of what a session of `open_session` takes: pixels as they are where it computes in eight bits."""
    taken = session.get_inputs()[0]
    return taken.name, np.uint8 if taken.type == "tensor(uint8)" else np.float32
