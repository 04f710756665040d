"""YOLO: one text file per photo, lines of `class cx cy w h` relative to the photo's size.

Read here and not by supervision, which gives up at the first photo or line that is damaged. Polygons (seven values
and more) become their bounding boxes; a sixth value is a confidence and is left out, as are landmarks, which data.yaml
tells by `kpt_shape`.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence, Set
from pathlib import Path
from typing import NamedTuple

import numpy as np

from facedet.data.raw import RawPhoto, corners_array, read_text
from facedet.data.source_files import find_files, find_photos, split_of_place
from facedet.data.yolo_settings import YoloSettings, read_settings
from facedet.errors import DataError

POLYGON_MARGIN = 0.1
"""How far out of the photo, in parts of its size, a polygon may reach."""
BOX_AND_FIVE_LANDMARKS = 14


class _Row(NamedTuple):
    """A line of a label file: its class, the values after it, and the box they mean, x1 y1 x2 y2."""

    kind: int
    values: list[float]
    corners: list[float]


def read_yolo(
    folder: str | Path,
    *,
    images: str | Path | None = None,
    classes: Collection[str] | None = None,
    without: Path | None = None,
    notice: Callable[[str], None] = lambda text: None,
) -> list[RawPhoto]:
    """Every photo below `images` (default `folder`) with its label file, in `labels/` beside `images/` or beside it.

    classes: names that count as faces, any case, default "face". Names are read from data.yaml, another YAML file that
    holds `names`, or classes.txt, in `folder` or beside the label files; where there are none every class is a face.
    without: folder that is no part of the set, as other prepared folders are not. notice: called with a sentence where
    classes of several numbers have no names.
    A photo without a label file has no faces; labels without a photo are a record of no use. A photo's split is the one
    that data.yaml gives its folder or list, else the one that a folder is called by. Raises DataError naming file and
    line, also when there is no photo, and for `classes` of a set without names.
    """
    folder = Path(folder)
    root = Path(images or folder)
    photos = find_photos(root, without=without)
    if not photos:
        raise DataError(f"{root}: expected photos, found none")
    files = {photo: label for photo in photos if (label := _label_file(photo, root, folder))}
    if not files:
        raise DataError(f"{folder}: found {len(photos)} photos, but no label file of YOLO's layout for any of them")
    settings = read_settings(folder, (label.parent for label in files.values()))
    wanted = _face_ids(folder, settings.names, classes)
    labels = {label: _read_labels(label, settings.landmarks) for label in files.values()}
    if settings.landmarks is None:
        _refuse_untold_landmarks(labels)
    kinds = sorted({row.kind for rows in labels.values() for row in rows})
    if wanted is None and len(kinds) > 1:
        notice(f"nothing names the classes {', '.join(map(str, kinds))} of {folder}: all of them count as faces")
    raws = []
    for photo in photos:
        rows = labels[files[photo]] if photo in files else []
        corners = [row.corners for row in rows if wanted is None or row.kind in wanted]
        name = "/".join(part for part in photo.relative_to(root).parts if part != "images")
        split = settings.split_of(photo) or split_of_place(name)
        ignore = np.zeros(len(corners), np.bool_)
        raws.append(RawPhoto(name, corners_array(corners), ignore, relative=True, path=photo, split=split))
    found = [(file, base) for base in dict.fromkeys((root, folder)) for file in find_files(base, without=without)]
    texts = {file.resolve(): str(file.relative_to(base)) for file, base in found if file.suffix == ".txt"}
    return raws + _without_photos(texts, {label.resolve() for label in labels}, settings)


def _without_photos(texts: Mapping[Path, str], used: Set[Path], settings: YoloSettings) -> list[RawPhoto]:
    """A record of no use for each other label file. texts: file -> its place in the set."""
    folders = {label.parent for label in used}
    raws = []
    for file, place in texts.items():
        if file not in used and _holds_labels(file, folders, settings):
            fault = f"{file}: labels without a photo, or of one that is of no known kind"
            raws.append(RawPhoto(place, corners_array([]), np.zeros(0, np.bool_), fault=fault))
    return raws


def _holds_labels(file: Path, folders: Set[Path], settings: YoloSettings) -> bool:
    """Whether a file in one of the folders of label files, or of that name, has lines as they: no names, no note."""
    if file.parent not in folders and "labels" not in file.parts:
        return False
    try:
        return bool(_read_labels(file, settings.landmarks))
    except DataError:
        return False


def _label_file(photo: Path, root: Path, folder: Path) -> Path | None:
    parts = list(photo.with_suffix(".txt").parts)
    candidates = [photo.with_suffix(".txt"), folder / "labels" / photo.relative_to(root).with_suffix(".txt")]
    for at in reversed(range(len(parts))):
        if parts[at] == "images":
            candidates.append(Path(*parts[:at], "labels", *parts[at + 1 :]))
    return next((c for c in candidates if c.is_file()), None)


def _read_labels(path: Path, landmarks: int | None) -> list[_Row]:
    found = []
    for number, line in enumerate(read_text(path).splitlines(), 1):
        if not line.strip():
            continue
        try:
            kind, *values = (float(v) for v in line.split())
            found.append(_Row(int(kind), values, _corners(values, landmarks)))
        except (ValueError, OverflowError) as e:
            where = f"{path}: line {number}"
            raise DataError(f"{where}: expected `class cx cy w h`, got {line.strip()[:60]!r}: {e}") from e
    return found


def _corners(values: list[float], landmarks: int | None) -> list[float]:
    if len(values) in (4, 5) or (landmarks and len(values) == 4 + landmarks):
        cx, cy, w, h = values[:4]
        return [cx - w / 2, cy - h / 2, cx + w / 2, cy + h / 2]
    if len(values) < 6 or len(values) % 2:
        raise ValueError(f"{len(values)} values after the class; landmarks need `kpt_shape` in data.yaml")
    if not all(-POLYGON_MARGIN <= v <= 1 + POLYGON_MARGIN for v in values):
        raise ValueError("a polygon lies in the photo; landmarks need `kpt_shape` in data.yaml")
    return [min(values[0::2]), min(values[1::2]), max(values[0::2]), max(values[1::2])]


def _refuse_untold_landmarks(labels: Mapping[Path, Sequence[_Row]]) -> None:
    """Raises DataError where polygons all have seven points that are as likely a box and five landmarks in it."""
    polygons = [(path, row) for path, rows in labels.items() for row in rows if len(row.values) > 5]
    if any(len(row.values) != BOX_AND_FIVE_LANDMARKS for _, row in polygons):
        return
    for path, row in polygons:
        x1, y1, x2, y2 = _corners(row.values[:4], None)
        points = zip(row.values[4::2], row.values[5::2], strict=True)
        if all(x1 <= x <= x2 and y1 <= y <= y2 for x, y in points):
            raise DataError(
                f"{path}: a box and five landmarks, or a polygon? Expected `kpt_shape: [5, 2]` in data.yaml beside "
                "`names` for landmarks, [0, 0] for polygons"
            )


def _face_ids(folder: Path, names: dict[int, str] | None, classes: Collection[str] | None) -> set[int] | None:
    """Numbers of the classes that are faces, or None when the set does not name its classes and none was asked for."""
    wanted = {c.strip().lower() for c in classes or ("face",)}
    if names is None and classes:
        asked = " or ".join(sorted(wanted))
        raise DataError(f"{folder}: nothing names its classes: expected data.yaml or classes.txt to find {asked} in")
    if names is None:
        return None
    ids = {i for i, name in names.items() if name.lower() in wanted}
    if not ids:
        raise DataError(
            f"{folder}: none of its classes is called {' or '.join(sorted(wanted))}: {list(names.values())}"
        )
    return ids
