"""Pascal VOC: one XML file per photo.

Read here and not by supervision, which gives up at the first photo that cannot be decoded and forgets `difficult`.
Coordinates are VOC's: pixels counted from 1, the far corner included, so only the near corner moves by one.
"""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from xml.etree import ElementTree

import numpy as np

from facedet.data.raw import IMAGE_SUFFIXES, RawPhoto, corners_array, find_photos
from facedet.errors import DataError


def read_voc(
    folder: str | Path, *, images: str | Path | None = None, classes: Collection[str] = ("face",)
) -> list[RawPhoto]:
    """Every XML file below `folder`. Photos are looked up by file name in `images` (default: anywhere in `folder`).

    classes: names that count as faces, any case. `difficult` faces are to be ignored.
    Raises DataError naming the file, also when there is none.
    """
    folder = Path(folder)
    files = sorted(folder.rglob("*.xml"))
    if not files:
        raise DataError(f"{folder}: expected Pascal VOC XML files, found none")
    photos = {p.name: p for p in find_photos(Path(images or folder))}
    return [_read_file(file, photos, {c.lower() for c in classes}) for file in files]


def _read_file(file: Path, photos: dict[str, Path], classes: set[str]) -> RawPhoto:
    try:
        text = file.read_text(encoding="utf-8-sig")
        if "<!DOCTYPE" in text or "<!ENTITY" in text:
            raise DataError(f"{file}: expected plain Pascal VOC XML, found a document type (entities are not read)")
        root = ElementTree.fromstring(text)
        rows, ignore = [], []
        for item in root.iter("object"):
            if _text(item, "name").strip().lower() in classes:
                x1, y1, x2, y2 = (float(_text(item, f"bndbox/{side}")) for side in ("xmin", "ymin", "xmax", "ymax"))
                rows.append([min(x1, x2) - 1, min(y1, y2) - 1, max(x1, x2), max(y1, y2)])
                ignore.append(item.findtext("difficult", "0").strip() == "1")
        width, height = (int(float(root.findtext(f"size/{side}", "0"))) for side in ("width", "height"))
    except (OSError, UnicodeDecodeError, ElementTree.ParseError, ValueError) as e:
        raise DataError(f"{file}: not Pascal VOC as expected: {e}") from e
    name = _photo_name(file, root.findtext("filename", ""), photos)
    declared = (width, height) if width and height else None
    return RawPhoto(name, corners_array(rows), np.array(ignore, np.bool_), path=photos.get(name), declared_wh=declared)


def _text(item: ElementTree.Element, path: str) -> str:
    text = item.findtext(path)
    if text is None:
        raise ValueError(f"an object has no <{path}>")
    return text


def _photo_name(file: Path, declared: str, photos: dict[str, Path]) -> str:
    """The declared file name where such a photo exists, else the one with the XML file's stem."""
    base = declared.replace("\\", "/").rsplit("/", 1)[-1].strip()
    if base in photos:
        return base
    same_stem = [file.stem + suffix for suffix in sorted(IMAGE_SUFFIXES) if file.stem + suffix in photos]
    return same_stem[0] if same_stem else base or file.stem
