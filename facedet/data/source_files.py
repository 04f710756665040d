"""The files of a folder that `facedet prepare` reads."""

from __future__ import annotations

import os
from pathlib import Path

from facedet.data.coco import ANNOTATIONS_FILE
from facedet.data.prepare import REPORT_FILE

IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".bmp", ".webp", ".tif", ".tiff"})

MACOS_FOLDER, MACOS_PREFIX = "__MACOSX", "._"
"""Of what macOS adds to archives and foreign disks: for each file another of its name, with attributes in it."""
SPLIT_FOLDERS = {"train": "train", "val": "val", "valid": "val", "validation": "val", "test": "test"}
"""Folder that a photo lies in, in lower case -> the split it is kept in: images/val/, or valid/images/."""


def split_of_place(place: str) -> str | None:
    """The split that one of the folders of a photo's relative path with forward slashes stands for."""
    folders = (SPLIT_FOLDERS.get(folder.lower()) for folder in place.split("/")[:-1])
    return next(filter(None, folders), None)


def find_photos(folder: Path, *, without: Path | None = None) -> list[Path]:
    """Every image file that `find_files` finds."""
    return [path for path in find_files(folder, without=without) if path.suffix.lower() in IMAGE_SUFFIXES]


def find_files(folder: Path, *, without: Path | None = None) -> list[Path]:
    """Every file below `folder`, sorted, but those in the folder `without` and in prepared folders below it.

    What macOS adds is left out.
    """
    found = []
    for place, folders, names in os.walk(folder):
        here = Path(place)
        folders[:] = [name for name in folders if name != MACOS_FOLDER and not _is_prepared(here / name, without)]
        found += [here / name for name in names if not name.startswith(MACOS_PREFIX)]
    return sorted(path for path in found if path.is_file())


def _is_prepared(folder: Path, out: Path | None) -> bool:
    """Whether it is what `facedet prepare` writes now or wrote earlier, which is no source of photos."""
    if out is not None and folder.resolve() == out.resolve():
        return True
    return all((folder / name).is_file() for name in (ANNOTATIONS_FILE, REPORT_FILE))
