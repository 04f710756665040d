"""A whole run of the compact detector on prepared data: weights to start from, validation, curves, best.onnx."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

import torch
from torch import nn

from facedet.data.coco import Photo
from facedet.data.load import load_data
from facedet.detectors.compact import CompactDetector
from facedet.engines.run import draw_curves, read_log
from facedet.evaluate import evaluate
from facedet.export import export_compact, load_compact_checkpoint, write_onnx
from facedet.models.compact import Compact
from facedet.train import CompactConfig, train_compact

LOW_SCORE = 0.02
"""Detections below it are left out when a run is measured."""


def run_compact(
    config: CompactConfig,
    folders: Sequence[Path],
    out: Path,
    *,
    weights: str,
    resume: bool = False,
    report: Callable[[dict[str, Any]], None] = lambda line: None,
    progress: Callable[[int, int], None] = lambda step, steps: None,
) -> Path:
    """Train on the train splits of prepared folders, measured on the first one's val split; returns out/best.onnx.

    weights: "bundled" starts from the shipped detector, "none" from scratch, else a file of an earlier run.
    Raises ConfigError, DataError, WeightsError, TrainingDiverged.
    """
    photos: list[Photo] = [photo for folder in folders for photo in load_data(folder, split="train").photos]
    val_set = load_data(folders[0], split="val")

    def validate(network: nn.Module) -> dict[str, float]:
        assert isinstance(network, Compact)
        metrics = evaluate(_detector_of(network), val_set).metrics
        return {name: metrics[name] or 0.0 for name in ("AP", "AP50")}  # None: photos without a single face

    def log(line: dict[str, Any]) -> None:
        draw_curves(read_log(out / "log.jsonl"), out / "curves.png")
        report(line)

    initial = initial_weights(weights)
    train_compact(
        config, photos, out, initial=initial, validate=validate if len(val_set) else None,
        resume=resume, report=log, progress=progress,
    )  # fmt: skip
    export_compact(out, out / "best.onnx")
    return out / "best.onnx"


def initial_weights(weights: str) -> dict[str, torch.Tensor] | None:
    """What training starts from; arguments and errors as in `run_compact`."""
    if weights == "none":
        return None
    if weights != "bundled":
        return load_compact_checkpoint(weights)[0].state_dict()
    with resources.as_file(resources.files("facedet") / "weights" / "compact.onnx") as path:
        return load_compact_checkpoint(path)[0].state_dict()


def _detector_of(network: Compact) -> CompactDetector:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "network.onnx"
        write_onnx(network.eval(), {}, path)
        return CompactDetector(path.read_bytes(), where="the network in training", min_score=LOW_SCORE)
