"""Dataturks' JSON: one record per photo, `content` is a URL, corner points are relative to the photo's size.

Three shapes are in the wild: JSON lines, `{"data": [...]}` and a JSON array. `label` is a list or a string,
`annotation` may be missing or null, corner points come in any order, and `points` may hold more than two.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from facedet.data.raw import RawPhoto, corners_array, name_of_url
from facedet.errors import DataError

FACE_LABELS = frozenset({"face"})


def read_records(path: str | Path) -> list[dict[str, Any]]:
    """The records of any of the three shapes, as they are. Raises DataError with file and line."""
    return read_shaped(path)[0]


def shaped(records: list[dict[str, Any]], document: Any) -> str:
    """The text of a file with these records, in the shape of the `document` that `read_shaped` gave."""
    if document is None:
        return "".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records)
    whole = {**document, "data": records} if isinstance(document, dict) else records
    return json.dumps(whole, ensure_ascii=False, indent=1) + "\n"


def read_shaped(path: str | Path) -> tuple[list[dict[str, Any]], Any]:
    """As `read_records`, and the document the records stand in: an array, an object with `data`; None for lines."""
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8-sig")
    except OSError as e:
        raise DataError(f"{path}: cannot read: {e.strerror}") from e
    except UnicodeDecodeError as e:
        raise DataError(f"{path}: expected UTF-8 text: {e}") from e
    try:
        document = json.loads(text)
    except ValueError:
        return _read_lines(path, text), None
    if isinstance(document, dict) and "data" not in document:
        return _check_records(path, [document]), None
    return _check_records(path, document["data"] if isinstance(document, dict) else document), document


def _read_lines(path: Path, text: str) -> list[dict[str, Any]]:
    records = []
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip():
            continue
        try:
            records.append(json.loads(line))
        except ValueError as e:
            raise DataError(f"{path}: line {number}: expected one JSON record per line: {e}") from e
    return _check_records(path, records)


def _check_records(path: Path, records: Any) -> list[dict[str, Any]]:
    if not isinstance(records, list) or not records:
        raise DataError(f"{path}: expected JSON lines, a JSON array or {{'data': [...]}} with at least one record")
    for number, record in enumerate(records, 1):
        if not isinstance(record, dict) or not isinstance(record.get("content"), str):
            raise DataError(f"{path}: record {number}: expected an object whose 'content' is the photo's URL")
    return records


def is_face(annotation: Mapping[str, Any]) -> bool:
    """Whether an annotation is a face: `label` is "Face" in any case, alone or in a list."""
    label = annotation.get("label")
    labels = [label] if isinstance(label, str) else label if isinstance(label, list) else []
    return any(str(one).strip().lower() in FACE_LABELS for one in labels)


def corners_of(annotation: Mapping[str, Any]) -> tuple[float, float, float, float]:
    """x1, y1, x2, y2 in [0, 1] of the photo, from corner points in any order. Raises ValueError or TypeError."""
    points = annotation["points"]
    xs = [float(p["x"] if isinstance(p, dict) else p[0]) for p in points]
    ys = [float(p["y"] if isinstance(p, dict) else p[1]) for p in points]
    if len(xs) < 2:
        raise ValueError(f"expected at least two corner points, got {len(xs)}")
    return min(xs), min(ys), max(xs), max(ys)


def read_dataturks(path: str | Path) -> list[RawPhoto]:
    """One RawPhoto per record; labels other than faces are left out. Raises DataError naming the record."""
    photos = []
    for number, record in enumerate(read_records(path), 1):
        try:
            photos.append(_raw_photo(record))
        except (KeyError, IndexError, TypeError, ValueError, AttributeError, DataError) as e:
            what = f"no {e}" if isinstance(e, KeyError) else str(e)
            raise DataError(f"{path}: record {number} ({record['content']}): {what}") from e
    return photos


def _raw_photo(record: Mapping[str, Any]) -> RawPhoto:
    annotations = record.get("annotation") or []
    faces = [a for a in annotations if is_face(a)]
    sizes = {(int(a["imageWidth"]), int(a["imageHeight"])) for a in annotations if a.get("imageWidth")}
    if len(sizes) > 1:
        raise ValueError(f"its annotations disagree on the photo's size: {sorted(sizes)}")
    return RawPhoto(
        name=name_of_url(record["content"]),
        corners=corners_array([corners_of(a) for a in faces]),
        ignore=np.zeros(len(faces), np.bool_),
        relative=True,
        url=record["content"],
        declared_wh=sizes.pop() if sizes else None,
    )
