"""What every reader of an annotation format yields, before any check against the photo itself."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlsplit

import numpy as np
import numpy.typing as npt

from facedet.errors import DataError

IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff"})
MAX_NAME = 180
_UNSAFE = re.compile(r'[\x00-\x1f\x7f<>:"/\\|?*]')


@dataclass(frozen=True, eq=False)
class RawPhoto:
    """One photo as its annotation file has it; nothing is checked yet.

    name: the photo's file name in the prepared set. corners: float64 [N, 4], two opposite corners x, y, x, y in any
    order, in pixels, or in [0, 1] of width and height when `relative`. ignore: bool [N].
    path: the photo where it is on this machine. url: where it could be fetched. declared_wh: size the annotation
    gives. split: kept when the source has one.
    """

    name: str
    corners: npt.NDArray[np.float64]
    ignore: npt.NDArray[np.bool_]
    relative: bool = False
    path: Path | None = None
    url: str | None = None
    declared_wh: tuple[int, int] | None = None
    split: str | None = None


def corners_array(rows: Sequence[Sequence[float]]) -> npt.NDArray[np.float64]:
    """float64 [N, 4] of rows of four, also for none."""
    return np.array(rows, np.float64).reshape(-1, 4)


def name_of_url(url: str) -> str:
    """The last path part of `url`, made safe as a file name: no separators, no leading dot, no control characters.

    Nothing is percent-decoded, so an encoded `../` stays one harmless name. Raises DataError when no name is left.
    """
    try:
        last = urlsplit(url).path.rsplit("/", 1)[-1]
    except ValueError as e:
        raise DataError(f"{url!r}: expected a URL: {e}") from e
    name = _UNSAFE.sub("_", last).strip(" ").lstrip(".").rstrip(". ")
    if not name:
        raise DataError(f"{url!r}: expected a URL that ends in a file name")
    return name[-MAX_NAME:].lstrip(".")


def inside(folder: Path, name: str) -> Path:
    """`folder / name`; DataError when that leaves the folder."""
    path = folder / name
    if not path.resolve().is_relative_to(folder.resolve()):
        raise DataError(f"{name!r}: a photo's name must not lead out of {folder}")
    return path


def find_photos(folder: Path) -> list[Path]:
    """Every image file below `folder`, by name, sorted."""
    return sorted(p for p in folder.rglob("*") if p.suffix.lower() in IMAGE_SUFFIXES and p.is_file())


def find_photo(folder: Path, name: str) -> Path | None:
    """The photo in `folder`, also where its name was percent-decoded by whoever saved it; None when it is not there."""
    for candidate in (name, unquote(name).rsplit("/", 1)[-1]):
        if candidate and inside(folder, candidate).is_file():
            return folder / candidate
    return None
