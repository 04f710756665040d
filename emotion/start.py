"""A fresh network with the weights of an earlier run."""

from __future__ import annotations

import contextlib
from pathlib import Path

import torch
from torch import nn

from emotion.checkpoint import BUNDLED, checkpoint_path, identity_of, read_saved
from emotion.config import TrainConfig
from emotion.errors import WeightsError
from emotion.models.fer_resnet import FerResNet
from emotion.widen import widen

AUXILIARY = "auxiliary."
"""Prefix of the second head's values, which a checkpoint may lack, or have for a run that wants none."""


def start_from(model: nn.Module, config: TrainConfig) -> str:
    """Put the weights of `config.weights` (see `checkpoint_path`) into a fresh model; returns their identity.

    model: the network as `network.`, the second head, if there is one, as `auxiliary.`. Of last.pt both are taken, as
    they were after the last step; best.pt holds the network alone, and a moving average where the run kept one.
    The weights of a narrower fer_resnet are widened, by the run's seed, to a network that computes the same.
    Raises WeightsError, naming the file and all that differs: classes, architecture, the shape of a value.
    """
    if config.weights != BUNDLED and not Path(config.weights).exists():
        raise WeightsError(
            f"weights {config.weights}: expected none, {BUNDLED}, imagenet, a run folder or a .pt file of "
            "`emotion train`, or an .onnx file of `emotion export`"
        )
    path = checkpoint_path(config.weights)
    saved = read_saved(path)
    if "model" in saved:
        found = dict(saved["model"])
    elif "network" in saved:
        found = {f"network.{key}": value for key, value in saved["network"].items()}
    else:
        raise WeightsError(f"{path}: expected a checkpoint of `emotion train` with the entry network or model")
    told = saved.get("metadata", {})
    earlier_model = told.get("config", {}).get("model", config.model)
    if earlier_model != config.model and isinstance(model.network, FerResNet):
        with contextlib.suppress(ValueError):  # then what differs is told below
            found = widen(found, model.network, torch.Generator().manual_seed(config.seed))
            earlier_model = config.model
    wanted = {key: value for key, value in model.state_dict().items() if key in found or not key.startswith(AUXILIARY)}
    found = {key: value for key, value in found.items() if key in wanted or not key.startswith(AUXILIARY)}
    differences = [
        *_difference("model", earlier_model, config.model),
        *_difference("classes", list(told.get("labels", config.classes)), list(config.classes)),
    ]
    differences += _different_values(found, wanted)
    if differences:
        raise WeightsError(f"{path}: does not fit this run: {'; '.join(differences)}")
    model.load_state_dict(found, strict=False)
    return identity_of(path)


def _difference(name: str, found: object, wanted: object) -> list[str]:
    return [] if found == wanted else [f"{name} {found}: expected {wanted}"]


def _different_values(found: dict[str, torch.Tensor], wanted: dict[str, torch.Tensor]) -> list[str]:
    """One sentence about the values that are missing or too many, or else about the first of another shape."""
    missing, surplus = [key for key in wanted if key not in found], [key for key in found if key not in wanted]
    if missing or surplus:
        named = [f"{kind} {keys[0]}" for kind, keys in (("without", missing), ("with", surplus)) if keys]
        return [f"another architecture, {' and '.join(named)}"]
    shapes = [(key, list(found[key].shape), list(value.shape)) for key, value in wanted.items()]
    return [f"{key} is {here}: expected {there}" for key, here, there in shapes if here != there][:1]
