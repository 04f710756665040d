"""Faster R-CNN from a checkpoint, trained by either engine; see `facedet.models.faster_rcnn`."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch import Tensor

from facedet.checkpoint import ANCHOR_NAMES, Checkpoint, load_into, read_checkpoint
from facedet.errors import ConfigError, WeightsError
from facedet.faces import Faces
from facedet.models.anchors import Anchors
from facedet.models.compact import depths_of
from facedet.models.faster_rcnn import (
    FASTER_RCNNS,
    PRESETS,
    FasterRCNN,
)
from facedet.models.fpn import STRIDES
from facedet.models.inference import prepare_for_inference

SHORT_PX, LONG_PX = 800, 1333
"""Test scale of checkpoints that name none, as in Detectron2."""
MIN_SCORE = 0.5


class FasterRCNNDetector:
    """Faces by a Faster R-CNN checkpoint (.pth of this package or of Detectron2, or the zoo's .pkl).

    Photos are resized to the checkpoint's test scale as in Detectron2: short side to `short_px` unless the long one
    would pass `long_px`. `scale` instead only reduces, to that long side. Other arguments as in
    `facedet.load_detector`. batch_size: photos per forward pass. device: "cpu", "cuda" or None for the best present.
    Safe to share between threads: calls take turns. Raises WeightsError.
    """

    def __init__(
        self,
        path: str | Path,
        *,
        scale: int | None = None,
        threads: int | None = None,
        min_score: float | None = None,
        min_face_px: int | None = None,
        batch_size: int = 1,
        device: str | None = None,
    ) -> None:
        checkpoint = read_checkpoint(path)
        about = checkpoint.about or inferred_about(checkpoint)
        self._min_score = float(about.get("min_score", MIN_SCORE)) if min_score is None else min_score
        model = build_model(about, checkpoint, min_score=self._min_score)
        load_into(model, checkpoint, strict=True)
        self._device = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
        float32_cpu = self._device.type == "cpu" and not native_bfloat16(self._device)
        self._model = prepare_for_inference(model.to(self._device), float32_cpu=float32_cpu)
        self._short_px, self._long_px = scale_of(about)
        self._scale = scale
        self._threads = threads
        self._min_face_px = min_face_px or 1
        self._batch_size = batch_size
        self._turn = threading.Lock()
        self.name = str(about["model"])

    @property
    def test_scale(self) -> str:
        """At which size photos are read, for reports."""
        if self._scale is not None:
            return f"long side at most {self._scale} px"
        return f"short side {self._short_px} px, long side at most {self._long_px} px"

    def detect(self, images: Sequence[npt.NDArray[np.uint8]]) -> list[Faces]:
        """One Faces per image, in order. images: upright, BGR uint8 [H, W, 3], sizes may differ."""
        found: list[Faces] = []
        with self._turn, _threads(self._threads), torch.inference_mode(), self._precision():
            for start in range(0, len(images), self._batch_size):
                batch = images[start : start + self._batch_size]
                found += find_faces(self._model, batch, self._size_wh, min_side_px=self._min_face_px)
        return found

    def _size_wh(self, width: int, height: int) -> tuple[int, int]:
        if self._scale is None:
            return network_size_wh(width, height, short_px=self._short_px, long_px=self._long_px)
        factor = min(1.0, self._scale / max(width, height))
        return max(1, round(width * factor)), max(1, round(height * factor))

    @contextmanager
    def _precision(self) -> Iterator[None]:
        """bfloat16 where the processor multiplies it natively; elsewhere it is slower than float32."""
        with torch.autocast(self._device.type, torch.bfloat16, enabled=native_bfloat16(self._device)):
            yield


def find_faces(
    model: FasterRCNN,
    images: Sequence[npt.NDArray[np.uint8]],
    size_wh: Callable[[int, int], tuple[int, int]],
    *,
    min_side_px: float = 1.0,
) -> list[Faces]:
    """One forward pass in evaluation mode, boxes in pixels of the images as given. Class 0 is faces.

    size_wh: (width, height) of an image -> the size at which it enters the network.
    """
    inputs = [resized(image, size_wh(image.shape[1], image.shape[0])) for image in images]
    faces = []
    for image, found, given in zip(images, model.detect(inputs), inputs, strict=True):
        height, width = image.shape[:2]
        stretch = np.array([width / given.shape[2], height / given.shape[1]] * 2, np.float32)
        is_face = found.labels == 0
        boxes = found.boxes[is_face].float().cpu().numpy() * stretch
        scores = found.scores[is_face].float().cpu().numpy()
        faces.append(Faces.from_raw(boxes, scores, (width, height), min_side_px=min_side_px))
    return faces


def build_model(about: Mapping[str, Any], checkpoint: Checkpoint, *, min_score: float = 0.05) -> FasterRCNN:
    """The architecture that a checkpoint says it holds, untrained. Raises WeightsError for what is unknown of it."""
    name = about.get("model")
    if name not in FASTER_RCNNS:
        raise WeightsError(f"{checkpoint.path}: holds model {name!r}; expected one of {', '.join(FASTER_RCNNS)}")
    settings: dict[str, Any] = {"norm": about["norm"]} if about.get("norm") is not None else {}
    if name == "faster_rcnn_compact_fpn":
        stages = (tensor.removeprefix("backbone.bottom_up.") for tensor in checkpoint.tensors)
        settings = {"depths": depths_of(stages)}
    try:
        return FASTER_RCNNS[name](preset=str(about.get("preset", "face")), min_score=min_score, **settings)
    except ConfigError as e:
        raise WeightsError(f"{checkpoint.path}: {e}") from e


def inferred_about(checkpoint: Checkpoint) -> dict[str, Any]:
    """Model, preset and norm of a checkpoint that names none, from its tensors; for files of Detectron2 itself."""
    depths = {
        "faster_rcnn_x101_fpn": "backbone.bottom_up.res4.22.conv3.weight",
        "faster_rcnn_r50_fpn": "backbone.bottom_up.res4.5.conv3.weight",
        "faster_rcnn_r18_fpn": "backbone.bottom_up.res4.1.conv2.weight",
    }
    model = next((m for m, name in depths.items() if name in checkpoint.tensors), None)
    scores = checkpoint.tensors.get("roi_heads.box_predictor.cls_score.bias")
    if model is None or scores is None:
        raise WeightsError(f"{checkpoint.path}: not a Faster R-CNN with FPN of a known depth")
    if len(scores) != 2:
        raise WeightsError(f"{checkpoint.path}: tells {len(scores) - 1} classes apart; expected the one class face")
    about = {"model": model, "preset": _inferred_preset(checkpoint)}
    # Of all norms only those of groups keep no statistics; the others find the same.
    grouped = "backbone.bottom_up.stem.conv1.norm.running_mean" not in checkpoint.tensors
    return {**about, "norm": "gn"} if grouped else about


def _inferred_preset(checkpoint: Checkpoint) -> str:
    """The preset of one class whose anchors the file holds; "face", with a warning, where it holds none."""
    found = [checkpoint.tensors[name] for name in sorted(checkpoint.tensors) if ANCHOR_NAMES in name]
    presets = {name: preset for name, preset in PRESETS.items() if preset.classes == 1}
    if not found:
        logging.getLogger(__name__).warning(
            "note: %s: names no preset and holds no anchors: the anchors of preset face are assumed", checkpoint.path
        )
        return "face"
    for name, preset in presets.items():
        anchors = Anchors(sizes_px=preset.anchor_sizes_px, ratios=preset.anchor_ratios, strides=STRIDES)
        wanted = [anchors.get_buffer(f"cell{level}") for level in range(len(preset.anchor_sizes_px))]
        if [t.shape for t in found] == [t.shape for t in wanted] and all(map(_equal_anchors, found, wanted)):
            return name
    sides = [round(float((t[:, 2:] - t[:, :2]).prod(1).mean().sqrt()), 1) for t in found if t.shape[1:] == (4,)]
    raise WeightsError(f"{checkpoint.path}: its anchors, of {sides} px, are not those of preset {' or '.join(presets)}")


def _equal_anchors(found: Tensor, wanted: Tensor) -> bool:
    return torch.allclose(found.float(), wanted, atol=0.1)


def scale_of(about: Mapping[str, Any]) -> tuple[int, int]:
    """Short and long side in pixels to which photos are brought."""
    scale = about.get("test_scale", {})
    return int(scale.get("short_px", SHORT_PX)), int(scale.get("long_px", LONG_PX))


def network_size_wh(width: int, height: int, *, short_px: int, long_px: int) -> tuple[int, int]:
    """The size at which a photo enters the network, rounded as in Detectron2's ResizeShortestEdge."""
    factor = short_px / min(width, height)
    factor = min(factor, long_px / max(width, height))
    return max(1, int(width * factor + 0.5)), max(1, int(height * factor + 0.5))


def resized(image: npt.NDArray[np.uint8], size_wh: tuple[int, int]) -> Tensor:
    """uint8 [3, h, w] of `size_wh`, by Pillow's bilinear filter as in Detectron2. image: uint8 [H, W, 3]."""
    if (image.shape[1], image.shape[0]) != size_wh:
        image = np.asarray(Image.fromarray(image).resize(size_wh, Image.Resampling.BILINEAR))
    return torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1)))


@contextmanager
def _threads(count: int | None) -> Iterator[None]:
    before = torch.get_num_threads()
    if count is not None:
        torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def native_bfloat16(device: torch.device) -> bool:
    """Whether the device multiplies bfloat16 numbers itself."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported())
    answers = [getattr(torch.cpu, name, None) for name in ("_is_avx512_bf16_supported", "_is_amx_tile_supported")]
    return any(bool(ask()) for ask in answers if ask is not None)
