"""What a YOLO set says of itself: its classes' names, the landmarks in its rows after the box, its splits."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from facedet.data.coco import SPLITS
from facedet.data.raw import read_text
from facedet.errors import DataError, MissingExtra

NAME_FILES = ("classes.txt", "obj.names")
_NAMES = re.compile(r"^names\s*:", re.MULTILINE)


@dataclass(frozen=True)
class YoloSettings:
    """names: class number -> name. landmarks: how many numbers a row has after its box. None where no file tells.

    splits: folder or photo, resolved -> the splits it is declared for.
    """

    names: dict[int, str] | None
    landmarks: int | None
    splits: dict[Path, set[str]]

    def split_of(self, photo: Path) -> str | None:
        """The split that the photo itself or the nearest folder above it is declared for; None for several or none."""
        place = photo.resolve()
        declared = next((self.splits[at] for at in (place, *place.parents) if at in self.splits), set[str]())
        return min(declared) if len(declared) == 1 else None


def read_settings(folder: Path, label_folders: Iterable[Path]) -> YoloSettings:
    """Of the set in `folder`: its data.yaml, or others that hold `names`, and lists there or beside label files.

    Raises DataError naming the file that is not as expected, or those that disagree; MissingExtra without PyYAML.
    """
    places = dict.fromkeys([folder, folder / "labels", *label_folders])
    named = {file: _listed(file) for place in places for name in NAME_FILES if (file := place / name).is_file()}
    documents = {file: _document(file) for file in _yaml_files(folder)}
    shapes = [_numbers_after_box(file, document) for file, document in documents.items() if "kpt_shape" in document]
    named |= {file: _names(file, document) for file, document in documents.items() if "names" in document or not named}
    splits: dict[Path, set[str]] = {}
    for document in documents.values():
        for split, place in _declared_places(folder, document):
            splits.setdefault(place.resolve(), set()).add(split)
    return YoloSettings(_joined(named) if named else None, max(shapes, default=None), splits)


def _listed(file: Path) -> dict[int, str]:
    return {i: name.strip() for i, name in enumerate(read_text(file).split("\n")) if name.strip()}


def _yaml_files(folder: Path) -> list[Path]:
    usual = sorted([*folder.glob("data.y*ml"), *folder.glob("dataset.y*ml")])[:1]
    return usual or [file for file in sorted(folder.glob("*.y*ml")) if _NAMES.search(read_text(file))]


def _document(file: Path) -> dict[str, Any]:
    try:
        import yaml
    except ImportError as e:
        raise MissingExtra(f"{file.name} needs PyYAML: pip install 'crowdmood[train]'") from e
    try:
        document = yaml.safe_load(read_text(file))
    except yaml.YAMLError as e:
        raise DataError(f"{file}: expected `names` as a list or a mapping of numbers: {e}") from e
    return document if isinstance(document, dict) else {}


def _names(file: Path, document: dict[str, Any]) -> dict[int, str]:
    try:
        names = document["names"]
        return {int(i): str(n).strip() for i, n in (names.items() if isinstance(names, dict) else enumerate(names))}
    except (KeyError, TypeError, ValueError) as e:
        raise DataError(f"{file}: expected `names` as a list or a mapping of numbers: {e}") from e


def _numbers_after_box(file: Path, document: dict[str, Any]) -> int:
    shape = document["kpt_shape"]
    try:
        count, each = (int(v) for v in shape)
    except (TypeError, ValueError) as e:
        raise DataError(f"{file}: expected `kpt_shape` as two numbers, such as [5, 2], got {shape!r}") from e
    return count * each


def _declared_places(folder: Path, document: dict[str, Any]) -> Iterator[tuple[str, Path]]:
    """Split and folder, or photo of a list, of the `train`, `val` and `test` of a YAML file, for those that are there.

    Paths are relative to `path` or to the set's folder; `../valid/images` is what others write for `valid/images`.
    """
    base = folder / str(document.get("path") or "")
    for split in SPLITS:
        entries = document.get(split) or []
        for entry in entries if isinstance(entries, list) else [entries]:
            inner = str(entry).replace("\\", "/").removeprefix("./")
            bases = (at / name for name in (inner.removeprefix("../"), inner) for at in (base, folder))
            place = next((path for path in bases if path.exists()), None)
            if place is not None and place.suffix == ".txt":
                lines = [line.strip() for line in read_text(place).splitlines() if line.strip()]
                yield from ((split, at / line.removeprefix("./")) for line in lines for at in (base, folder))
            elif place is not None:
                yield split, place


def _joined(named: dict[Path, dict[int, str]]) -> dict[int, str]:
    """All names together; DataError when two files call a class differently."""
    joined: dict[int, tuple[str, Path]] = {}
    for file, names in named.items():
        for number, name in names.items():
            first, where = joined.setdefault(number, (name, file))
            if first.lower() != name.lower():
                raise DataError(f"{file}: class {number} is called {name!r}, in {where} {first!r}: expected one name")
    return {number: name for number, (name, _) in joined.items()}
