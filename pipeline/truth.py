"""Photos whose faces and emotions are known: read from COCO JSON or from a results.jsonl."""

from __future__ import annotations

import itertools
import json
import math
import os
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from emotion import EMOTIONS
from pipeline.errors import DataError
from pipeline.reading import SCHEMA


@dataclass(frozen=True)
class TrueFace:
    """One face. box_xyxy: pixels of the upright photo. emotion: one of EMOTIONS, or None.

    A face without an emotion is not judged: who finds it is neither right nor gives a false alarm. Such are faces
    marked `iscrowd` and those that a results file calls `too_small`.
    """

    box_xyxy: tuple[float, float, float, float]
    emotion: str | None


@dataclass(frozen=True)
class TruePhoto:
    """One photo. source: its name below the folder of photos, with "/". width, height: pixels, upright."""

    source: str
    width: int
    height: int
    faces: tuple[TrueFace, ...]

    @property
    def boxes_xyxy(self) -> npt.NDArray[np.float32]:
        """float32 [N, 4]."""
        return np.array([face.box_xyxy for face in self.faces], np.float32).reshape(-1, 4)

    @property
    def labels(self) -> npt.NDArray[np.int64]:
        """int64 [N], columns of EMOTIONS; -1 for a face that is not judged."""
        return np.array([-1 if f.emotion is None else EMOTIONS.index(f.emotion) for f in self.faces], np.int64)


@dataclass(frozen=True)
class Truth:
    """All photos, sorted by name. photos_dir: where they lie unless the user says otherwise."""

    path: Path
    photos_dir: Path
    photos: tuple[TruePhoto, ...]

    @property
    def face_count(self) -> int:
        """Faces that are judged."""
        return sum(int((photo.labels >= 0).sum()) for photo in self.photos)


def load_truth(path: str | Path) -> Truth:
    """Read COCO JSON or JSON lines of schema crowdmood/1, or a folder with `annotations.json` or `results.jsonl`.

    In COCO a face's emotion is its `attributes.emotion`, or else the name of its category. Raises DataError, naming
    file and place, for anything else: no such file, no JSON, missing fields, empty boxes, emotions other than the
    seven, the same photo or image id twice, no face that can be judged.
    """
    path = _file_of(Path(path))
    try:
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: not UTF-8 text: {error}") from error
    document = _json_or_none(text)
    lines = document is None or (isinstance(document, dict) and "schema" in document)
    photos = sorted(_of_lines(text, path) if lines else _of_coco(document, path), key=lambda photo: photo.source)
    for first, second in itertools.pairwise(photos):
        if first.source == second.source:
            raise DataError(f"{path}: photo {first.source!r} occurs twice")
    images = path.parent / "images"
    truth = Truth(path, images if os.path.isdir(images) else path.parent, tuple(photos))
    if not truth.face_count:
        raise DataError(f"{path}: {len(photos)} photos, but no face with an emotion: there is nothing to compare with")
    return truth


def photo_paths(truth: Truth, photos_dir: str | Path | None = None) -> list[Path]:
    """The file of every photo, in order. Raises DataError that names the first missing ones."""
    folder = truth.photos_dir if photos_dir is None else Path(photos_dir)
    paths = [folder / photo.source for photo in truth.photos]
    missing = [photo.source for photo, path in zip(truth.photos, paths, strict=True) if not os.path.isfile(path)]
    if missing:
        some = ", ".join(missing[:3]) + (", ..." if len(missing) > 3 else "")
        raise DataError(f"{truth.path}: {len(missing)} of {len(paths)} photos are not in {folder}: {some}")
    return paths


def _file_of(path: Path) -> Path:
    if not os.path.isdir(path):
        return path
    for name in ("annotations.json", "results.jsonl"):
        if os.path.isfile(path / name):
            return path / name
    raise DataError(f"{path}: expected annotations.json (COCO) or results.jsonl in this folder")


