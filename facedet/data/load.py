"""Load whatever data set a path holds."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path

from facedet.data.coco import ANNOTATIONS_FILE, IMAGES_FOLDER, FaceDataset, load_coco, read_coco
from facedet.data.dataturks import read_dataturks
from facedet.data.prepare import unique_names
from facedet.data.raw import RawPhoto, find_photo
from facedet.data.wider import is_wider, load_wider
from facedet.errors import DataError


def load_data(path: str | Path, *, split: str | None = None) -> FaceDataset:
    """A folder with `annotations.json` and `images/`, a COCO JSON file beside `images/`, or WIDER FACE's own folder.

    split: "train", "val" or "test" where the set names splits; WIDER's is the one its list file names. None takes all.
    Raises DataError for anything else.
    """
    path = Path(path)
    if path.is_file():
        return load_coco(path, path.parent / IMAGES_FOLDER, split=split)
    if (path / ANNOTATIONS_FILE).is_file():
        return load_coco(path / ANNOTATIONS_FILE, path / IMAGES_FOLDER, split=split)
    if is_wider(path):
        if split is not None and not (path / f"wider_face_{split}_bbx_gt.txt").is_file():
            raise DataError(f"{path}: no split {split!r} here, expected a wider_face_{split}_bbx_gt.txt")
        return load_wider(path)
    raise DataError(
        f"{path}: expected a folder with {ANNOTATIONS_FILE} and {IMAGES_FOLDER}/ (made by `facedet prepare`) "
        "or WIDER FACE's own folder"
    )


@dataclass(frozen=True)
class RawData:
    """Unchecked photos, the annotation file they come from, and its format, "coco" or "dataturks"."""

    photos: list[RawPhoto]
    source: Path
    form: str


def load_raw(path: str | Path, *, images: str | Path | None = None) -> RawData:
    """Labels as they are, for an audit: a prepared folder, a COCO JSON file or Dataturks' JSON with `images`.

    Raises DataError for anything else, and for Dataturks' JSON without a folder of photos.
    """
    path = Path(path)
    source = path / ANNOTATIONS_FILE if path.is_dir() else path
    if is_coco(source):
        return RawData(read_coco(source, Path(images or source.parent / IMAGES_FOLDER)), source, "coco")
    if images is None:
        raise DataError(f"{source}: Dataturks' JSON holds no photos; name their folder with --images")
    photos, _ = unique_names(read_dataturks(source))
    return RawData([replace(p, path=find_photo(Path(images), p.name)) for p in photos], source, "dataturks")


def is_coco(path: Path) -> bool:
    """Whether a JSON file has COCO's two lists at the top; DataError when there is no such file."""
    try:
        document = json.loads(path.read_text(encoding="utf-8-sig"))
    except OSError as e:
        raise DataError(f"{path}: cannot read: {e.strerror}") from e
    except ValueError:
        return False  # JSON lines
    return isinstance(document, dict) and {"images", "annotations"} <= set(document)
