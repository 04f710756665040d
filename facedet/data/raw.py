"""What every reader of an annotation format yields, before any check against the photo itself."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlsplit

import numpy as np
import numpy.typing as npt

from facedet.errors import DataError

MAX_NAME_BYTES = 180
"""Of a file name in UTF-8: file systems take 255, and a download adds some to it while it is unfinished."""
_UNSAFE = re.compile(r'[\x00-\x1f\x7f<>:"/\\|?*]')


@dataclass(frozen=True, eq=False)
class RawPhoto:
    """One photo as its annotation file has it; nothing is checked yet.

    name: the photo's file name in the prepared set. corners: float64 [N, 4], two opposite corners x, y, x, y in any
    order, in pixels, or in [0, 1] of width and height when `relative`. ignore: bool [N].
    path: the photo where it is on this machine. url: where it could be fetched. declared_wh: size the annotation
    gives. split: kept when the source has one. fault: why the record is of no use, "" where it is.
    """

    name: str
    corners: npt.NDArray[np.float64]
    ignore: npt.NDArray[np.bool_]
    relative: bool = False
    path: Path | None = None
    url: str | None = None
    declared_wh: tuple[int, int] | None = None
    split: str | None = None
    fault: str = ""


def corners_array(rows: Sequence[Sequence[float]]) -> npt.NDArray[np.float64]:
    """float64 [N, 4] of rows of four, also for none."""
    return np.array(rows, np.float64).reshape(-1, 4)


def read_text(path: Path) -> str:
    """The UTF-8 text of a file, without a byte order mark; DataError naming the file when it cannot be read."""
    try:
        return path.read_text(encoding="utf-8-sig")
    except OSError as e:
        raise DataError(f"{path}: cannot read: {e.strerror}") from e
    except UnicodeDecodeError as e:
        raise DataError(f"{path}: expected UTF-8 text: {e}") from e


def name_of_url(url: str) -> str:
    """The last path part of `url`, made safe as a file name: no separators, no leading dot, no control characters.

    Of a relative URL the whole path, percent-decoded, each part made safe. Of others nothing is percent-decoded, so an
    encoded `../` stays one harmless name. Raises DataError when no name is left.
    """
    try:
        relative = _relative_path(url)
        parts = unquote(relative).split("/") if relative else [urlsplit(url).path.rsplit("/", 1)[-1]]
    except ValueError as e:
        raise DataError(f"{url!r}: expected a URL: {e}") from e
    if not (last := _safe(parts[-1])):
        raise DataError(f"{url!r}: expected a URL that ends in a file name")
    return "/".join([*filter(None, map(_safe, parts[:-1])), last])


def _relative_path(url: str) -> str:
    """The path of a URL without scheme and host, still encoded; "" for any other and for a path from the root."""
    parts = urlsplit(url)
    return "" if parts.scheme or parts.netloc or parts.path.startswith("/") else parts.path


def _safe(part: str) -> str:
    """A file name of at most MAX_NAME_BYTES, its end kept; "" where nothing is left."""
    name = _UNSAFE.sub("_", part.encode(errors="ignore").decode()).strip(" ").lstrip(".").rstrip(". ")
    return name.encode()[-MAX_NAME_BYTES:].decode(errors="ignore").lstrip(".")


def inside(folder: Path, name: str) -> Path:
    """`folder / name`; DataError when that leaves the folder."""
    path = folder / name
    if not path.resolve().is_relative_to(folder.resolve()):
        raise DataError(f"{name!r}: a photo's name must not lead out of {folder}")
    return path


def locate_photos(folder: Path, raws: Sequence[RawPhoto]) -> dict[str, Path]:
    """name -> photo in `folder`, for those that are there, also where a name was percent-decoded by whoever saved it.

    A relative URL is followed first; a file name alone is enough where no other photo of `raws` has the same.
    """
    shared = Counter(name for raw in raws for name in _names_alone(raw))
    found = {}
    for raw in raws:
        relative = _relative_path(raw.url or "")
        names = [unquote(relative), relative, raw.name, *(name for name in _names_alone(raw) if shared[name] == 1)]
        place = next((name for name in names if _is_photo(folder, name)), None)
        if place is not None:
            found[raw.name] = folder / place
    return found


def _names_alone(raw: RawPhoto) -> list[str]:
    """The file name without folders, as it is and percent-decoded, each once."""
    alone = raw.name.rsplit("/", 1)[-1]
    return list(dict.fromkeys([alone, unquote(alone).rsplit("/", 1)[-1]]))


def _is_photo(folder: Path, name: str) -> bool:
    if not name or name.startswith("/") or ".." in name.split("/"):
        return False
    return os.path.isfile(folder / name) and inside(folder, name).is_file()  # the former takes names of any length
