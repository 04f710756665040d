"""Dataturks' JSON: one record per photo, `content` is a URL, corner points are relative to the photo's size.

Three shapes are in the wild: JSON lines, `{"data": [...]}` and a JSON array. `label` is a list or a string,
`annotation` may be missing or null, corner points come in any order, and `points` may hold more than two.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from facedet.data.raw import RawPhoto, corners_array, name_of_url
from facedet.errors import DataError

FACE_LABELS = frozenset({"face"})


def shaped(records: list[dict[str, Any]], document: Any) -> str:
    """The text of a file with these records, in the shape of the `document` that `read_records` gave."""
    if document is None:
        return "".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records)
    whole = {**document, "data": records} if isinstance(document, dict) else records
    return json.dumps(whole, ensure_ascii=False, indent=1) + "\n"


def read_records(path: Path) -> tuple[list[Any], Any]:
    """The records, whatever they are, and the document they stand in: an array, an object with `data`; None for lines.

    Raises DataError with file and, where there are lines, the line.
    """
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
        return [document], None
    records = document["data"] if isinstance(document, dict) else document
    if not isinstance(records, list) or not records:
        raise DataError(f"{path}: expected JSON lines, a JSON array or {{'data': [...]}} with at least one record")
    return records, document


def _read_lines(path: Path, text: str) -> list[Any]:
    records = []
    for number, line in enumerate(text.split("\n"), 1):  # JSON may hold what else splitlines() takes for an end
        if not line.strip():
            continue
        try:
            records.append(json.loads(line))
        except ValueError as e:
            raise DataError(f"{path}: line {number}: expected one JSON record per line: {e}") from e
    if not records:
        raise DataError(f"{path}: expected JSON with at least one record, or one record per line")
    return records


def _url(record: Any) -> str:
    if not isinstance(record, dict) or not isinstance(record.get("content"), str):
        raise ValueError("expected an object whose 'content' is the photo's URL")
    url: str = record["content"]
    return url


def is_face(annotation: Mapping[str, Any]) -> bool:
    """Whether an annotation is a face: `label` is "Face" in any case, alone or in a list."""
    label = annotation.get("label")
    labels = [label] if isinstance(label, str) else label if isinstance(label, list) else []
    return any(str(one).strip().lower() in FACE_LABELS for one in labels)


def corners_of(annotation: Mapping[str, Any]) -> tuple[float, float, float, float]:
    """x1, y1, x2, y2 in [0, 1] of the photo, from corner points in any order; not numbers without two points."""
    try:
        points = annotation["points"]
        xs = [float(p["x"] if isinstance(p, dict) else p[0]) for p in points]
        ys = [float(p["y"] if isinstance(p, dict) else p[1]) for p in points]
    except (KeyError, IndexError, TypeError, ValueError):
        xs = ys = []
    return (min(xs), min(ys), max(xs), max(ys)) if len(xs) > 1 else (math.nan,) * 4


def read_dataturks(path: str | Path) -> list[RawPhoto]:
    """One RawPhoto per record; labels other than faces are left out, a record of no use carries its `fault`.

    Raises DataError when the file cannot be read or all of its records are of no use, naming the first.
    """
    photos = [raw_photo(record, number) for number, record in enumerate(read_records(Path(path))[0], 1)]
    if all(photo.fault for photo in photos):
        raise DataError(f"{path}: {photos[0].fault}")
    return photos


def raw_photo(record: Any, number: int) -> RawPhoto:
    """What a file's record says, counted from 1; one of no use carries its `fault`."""
    where = f"record {number}"
    try:
        url = _url(record)
        where += f" ({url})"
        name = name_of_url(url)
        annotations = record.get("annotation") or []
        faces = [a for a in annotations if is_face(a)]
        sizes = {(int(a["imageWidth"]), int(a["imageHeight"])) for a in annotations if a.get("imageWidth")}
        if len(sizes) > 1:
            raise ValueError(f"its annotations disagree on the photo's size: {sorted(sizes)}")
    except (KeyError, TypeError, ValueError, OverflowError, AttributeError, DataError) as e:
        what = f"no {e}" if isinstance(e, KeyError) else str(e)
        return RawPhoto(f"record {number}", corners_array([]), np.zeros(0, np.bool_), fault=f"{where}: {what}")
    return RawPhoto(
        name=name,
        corners=corners_array([corners_of(a) for a in faces]),
        ignore=np.zeros(len(faces), np.bool_),
        relative=True,
        url=url,
        declared_wh=sizes.pop() if sizes else None,
    )
