"""Truth files and true photos, made in a line."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from emotion import EMOTIONS
from pipeline.truth import TrueFace, TruePhoto, Truth

Box = tuple[float, float, float, float]


def true_photo(source: str, *faces: tuple[Box, str | None], width: int = 200, height: int = 100) -> TruePhoto:
    return TruePhoto(source, width, height, tuple(TrueFace(box, emotion) for box, emotion in faces))


def make_truth(*photos: TruePhoto) -> Truth:
    return Truth(Path("truth.json"), Path("images"), photos)


def coco(annotations: Sequence[dict[str, Any]], *, names: Sequence[str] = ("face",), **image: Any) -> dict[str, Any]:
    """One image, id 1, a.jpg, 200 x 100; annotations get an id and, if they have none, category 1."""
    rows = [{"id": i, "image_id": 1, "category_id": 1, **row} for i, row in enumerate(annotations, 1)]
    return {
        "images": [{"id": 1, "file_name": "a.jpg", "width": 200, "height": 100, **image}],
        "annotations": rows,
        "categories": [{"id": i, "name": name} for i, name in enumerate(names, 1)],
    }


def save_coco(path: Path, document: object) -> Path:
    path.write_text(json.dumps(document))
    return path


def one_hot(name: str, share: float = 1.0) -> dict[str, float]:
    rest = (1 - share) / (len(EMOTIONS) - 1)
    return {emotion: share if emotion == name else rest for emotion in EMOTIONS}