def _json_or_none(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def _of_lines(text: str, path: Path) -> Iterator[TruePhoto]:
    for number, line in enumerate(text.split("\n"), 1):  # splitlines also splits within names that hold U+2028
        if not line.strip():
            continue
        where = f"{path}:{number}"
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise DataError(f"{where}: neither COCO JSON nor a line of JSON: {error}") from error
        if not isinstance(row, Mapping) or row.get("schema") != SCHEMA:
            got = row.get("schema") if isinstance(row, Mapping) else row
            raise DataError(f"{where}: expected an object with schema {SCHEMA!r}, got {got!r:.100}")
        if row.get("error") and row.get("width") is None:
            raise DataError(f"{where}: photo {row.get('photo')!r} was never read ({row['error']}): it has no truth")
        try:
            faces = tuple(_face_of_line(face, f"{where}: face {i}") for i, face in enumerate(row["faces"], 1))
            yield _photo(row["photo"], row["width"], row["height"], faces, where)
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise DataError(f"{where}: not a photo of schema {SCHEMA}: {type(error).__name__} {error}") from error


def _face_of_line(face: Mapping[str, Any], where: str) -> TrueFace:
    x1, y1, x2, y2 = (float(value) for value in face["box_xyxy"])
    emotion = face["emotion"]
    return TrueFace(_box((x1, y1, x2, y2), where), None if emotion is None else _emotion(emotion, where))


def _of_coco(document: Any, path: Path) -> list[TruePhoto]:
    try:
        categories = {category["id"]: str(category["name"]) for category in document["categories"]}
        faces: dict[Any, list[TrueFace]] = {image["id"]: [] for image in document["images"]}
        if len(faces) < len(document["images"]):
            twice = Counter(image["id"] for image in document["images"]).most_common(1)[0][0]
            raise DataError(f"{path}: image id {twice!r} occurs twice")
        for number, row in enumerate(document["annotations"], 1):
            where = f"{path}: annotation {row.get('id', f'number {number}')}"
            if row["image_id"] not in faces:
                raise DataError(f"{where}: image_id {row['image_id']!r} is not among the images")
            x, y, width, height = (float(value) for value in row["bbox"])
            box = _box((x, y, x + width, y + height), where)
            faces[row["image_id"]].append(TrueFace(box, _emotion_of_coco(row, categories, where)))
        return [
            _photo(image["file_name"], image["width"], image["height"], tuple(faces[image["id"]]), str(path))
            for image in document["images"]
        ]
    except (AttributeError, KeyError, TypeError, ValueError, OverflowError) as error:
        raise DataError(f"{path}: not COCO JSON as expected: {type(error).__name__} {error}") from error


def _emotion_of_coco(row: Mapping[str, Any], categories: Mapping[Any, str], where: str) -> str | None:
    if row.get("iscrowd"):
        return None
    attributes = row.get("attributes") or {}
    if "emotion" in attributes:
        return None if attributes["emotion"] is None else _emotion(attributes["emotion"], where)
    category = categories.get(row["category_id"])
    if category is None:
        raise DataError(f"{where}: category_id {row['category_id']!r} is not among the categories")
    if category.strip().lower() == "face":
        raise DataError(f"{where}: category {category!r} and no attributes.emotion: its emotion is not known")
    return _emotion(category, where)


def _emotion(name: object, where: str) -> str:
    emotion = str(name).strip().lower()
    if emotion not in EMOTIONS:
        raise DataError(f"{where}: unknown emotion {name!r}: expected one of {', '.join(EMOTIONS)}")
    return emotion


def _box(box: tuple[float, float, float, float], where: str) -> tuple[float, float, float, float]:
    x1, y1, x2, y2 = box
    if not (all(math.isfinite(value) for value in box) and x1 < x2 and y1 < y2):
        raise DataError(f"{where}: expected a box with x1 < x2 and y1 < y2, got {list(box)}")
    return box


def _photo(source: object, width: object, height: object, faces: tuple[TrueFace, ...], where: str) -> TruePhoto:
    if not isinstance(source, str) or not source:
        raise DataError(f"{where}: expected the name of a photo, got {source!r}")
    if not (isinstance(width, int) and isinstance(height, int) and width > 0 and height > 0):
        raise DataError(f"{where}: photo {source!r}: expected its size in pixels, got {width!r} x {height!r}")
    return TruePhoto(source, width, height, faces)
