"""Checkpoints in Detectron2's format and with its names, read and written; reading never runs what is in a file.

A .pth file holds {"model": {name: tensor}}, and ours also {"facedet": {...}} with what is needed to build the model;
Detectron2 ignores it. A .pkl file is one of Detectron2's model zoo.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from facedet.errors import WeightsError
from facedet.zoo_pickle import read_zoo_pickle

HEAD_OF_CLASSES = ("roi_heads.box_predictor.cls_score.", "roi_heads.box_predictor.bbox_pred.")
ANCHOR_NAMES = "anchor_generator.cell_anchors"
"""Part of the names of the anchors' corners, a tensor [ratios, 4] per level, in some of Detectron2's files."""
# Rebuilt from the settings, or counters of no effect: neither missed nor unexpected, as are anchors.
_OPTIONAL = ("num_batches_tracked", "pixel_mean", "pixel_std")


@dataclass(frozen=True)
class Checkpoint:
    """What a file holds. about: ours alone, empty for others' files. rest: optimiser, counters and the like.

    partial_names: names start below the backbone, as in the zoo's ImageNet files.
    """

    path: Path
    tensors: dict[str, Tensor]
    about: dict[str, Any] = field(default_factory=dict)
    rest: dict[str, Any] = field(default_factory=dict)
    partial_names: bool = False


@dataclass(frozen=True)
class LoadReport:
    """What became of each tensor. reshaped: (name, shape in the file, shape in the model); those keep their start."""

    loaded: tuple[str, ...]
    missing: tuple[str, ...]
    unexpected: tuple[str, ...]
    reshaped: tuple[tuple[str, tuple[int, ...], tuple[int, ...]], ...]

    def sentences(self) -> list[str]:
        """The report for people; empty when everything fitted."""
        lines = []
        heads = {n: (old, new) for n, old, new in self.reshaped if n.startswith(HEAD_OF_CLASSES)}
        logits = HEAD_OF_CLASSES[0] + "bias"
        if logits in heads:
            old, new = heads[logits]
            lines.append(f"class head initialised anew: the file has {old[0] - 1} classes, the model {new[0] - 1}")
        lines += [
            f"initialised anew, of another shape: {name} {list(old)} in the file, {list(new)} in the model"
            for name, old, new in self.reshaped
            if name not in heads or logits not in heads
        ]
        if self.missing:
            lines.append(f"{len(self.missing)} tensors missing in the file: {_listed(self.missing)}")
        if self.unexpected:
            lines.append(f"{len(self.unexpected)} unexpected tensors in the file: {_listed(self.unexpected)}")
        return lines


def _listed(names: tuple[str, ...], limit: int = 8) -> str:
    return ", ".join(names[:limit]) + (f" and {len(names) - limit} more" if len(names) > limit else "")


def read_checkpoint(path: str | Path) -> Checkpoint:
    """Read a .pth or .pkl file. Raises WeightsError when it is missing, damaged, or more than tensors and settings."""
    path = Path(path)
    if not path.is_file():
        raise WeightsError(f"{path}: no such weight file")
    if path.suffix == ".pkl":
        tensors, partial_names = read_zoo_pickle(path)
        return Checkpoint(path, tensors, partial_names=partial_names)
    content = load_whole(path)
    tensors = content.get("model", content)
    if not isinstance(tensors, dict) or not all(isinstance(t, Tensor) for t in tensors.values()) or not tensors:
        raise WeightsError(f'{path}: expected {{"model": tensors by name}}')
    about = content.get("facedet", {})
    rest = {k: v for k, v in content.items() if k not in ("model", "facedet")} if "model" in content else {}
    return Checkpoint(path, dict(tensors), about if isinstance(about, dict) else {}, rest)


def load_whole(path: Path) -> dict[str, Any]:
    """What `save_whole` has written. Raises WeightsError when it is damaged, or more than tensors and plain values."""
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as e:  # torch raises pickle, zip, runtime and index errors for damaged files
        reason = str(e).strip().splitlines()[0] if str(e).strip() else type(e).__name__
        raise WeightsError(f"{path}: refused, not a checkpoint of plain tensors: {reason}") from e
    if not isinstance(content, dict):
        raise WeightsError(f"{path}: expected a dictionary, got {type(content).__name__}")
    return content


def save_checkpoint(path: str | Path, model: nn.Module, *, about: Mapping[str, Any], **rest: Any) -> None:
    """Write model, settings and `rest` so that a kill leaves either the old file or the new one.

    about and rest: plain values and tensors only, since nothing else can be read back.
    """
    tensors = {name: tensor.detach().cpu() for name, tensor in model.state_dict().items()}
    save_whole({"model": tensors, "facedet": dict(about), **rest}, Path(path))


def save_whole(value: Mapping[str, Any], path: Path) -> None:
    """torch.save so that a kill leaves either the old file or the new one."""
    part = path.with_name(path.name + ".part")
    torch.save(dict(value), part)
    os.replace(part, path)


def load_into(model: nn.Module, checkpoint: Checkpoint, *, strict: bool = False) -> LoadReport:
    """Copy what fits into `model` and report the rest.

    strict: for detectors; missing or reshaped tensors raise WeightsError. Not strict: for the start of a training;
    what does not fit keeps its initialisation. Raises WeightsError when not one tensor fits.
    """
    wanted = model.state_dict()
    found = _renamed(checkpoint, list(wanted)) if checkpoint.partial_names else checkpoint.tensors
    fitting = {n: t for n, t in found.items() if n in wanted and t.shape == wanted[n].shape}
    report = LoadReport(
        loaded=tuple(sorted(fitting)),
        missing=tuple(n for n in wanted if n not in found and not n.endswith(_OPTIONAL)),
        unexpected=tuple(n for n in found if n not in wanted and not n.endswith(_OPTIONAL) and ANCHOR_NAMES not in n),
        reshaped=tuple(
            (n, tuple(t.shape), tuple(wanted[n].shape)) for n, t in found.items() if n in wanted and n not in fitting
        ),
    )
    if not fitting:
        raise WeightsError(f"{checkpoint.path}: not one tensor of this model in it: {_listed(report.unexpected)}")
    if strict and (report.missing or report.reshaped):
        raise WeightsError(f"{checkpoint.path}: of another model: " + "; ".join(report.sentences()))
    model.load_state_dict(fitting, strict=False)
    return report


def _renamed(checkpoint: Checkpoint, wanted: list[str]) -> dict[str, Tensor]:
    """Give partial names their full ones: the longest end of a wanted name, at a dot, that the file has."""
    full: dict[str, Tensor] = {}
    used = set()
    for name in wanted:
        parts = name.split(".")
        ends = [".".join(parts[start:]) for start in range(len(parts) - 1)]
        match = next((end for end in ends if end in checkpoint.tensors), None)
        if match is not None:
            full[name] = checkpoint.tensors[match]
            used.add(match)
    return full | {n: t for n, t in checkpoint.tensors.items() if n not in used}
