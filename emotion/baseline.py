"""Fit and judge the scikit-learn baselines; they take the raw pixels and leave no weight file."""

from __future__ import annotations

import dataclasses
import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from emotion.config import TrainConfig
from emotion.data import FerSplit, load_training
from emotion.errors import ConfigError
from emotion.evaluate import binary_figures
from emotion.files import write_whole
from emotion.models import BASELINES
from emotion.presets import PRESETS
from emotion.run import Run
from emotion.targets import of_classes


@dataclass(frozen=True)
class BaselineResult:
    """accuracy: over all classes, on PublicTest. binary_accuracy, binary_recall: see `binary_figures`."""

    model: str
    accuracy: float
    binary_accuracy: float
    binary_recall: float
    train_images: int
    public_images: int
    seconds: float


def fit_baseline(config: TrainConfig, data: Path, out: Path | None = None) -> BaselineResult:
    """Fit `config.model` on Training without duplicates and judge it on PublicTest.

    out: folder for config.json and log.jsonl. Raises DataError, and ConfigError when the model is no baseline, has no
    such settings, or the folder holds a run.
    """
    if faults := _faults(config, out):
        raise ConfigError(faults)
    train, public, _ = load_training(data)
    train, public = of_classes(train, config.classes), of_classes(public, config.classes)
    started = time.perf_counter()
    estimator = BASELINES[config.model](len(config.classes))
    estimator.fit(_pixels(train), train.labels)
    shares = _shares(estimator, _pixels(public), len(config.classes))
    binary, binary_recall = binary_figures(shares, public.labels)
    result = BaselineResult(
        model=config.model,
        accuracy=float((shares.argmax(1) == public.labels).mean()),
        binary_accuracy=binary,
        binary_recall=binary_recall,
        train_images=len(train),
        public_images=len(public),
        seconds=time.perf_counter() - started,
    )
    if out is not None:
        out.mkdir(parents=True, exist_ok=True)
        write_whole(out / "config.json", json.dumps(dataclasses.asdict(config), indent=1))
        line = {"epoch": 1, "public_accuracy": result.accuracy, **dataclasses.asdict(result)}
        write_whole(out / "log.jsonl", json.dumps(line) + "\n")
    return result


def _faults(config: TrainConfig, out: Path | None) -> list[str]:
    if config.model not in BASELINES:
        return [f"model {config.model!r}: expected one of {', '.join(BASELINES)}"]
    recipe = PRESETS[config.model]
    faults = config.faults() + [
        f"{name} {value!r}: {config.model} has no such setting, only classes"
        for name, value in vars(config).items()
        if name != "classes" and value != getattr(recipe, name)
    ]
    if out is not None and Run(out).has_figures:
        faults.append(f"{out} holds a run already: choose another folder")
    return faults


def _pixels(split: FerSplit) -> npt.NDArray[np.float32]:
    flat: npt.NDArray[np.float32] = split.images.reshape(len(split), -1).astype(np.float32) / np.float32(255)
    return flat


def _shares(estimator: Any, pixels: npt.NDArray[np.float32], classes: int) -> npt.NDArray[np.float64]:
    """Probabilities with a column per class, also for classes that the estimator never saw."""
    shares = np.zeros((len(pixels), classes))
    shares[:, estimator.classes_] = estimator.predict_proba(pixels)
    return shares
