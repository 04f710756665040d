"""Fake models whose answers can be worked out by hand, photos made on the spot, and a tiny real weight file."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

import emotion
import facedet
from pipeline.crowd_pipeline import CrowdPipeline
from pipeline.fallback import DetectorChain
from pipeline.reading import FaceReading, PhotoReading


class SquareDetector:
    """Finds a face wherever a column of 40 x 40 px fits: boxes at x = 0, 40, 80, ... in the top row."""

    name = "squares"

    def detect(self, images: Sequence[npt.NDArray[np.uint8]]) -> list[facedet.Faces]:
        found = []
        for image in images:
            height, width = image.shape[:2]
            lefts = range(0, width - 39, 40) if height >= 40 else []
            boxes = [[x, 0, x + 40, 40] for x in lefts]
            scores = np.linspace(0.9, 0.5, len(boxes))
            found.append(facedet.Faces.from_raw(np.array(boxes), scores, (width, height)))
        return found


class FailingDetector:
    """Fails on photos wider than `limit` px."""

    name = "failing"

    def __init__(self, limit: int = 0) -> None:
        self.limit = limit

    def detect(self, images: Sequence[npt.NDArray[np.uint8]]) -> list[facedet.Faces]:
        if any(image.shape[1] > self.limit for image in images):
            raise RuntimeError("out of luck")
        return SquareDetector().detect(images)


class BrightnessClassifier:
    """The emotion's column grows with the crop's mean brightness: 0 angry ... 255 neutral. Remembers its calls."""

    identity = "brightness@0123456789ab"

    def __init__(self) -> None:
        self.calls: list[list[npt.NDArray[np.uint8]]] = []

    def classify(self, crops: Sequence[npt.NDArray[np.uint8]]) -> emotion.Expressions:
        self.calls.append(list(crops))
        rows = np.full((len(crops), 7), 0.05, np.float32)
        for row, crop in zip(rows, crops, strict=True):
            row[min(6, int(crop.mean() / 256 * 7))] = 0.7
        return emotion.Expressions(rows)


def make_chain(detectors: dict[str, Any] | None = None, *, allow_fallback: bool = True) -> DetectorChain:
    """A chain of detectors by name, the first one wanted; a value that is an exception fails to load."""
    known = detectors if detectors is not None else {"squares": SquareDetector()}

    def load(name: str) -> facedet.FaceDetector:
        made = known[name]
        if isinstance(made, Exception):
            raise made
        return made  # type: ignore[no-any-return]

    return DetectorChain(next(iter(known)), load, allow_fallback=allow_fallback)


def make_pipeline(detectors: dict[str, Any] | None = None, **settings: Any) -> CrowdPipeline:
    allow = settings.pop("allow_fallback", True)
    return CrowdPipeline(make_chain(detectors, allow_fallback=allow), BrightnessClassifier(), **settings)


def grey_image(width: int = 100, height: int = 60, value: int = 128) -> npt.NDArray[np.uint8]:
    """uint8 [height, width, 3] of one grey."""
    return np.full((height, width, 3), value, np.uint8)


def save_photo(path: Path, width: int = 100, height: int = 60, value: int = 128) -> Path:
    """A plain photo in the format of the path's suffix; makes folders."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(grey_image(width, height, value)).save(path)
    return path


def corner_image(mode: str = "RGB") -> Image.Image:
    """64 x 48, dark but for a bright block in the top left corner; distinguishes all eight orientations."""
    pixels = np.full((48, 64, 3), 30, np.uint8)
    pixels[:16, :32] = 220
    return Image.fromarray(pixels).convert(mode)


def encoded(image: Image.Image, kind: str, **options: Any) -> bytes:
    """A PIL image as the bytes of a file."""
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def make_face(
    box: tuple[float, float, float, float] = (10, 10, 50, 50), emotion_name: str | None = "happy", score: float = 0.9
) -> FaceReading:
    """A face; with emotion_name None one that is too small to be judged."""
    if emotion_name is None:
        return FaceReading(box, score, None)
    shares = {name: 0.7 if name == emotion_name else 0.05 for name in emotion.EMOTIONS}
    return FaceReading(box, score, shares)


def make_reading(source: str = "a.jpg", faces: Sequence[FaceReading] = (), **changes: Any) -> PhotoReading:
    values: dict[str, Any] = {
        "width": 200,
        "height": 100,
        "detector": "squares",
        "emotion_model": "brightness@0123456789ab",
        "elapsed_ms": 12.5,
    }
    return PhotoReading(source, faces=tuple(faces), **{**values, **changes})


def tiny_classifier(path: Path) -> Path:
    """An ONNX file that `emotion.load_classifier` takes: seven multiples of the crop's mean brightness."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    from emotion.card import ModelCard

    weights = numpy_helper.from_array(np.linspace(-2, 2, 7, dtype=np.float32).reshape(1, 7), "weights")
    graph = helper.make_graph(
        [
            helper.make_node("GlobalAveragePool", ["faces"], ["means"]),
            helper.make_node("Flatten", ["means"], ["flat"]),
            helper.make_node("MatMul", ["flat", "weights"], ["logits"]),
        ],
        "tiny",
        [helper.make_tensor_value_info("faces", TensorProto.FLOAT, ["n", 1, 48, 48])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["n", 7])],
        [weights],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    card = ModelCard("tiny", emotion.EMOTIONS, 48, 1.0)
    helper.set_model_props(model, card.to_properties())
    onnx.save(model, path)
    return path


def annotate_command(photos: Path | str, out: Path, weights: Path, *options: str) -> list[str]:
    """The words of a run of `crowdmood annotate` with haar."""
    return ["annotate", str(photos), "-o", str(out), "--emotion", str(weights), "--detector", "haar", *options]
