"""Load whatever data set a path holds."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from facedet.data.coco import (
    ANNOTATIONS_FILE,
    IMAGES_FOLDER,
    SPLITS,
    FaceDataset,
    Photo,
    load_coco,
    read_coco,
)
from facedet.data.coco_file import read_json
from facedet.data.dataturks import read_dataturks
from facedet.data.prepare import REPORT_FILE, unique_names
from facedet.data.raw import RawPhoto, locate_photos
from facedet.data.wider import is_wider, load_wider
from facedet.errors import DataError

PREPARED = f"a folder with {ANNOTATIONS_FILE} and {IMAGES_FOLDER}/ (made by `facedet prepare`)"


def load_data(path: str | Path, *, split: str | None = None) -> FaceDataset:
    """A folder with `annotations.json` and `images/`, a COCO JSON file beside `images/`, or WIDER FACE's own folder.

    split: "train", "val" or "test" where the set names splits; WIDER's is the one its list file names. None takes all.
    Raises DataError for anything else.
    """
    path = Path(path)
    if path.is_file():
        images = path.parent / IMAGES_FOLDER
        if not images.is_dir():
            raise DataError(
                f"{path}: expected its photos in {images}; `facedet prepare coco` brings both together with --images"
            )
        return load_coco(path, images, split=split)
    if (path / ANNOTATIONS_FILE).is_file():
        return load_coco(path / ANNOTATIONS_FILE, path / IMAGES_FOLDER, split=split)
    if is_wider(path):
        if split is not None and not (path / f"wider_face_{split}_bbx_gt.txt").is_file():
            raise DataError(f"{path}: no split {split!r} here, expected a wider_face_{split}_bbx_gt.txt")
        return load_wider(path)
    raise DataError(f"{path}: expected {PREPARED} or WIDER FACE's own folder")


def load_training(
    folders: Sequence[str | Path], *, val: str | Path | None = None
) -> tuple[FaceDataset, FaceDataset | None]:
    """The photos to train on and those to measure on, None where there are none.

    Trained on: the train splits of `folders` together; all photos of a COCO file that names no splits. Measured on:
    the val split of `val`, all of it where it names no splits; without `val`, that of the first folder that has one.
    Raises DataError as `load_data`, and for a photo that would be in both, also as a hard link or, of another prepared
    folder, as a copy.
    """
    sets = [load_data(folder, split=_split_or_all(folder, "train")) for folder in folders]
    photos = tuple(photo for data in sets for photo in data.photos)
    together = FaceDataset(" + ".join(data.name for data in sets), sets[0].images_dir, photos)
    measured = val or next((folder for folder in folders if "val" in _splits(folder)), None)
    if measured is None:
        return together, None
    val_set = load_data(measured, split=_split_or_all(measured, "val"))
    trained = set[object]().union(*(_marks(photo) for photo in photos))
    copies = set[str]().union(*(_checksums(data).values() for data in sets if data.images_dir != val_set.images_dir))
    checksums = _checksums(val_set)
    both = [p.path for p in val_set.photos if _marks(p) & trained or checksums.get(p.name) in copies]
    if both:
        raise DataError(f"{measured}: {len(both)} photos would be trained and measured on, the first is {min(both)}")
    return together, val_set


def _marks(photo: Photo) -> set[object]:
    """What tells a photo's file from others: its path, and what hard links to it share."""
    path = photo.path.resolve()
    status = path.stat() if path.is_file() else None
    return {path, (status.st_dev, status.st_ino)} if status else {path}


def _checksums(data: FaceDataset) -> dict[str, str]:
    """Photo -> checksum of its file, for the photos of a set that `facedet prepare` made."""
    report = data.images_dir.parent / REPORT_FILE
    document = read_json(report) if report.is_file() else {}
    known = document.get("sha256") if isinstance(document, dict) else None
    known = known if isinstance(known, dict) else {}
    return {photo.name: str(known[photo.name]) for photo in data.photos if photo.name in known}


def _split_or_all(path: str | Path, split: str) -> str | None:
    """`split`, or None, which takes all photos, for a set that names no splits."""
    return split if _splits(path) else None


def _splits(path: str | Path) -> set[str]:
    """The splits that a set names; WIDER's own layout names the one of its list file."""
    path = Path(path)
    source = path / ANNOTATIONS_FILE if path.is_dir() else path
    if source.is_file():
        document = read_json(source)
        images = document.get("images") if isinstance(document, dict) else None
        images = images if isinstance(images, list) else []
        return {str(image["split"]) for image in images if isinstance(image, dict) and "split" in image}
    return {name for name in SPLITS if (path / f"wider_face_{name}_bbx_gt.txt").is_file()}


@dataclass(frozen=True)
class RawData:
    """Unchecked photos, the annotation file they come from, and its format, "coco" or "dataturks"."""

    photos: list[RawPhoto]
    source: Path
    form: str


def load_raw(path: str | Path, *, images: str | Path | None = None) -> RawData:
    """Labels as they are, for an audit: a prepared folder, a COCO JSON file or Dataturks' JSON with `images`.

    Labels of a photo that is listed twice are joined in the order of its listings.
    Raises DataError for anything else, and for Dataturks' JSON without a folder of photos.
    """
    path = Path(path)
    source = path / ANNOTATIONS_FILE if path.is_dir() else path
    if path.is_dir() and not source.is_file():
        raise DataError(f"{path}: expected {PREPARED}, a COCO JSON file or Dataturks' JSON")
    if is_coco(source):
        listed = read_coco(source, Path(images or source.parent / IMAGES_FOLDER))
        return RawData(unique_names(listed)[0], source, "coco")
    if images is None:
        raise DataError(f"{source}: Dataturks' JSON holds no photos; name their folder with --images")
    photos, _ = unique_names(read_dataturks(source))
    found = locate_photos(Path(images), photos)
    return RawData([replace(photo, path=found.get(photo.name)) for photo in photos], source, "dataturks")


def is_coco(path: Path) -> bool:
    """Whether a JSON file has COCO's two lists at the top; DataError when there is no such file."""
    try:
        document = json.loads(path.read_text(encoding="utf-8-sig"))
    except OSError as e:
        raise DataError(f"{path}: cannot read: {e.strerror}") from e
    except ValueError:
        return False  # JSON lines
    return isinstance(document, dict) and {"images", "annotations"} <= set(document)
