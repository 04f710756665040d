"""A whole run of the compact detector on prepared data: weights to start from, validation, best.onnx."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from facedet.boxes import iou_matrix
from facedet.data.coco import FaceDataset, Photo
from facedet.detectors.compact import NATIVE_SIDE_PX, CompactDetector
from facedet.evaluate import Detector, evaluate
from facedet.export import export_compact, load_compact_checkpoint, write_onnx
from facedet.models.compact import compact, deepened
from facedet.train import CompactConfig, train_compact

LOW_SCORE = 0.02
"""Detections below it are left out when a run is measured."""
SAME_FACE_IOU = 0.2
"""A detection that overlaps a label by less is another face; low, as loose boxes overlap the tight ones little."""


def run_compact(
    config: CompactConfig,
    data: FaceDataset,
    val: FaceDataset | None,
    out: Path,
    *,
    weights: str,
    resume: bool = False,
    report: Callable[[dict[str, Any]], None] = lambda line: None,
    progress: Callable[[int, int], None] = lambda step, steps: None,
) -> Path:
    """Train on `data`, measured on `val` where there is one; returns out/best.onnx.

    With `config.spare_unlabelled` the start weights first look at every photo: some tenths of a second each.

    weights: "bundled" starts from the shipped detector, "none" from scratch, else a file or folder of an earlier run.
    Raises ConfigError, DataError, WeightsError, TrainingDiverged.
    """
    initial = initial_weights(weights)

    def prepare(photos: Sequence[Photo]) -> Sequence[Photo]:
        if initial is None or config.spare_unlabelled == 0:
            return photos
        return spare_unlabelled(photos, _detector_of(_network_of(initial)), min_score=config.spare_unlabelled)

    train_compact(
        config, data.photos, out, initial=initial, prepare=prepare,
        validate=None if val is None else partial(_measured, val), resume=resume, report=report, progress=progress,
    )  # fmt: skip
    export_compact(out, out / "best.onnx")
    return out / "best.onnx"


def initial_weights(weights: str) -> dict[str, torch.Tensor] | None:
    """What training starts from; arguments and errors as in `run_compact`."""
    if weights == "none":
        return None
    if weights != "bundled":
        return deepened(load_compact_checkpoint(weights)[0].state_dict())
    with resources.as_file(resources.files("facedet") / "weights" / "compact.onnx") as path:
        return deepened(load_compact_checkpoint(path)[0].state_dict())


def spare_unlabelled(photos: Sequence[Photo], detector: Detector, *, min_score: float) -> list[Photo]:
    """The photos, each with what the detector finds and no label touches as further boxes to ignore.

    Touching is an IoU of SAME_FACE_IOU and more. Photos named twice are looked at once. Raises DataError.
    """
    spared: dict[Path, Photo] = {}
    for photo in photos:
        if photo.path in spared:
            continue
        faces = detector.detect([photo.read()])[0]
        boxes = faces.boxes_xyxy[faces.scores >= min_score]
        overlap = iou_matrix(boxes, photo.boxes_xyxy).max(axis=1, initial=0.0)
        extra = boxes[overlap < SAME_FACE_IOU]
        spared[photo.path] = replace(
            photo,
            boxes_xyxy=np.concatenate([photo.boxes_xyxy, extra]),
            ignore=np.concatenate([photo.ignore, np.ones(len(extra), np.bool_)]),
        )
    return [spared[photo.path] for photo in photos]


def _network_of(weights: dict[str, torch.Tensor]) -> nn.Module:
    network = compact()
    network.load_state_dict(weights)
    return network


def _measured(val: FaceDataset, network: nn.Module) -> dict[str, float]:
    """Nothing of photos without a single face."""
    metrics = evaluate(_detector_of(network), val).metrics
    return {name: value for name in ("AP", "AP50") if (value := metrics[name]) is not None}


def _detector_of(network: nn.Module) -> CompactDetector:
    """At a scale that spares photos of many megapixels their tiles: they would take longer than the training."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "network.onnx"
        write_onnx(network.eval(), {}, path)
        return CompactDetector(
            path.read_bytes(), where="the network in training", scale=NATIVE_SIDE_PX, min_score=LOW_SCORE
        )
