"""Settings of a training run from a JSON file: any fields of `TrainConfig`, as the config.json of a run has them."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

from emotion.config import TrainConfig
from emotion.data.augment import Augmentation
from emotion.errors import ConfigError
from emotion.presets import PRESETS

_KINDS: dict[str, tuple[type, ...]] = {
    "int": (int,), "float": (int, float), "str": (str,), "bool": (bool,), "int | None": (int, type(None)),
    "Augmentation": (dict,),
}  # fmt: skip
"""Annotation of a field -> the types that JSON may hold for it; tuples are lists there."""


def read_settings(path: str | Path, *, model: str | None = None) -> dict[str, Any]:
    """Field -> value for `TrainConfig`, for the fields that the file gives; `augmentation` is an object of its ranges.

    Ranges that it does not give are those of the recipe of `model`, or else of the file's model.
    Raises ConfigError, naming the file and every field that is unknown or of another type.
    """
    try:
        found = json.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigError([f"{path}: cannot be read as JSON: {error}"]) from None
    named = found.get("model") if isinstance(found, dict) and model is None else model
    recipe = PRESETS.get(str(named), TrainConfig())
    return settings_of(found, where=str(path), augmentation=recipe.augmentation)


def settings_of(found: Any, *, where: str, augmentation: Augmentation | None = None) -> dict[str, Any]:
    """As `read_settings`, of a JSON value that is read already.

    where: its place, for errors. augmentation: has the ranges that are not given, by default `Augmentation()`.
    """
    faults: list[str] = []
    settings = _checked(found, TrainConfig, where, faults)
    if isinstance(settings.get("augmentation"), dict):
        ranges = _checked(settings["augmentation"], Augmentation, f"{where}: augmentation", faults)
        settings["augmentation"] = None if faults else dataclasses.replace(augmentation or Augmentation(), **ranges)
    if faults:
        raise ConfigError(faults)
    return settings


def _checked(found: Any, kind: type[Any], where: str, faults: list[str]) -> dict[str, Any]:
    """The fields of `found` that a dataclass `kind` has and that are of its types; notes the others in `faults`."""
    if not isinstance(found, dict):
        faults.append(f"{where}: expected an object of settings, got {type(found).__name__}")
        return {}
    kinds = {field.name: str(field.type) for field in dataclasses.fields(kind)}
    settings = {}
    for name, value in found.items():
        if name not in kinds:
            faults.append(f"{where}: unknown setting {name!r}: expected some of {', '.join(kinds)}")
        elif not _fits(value, kinds[name]):
            faults.append(f"{where}: {name} {value!r}: expected {kinds[name]}")
        else:
            settings[name] = _frozen(value)
    return settings


def _fits(value: Any, annotation: str) -> bool:
    if isinstance(value, bool) and annotation != "bool":
        return False
    if annotation == "tuple[str, ...]":
        return isinstance(value, list) and all(isinstance(item, str) for item in value)
    if annotation == "tuple[tuple[float, int], ...]":
        pairs = isinstance(value, list) and all(isinstance(item, list) and len(item) == 2 for item in value)
        return pairs and all(_fits(start, "float") and _fits(size, "int") for start, size in value)
    return isinstance(value, _KINDS[annotation])


def _frozen(value: Any) -> Any:
    return tuple(_frozen(item) for item in value) if isinstance(value, list) else value
