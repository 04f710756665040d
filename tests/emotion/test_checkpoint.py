"""Files of torch's that are no checkpoints of `emotion train`, whatever reads them."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch

from emotion import WeightsError
from emotion.checkpoint import load_checkpoint
from emotion.learner import build_learner
from emotion.presets import KERAS
from emotion.run import Run
from tests.emotion.factories import write_checkpoint

CONFIG = dataclasses.replace(KERAS, model="mini_xception")


@pytest.mark.parametrize(
    ("entry", "value", "message"),
    [
        ("model", "resnet18", "model: expected tensors by name"),
        ("network", [1], "network: expected tensors by name"),
        ("averaged", {"n_averaged": 1}, "averaged: expected tensors by name"),
        ("metadata", "text", "metadata: expected entries by name, got a str"),
        ("labels", None, "labels: expected a list of names, got None"),
        ("labels", [1, 2], "labels: expected a list of names, got [1, 2]"),
        ("metrics", None, "metrics: expected figures by name"),
        ("config", "text", "config: expected settings by name, with the name of a model"),
        ("config", {"model": ["cnn1"]}, "config: expected settings by name, with the name of a model"),
    ],
)
def test_entries_of_another_shape(tmp_path: Path, entry: str, value: Any, message: str) -> None:
    path = write_checkpoint(tmp_path / "run", "mini_xception")
    saved = torch.load(path, weights_only=True)
    (saved["metadata"] if entry in saved["metadata"] else saved)[entry] = value
    torch.save(saved, path)
    for read in (load_checkpoint, lambda path: build_learner(dataclasses.replace(CONFIG, weights=str(path)))):
        with pytest.raises(WeightsError) as raised:
            read(path)
        assert str(raised.value) == f"{path}: expected a checkpoint of `emotion train`: {message}"


def test_a_model_without_weights(tmp_path: Path) -> None:
    path = write_checkpoint(tmp_path / "run", "mini_xception")
    saved = torch.load(path, weights_only=True)
    saved["metadata"]["config"]["model"] = "knn"
    torch.save(saved, path)
    with pytest.raises(WeightsError, match=r"best\.pt: model 'knn' is unknown: expected one of simple_cnn, "):
        load_checkpoint(path)
    with pytest.raises(WeightsError, match=r"best\.pt: does not fit this run: model knn: expected mini_xception"):
        build_learner(dataclasses.replace(CONFIG, weights=str(path)))


def test_a_best_checkpoint_is_no_last_state(tmp_path: Path) -> None:
    path = write_checkpoint(tmp_path / "run", "mini_xception")
    path.rename(path.with_name("last.pt"))
    message = r"last\.pt: expected the last state of a run, which has also model, optimiser, state"
    with pytest.raises(WeightsError, match=message):
        Run(path.parent).load_last()
