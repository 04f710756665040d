"""A whole run of the compact detector on prepared data: weights to start from, validation, best.onnx."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from functools import partial
from importlib import resources
from pathlib import Path
from typing import Any

import torch
from torch import nn

from facedet.compact_config import CompactConfig
from facedet.data.coco import FaceDataset
from facedet.detectors.compact import CompactDetector
from facedet.detectors.passes import NATIVE_SIDE_PX
from facedet.evaluate import evaluate
from facedet.export import export_compact, load_compact_checkpoint, write_onnx
from facedet.models.compact import deepened
from facedet.train import train_compact

LOW_SCORE = 0.02
"""Detections below it are left out when a run is measured."""


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

    weights: "bundled" starts from the shipped detector, "none" from scratch, else a file or folder of an earlier run.
    Raises ConfigError, DataError, WeightsError, TrainingDiverged.
    """
    train_compact(
        config, data.photos, out, initial=initial_weights(weights), val=val.photos if val else (),
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


def _measured(val: FaceDataset, network: nn.Module) -> dict[str, float]:
    """AP and AP50, or nothing where no photo has a face.

    Photos of many megapixels are reduced, else their tiles would take longer than the training.
    """
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "network.onnx"
        write_onnx(network.eval(), {}, path)
        where = "the network in training"
        detector = CompactDetector(path.read_bytes(), where=where, scale=NATIVE_SIDE_PX, min_score=LOW_SCORE)
    metrics = evaluate(detector, val).metrics
    return {name: value for name in ("AP", "AP50") if (value := metrics[name]) is not None}
