"""Photos and data sets made on the spot, for the tests beside this file."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np


def write_photo(path: Path, width: int = 120, height: int = 80) -> Path:
    """A grey photo with a gradient; folders are made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image = np.linspace(0, 255, width * height * 3).reshape(height, width, 3).astype(np.uint8)
    assert cv2.imwrite(str(path), image)
    return path


def record(
    name: str, corners: Sequence[Sequence[float]], *, size: tuple[int, int] | None = (120, 80)
) -> dict[str, Any]:
    """A Dataturks record; corners: rows of x1, y1, x2, y2 in [0, 1]."""
    declared = {"imageWidth": size[0], "imageHeight": size[1]} if size else {}
    boxes = [
        {"label": ["Face"], "notes": "", "points": [{"x": a, "y": b}, {"x": c, "y": d}], **declared}
        for a, b, c, d in corners
    ]
    return {"content": f"http://photos.invalid/set/{name}", "annotation": boxes, "extras": None}


def write_lines(path: Path, records: Sequence[Any]) -> Path:
    """JSON lines."""
    path.write_text("\n".join(json.dumps(r) for r in records))
    return path
