"""What a COCO file says: its categories of faces, its images by their ids, and the boxes of each."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from facedet.errors import DataError

Box = tuple[list[float], bool]
"""x1, y1, x2, y2 of an annotation, and whether it is to be ignored."""


def read_json(path: Path) -> Any:
    """The parsed file; DataError with the path when it is missing or no JSON."""
    try:
        return json.loads(path.read_text(encoding="utf-8-sig"))
    except OSError as e:
        raise DataError(f"{path}: cannot read: {e.strerror}") from e
    except ValueError as e:
        raise DataError(f"{path}: expected JSON: {e}") from e


def face_annotations(document: Any, path: Path) -> list[Any]:
    """A COCO file's annotations of faces: of the category called face, any case, or of all where it has only one."""
    annotations: list[Any] = document["annotations"]
    if len(document.get("categories", ())) < 2:
        return annotations
    wanted = face_categories(document, {"face"}, path)
    return [a for a in annotations if a["category_id"] in wanted]


def face_categories(document: Any, classes: Collection[str], path: Path) -> set[Any]:
    """Ids of the categories with a name in `classes` (lower case); DataError when there is none."""
    categories = document["categories"]
    wanted = {c["id"] for c in categories if str(c["name"]).strip().lower() in classes}
    if not wanted:
        names = [c["name"] for c in categories]
        raise DataError(
            f"{path}: none of its categories is called {' or '.join(sorted(classes))}: {names}; "
            "`facedet prepare coco` takes others with --face-class"
        )
    return wanted


def photo_name(image: Mapping[str, Any]) -> str:
    """An image's file name with forward slashes, which files written on Windows lack."""
    name = str(image["file_name"])
    return name.replace("\\", "/").lstrip("/") if "\\" in name else name


def size_of(image: Mapping[str, Any]) -> tuple[int, int] | None:
    """An image's width and height; None where the file does not tell, or tells 0."""
    width, height = (int(image.get(side) or 0) for side in ("width", "height"))
    return (width, height) if width and height else None


def image_key(image_id: Any) -> str:
    """An image's id as text, the same for 1, 1.0 and "1"."""
    return str(int(image_id) if isinstance(image_id, float) and image_id.is_integer() else image_id)


def images_by_key(images: Sequence[Mapping[str, Any]]) -> dict[str, Mapping[str, Any]]:
    """A file's images by `image_key` of their ids, one listed twice once; ValueError for two photos of one id."""
    by_key: dict[str, Mapping[str, Any]] = {}
    for image in images:
        first = by_key.setdefault(image_key(image["id"]), image)
        if first["file_name"] != image["file_name"]:
            raise ValueError(f"image id {image['id']!r} is of {first['file_name']} and of {image['file_name']}")
    return by_key


def boxes_by_key(
    images: Sequence[Mapping[str, Any]],
    annotations: Sequence[Mapping[str, Any]],
    *,
    notice: Callable[[str], None] = lambda text: None,
) -> dict[str, list[Box]]:
    """`image_key` -> the boxes of that image. notice: called with a sentence on annotations without an image.

    Raises ValueError when no annotation has an image.
    """
    boxes: dict[str, list[Box]] = {key: [] for key in images_by_key(images)}
    strays = [a for a in annotations if image_key(a["image_id"]) not in boxes]
    if strays:
        first = f"the first is annotation {strays[0].get('id')} with image_id {strays[0]['image_id']!r}"
        sentence = f"{len(strays)} of {len(annotations)} annotations of faces have no image, {first}"
        if len(strays) == len(annotations):
            raise ValueError(sentence)
        notice(sentence)
    for a in annotations:
        if (key := image_key(a["image_id"])) in boxes:
            boxes[key].append(_box(a))
    return boxes


def _box(annotation: Mapping[str, Any]) -> Box:
    try:
        x, y, w, h = (float(v) for v in annotation["bbox"])
    except (KeyError, TypeError, ValueError) as e:
        which, bbox = annotation.get("id"), annotation.get("bbox")
        raise ValueError(f"annotation {which}: expected a bbox of four numbers, got {bbox!r}") from e
    return [x, y, x + w, y + h], bool(float(annotation.get("iscrowd") or 0))
