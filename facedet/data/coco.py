"""The one form every data set takes here: photos with face boxes, stored as COCO JSON.

A prepared folder holds `annotations.json` and `images/`. Besides COCO's own fields each image may carry `split`
("train", "val" or "test"); other tools ignore it. `iscrowd` 1 marks a face that neither rewards nor costs.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from facedet.data.coco_file import (
    Box,
    boxes_by_key,
    face_annotations,
    face_categories,
    image_key,
    images_by_key,
    photo_name,
    read_json,
    size_of,
)
from facedet.data.images import read_photo
from facedet.data.raw import RawPhoto, corners_array, inside, locate_photos
from facedet.data.whole_file import write_whole
from facedet.errors import DataError

SPLITS = ("train", "val", "test")
ANNOTATIONS_FILE = "annotations.json"
IMAGES_FOLDER = "images"


@dataclass(frozen=True, eq=False)
class Photo:
    """One upright photo and its true faces.

    path: the file. name: its path below the data set's image folder, with forward slashes; unique in a set.
    width, height: pixels. boxes_xyxy: float32 [N, 4], pixels. ignore: bool [N], true where a face must neither
    reward nor cost. Raises DataError, naming the photo, when shapes, types or the order of corners differ.
    """

    path: Path
    name: str
    width: int
    height: int
    boxes_xyxy: npt.NDArray[np.float32]
    ignore: npt.NDArray[np.bool_]

    def __post_init__(self) -> None:
        boxes, ignore = self.boxes_xyxy, self.ignore
        if self.width < 1 or self.height < 1:
            raise DataError(f"{self.name}: expected a size of at least 1x1, got {self.width}x{self.height}")
        if boxes.ndim != 2 or boxes.shape[1] != 4 or boxes.dtype != np.float32:
            raise DataError(f"{self.name}: boxes_xyxy: expected float32 [N, 4], got {boxes.dtype} {list(boxes.shape)}")
        if ignore.shape != (len(boxes),) or ignore.dtype != np.bool_:
            got = f"{ignore.dtype} {list(ignore.shape)}"
            raise DataError(f"{self.name}: ignore: expected bool [{len(boxes)}], got {got}")
        good = np.isfinite(boxes).all(1) & (boxes[:, 0] < boxes[:, 2]) & (boxes[:, 1] < boxes[:, 3])
        if not good.all():
            raise DataError(f"{self.name}: expected x1 < x2 and y1 < y2, got box {boxes[~good][0].tolist()}")
        boxes.setflags(write=False)
        ignore.setflags(write=False)

    def read(self) -> npt.NDArray[np.uint8]:
        """BGR uint8 [height, width, 3]. Raises DataError when it cannot be read or has another size than said."""
        image = read_photo(self.path)
        self.check_size((image.shape[1], image.shape[0]))
        return image

    def check_size(self, size_wh: tuple[int, int]) -> None:
        """Raises DataError, naming the file and both sizes, when the boxes are of a photo of another size."""
        if size_wh != (self.width, self.height):
            raise DataError(
                f"{self.path}: {size_wh[0]}x{size_wh[1]} pixels: expected {self.width}x{self.height} "
                "as its annotation says"
            )

    def ignoring_small(self, min_face_px: float) -> Photo:
        """The photo with faces whose longer side is less marked as neither rewarding nor costing."""
        longer = (self.boxes_xyxy[:, 2:] - self.boxes_xyxy[:, :2]).max(1, initial=0)
        return replace(self, ignore=self.ignore | (longer < min_face_px))


@dataclass(frozen=True)
class FaceDataset:
    """Photos with true faces. name: for reports. images_dir: the folder that `Photo.name` is relative to."""

    name: str
    images_dir: Path
    photos: tuple[Photo, ...]

    def __len__(self) -> int:
        return len(self.photos)

    @property
    def face_count(self) -> int:
        """Faces that count, without the ignored ones."""
        return int(sum((~p.ignore).sum() for p in self.photos))

    def ignoring_small(self, min_face_px: float) -> FaceDataset:
        """The same photos, where faces whose longer side is less neither reward nor cost."""
        return replace(self, photos=tuple(photo.ignoring_small(min_face_px) for photo in self.photos))


def spread(photos: Sequence[Photo], most: int) -> list[Photo]:
    """All photos, or `most` of them, evenly spread."""
    step = max(len(photos) / most, 1.0)
    return [photos[int(i * step)] for i in range(min(len(photos), most))]


def fingerprint(photos: Sequence[Photo]) -> str:
    """What tells photos, by their names, sizes and boxes, from others."""
    digest = hashlib.sha256()
    for photo in photos:
        digest.update(f"{photo.name} {photo.width}x{photo.height}".encode())
        digest.update(photo.boxes_xyxy.tobytes() + photo.ignore.tobytes())
    return f"{len(photos)} photos, sha256 {digest.hexdigest()[:12]}"


def split_of(name: str, *, seed: int = 0, fractions: Sequence[float] = (0.8, 0.1, 0.1)) -> str:
    """The split of a photo, from a hash of its name alone: photos added later move none of the others.

    fractions: of train, val and test, each in [0, 1], sum 1. Raises DataError for anything else.
    """
    if len(fractions) != 3 or min(fractions) < 0 or abs(sum(fractions) - 1) > 1e-6:
        raise DataError(f"split fractions: expected three numbers of at least 0 with sum 1, got {list(fractions)}")
    digest = hashlib.sha256(f"{seed}:{name}".encode()).digest()
    place = int.from_bytes(digest[:8], "big") / 2**64
    if place < fractions[0]:
        return "train"
    return "val" if place < fractions[0] + fractions[1] else "test"


def load_coco(json_path: str | Path, images_dir: str | Path, *, split: str | None = None) -> FaceDataset:
    """Read COCO JSON: boxes of the category called face, or of the only one. Photos are in the order of their names.

    split: "train", "val" or "test" takes the photos whose `split` says so; None takes all.
    Raises DataError for unreadable JSON, missing fields, boxes without extent, several categories none of which is
    called face, or a split the file does not name. Photo files are not opened here.
    """
    json_path, images_dir = Path(json_path), Path(images_dir)
    document = read_json(json_path)
    try:
        images, annotations = document["images"], face_annotations(document, json_path)
        if split is not None:
            images = _of_split(images, split, json_path)
        boxes = boxes_by_key(document["images"], annotations)
        photos = [_photo(image, boxes[image_key(image["id"])], images_dir) for image in images]
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as e:
        raise DataError(f"{json_path}: not COCO JSON as expected: {type(e).__name__} {e}") from e
    name = json_path.parent.name + (f"/{split}" if split else "")
    return FaceDataset(name, images_dir, tuple(sorted(photos, key=lambda p: p.name)))


def read_coco(
    json_path: str | Path,
    images_dir: str | Path,
    *,
    classes: Collection[str] = ("face",),
    notice: Callable[[str], None] = lambda text: None,
) -> list[RawPhoto]:
    """Every photo of a COCO file, unchecked; for `facedet prepare coco`.

    A photo lies in `images_dir` or beside the file, where its name says, or is the only one of that file name alone.
    classes: names that count as faces, any case; where none of the file's categories has such a name, DataError, as
    where none of the annotations has an image. notice: called with a sentence where some have none.
    """
    json_path, images_dir = Path(json_path), Path(images_dir)
    document = read_json(json_path)
    try:
        wanted = face_categories(document, {c.lower() for c in classes}, json_path)
        faces = [a for a in document["annotations"] if a["category_id"] in wanted]
        boxes = boxes_by_key(document["images"], faces, notice=notice)
        raws = [
            RawPhoto(
                photo_name(image),
                corners_array([corners for corners, _ in boxes[key]]),
                np.array([ignore for _, ignore in boxes[key]], np.bool_),
                declared_wh=size_of(image),
                split=image.get("split") if image.get("split") in SPLITS else None,
            )
            for key, image in images_by_key(document["images"]).items()
        ]
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as e:
        raise DataError(f"{json_path}: not COCO JSON as expected: {type(e).__name__} {e}") from e
    by_name_alone = locate_photos(images_dir, raws)
    places = ((_present(images_dir, raw.name) or _present(json_path.parent, raw.name), raw) for raw in raws)
    return [replace(raw, path=place or by_name_alone.get(raw.name)) for place, raw in places]


def _present(folder: Path, name: str) -> Path | None:
    path = inside(folder, name)
    return path if path.is_file() else None


def _of_split(images: list[dict[str, Any]], split: str, path: Path) -> list[dict[str, Any]]:
    if split not in SPLITS:
        raise DataError(f"split: expected one of {', '.join(SPLITS)}, got {split!r}")
    chosen = [image for image in images if image.get("split") == split]
    if not chosen:
        known = sorted({str(image["split"]) for image in images if "split" in image}) or ["none"]
        raise DataError(f"{path}: no photo of split {split!r}; splits in the file: {', '.join(known)}")
    return chosen


def _photo(image: Mapping[str, Any], boxes: list[Box], images_dir: Path) -> Photo:
    name = str(image["file_name"])
    return Photo(
        images_dir / name,
        name,
        int(image["width"]),
        int(image["height"]),
        np.array([b for b, _ in boxes], np.float32).reshape(-1, 4),
        np.array([i for _, i in boxes], np.bool_),
    )


def write_coco(
    dataset: FaceDataset, json_path: str | Path, *, splits: Mapping[str, str] | None = None, description: str = ""
) -> None:
    """Write COCO JSON with the one category "face"; `splits` maps photo names to "train", "val" or "test".

    The file appears whole.
    """
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for image_id, photo in enumerate(dataset.photos, 1):
        image: dict[str, Any] = {"id": image_id, "file_name": photo.name, "width": photo.width, "height": photo.height}
        images.append(image | ({"split": splits[photo.name]} if splits else {}))
        for (x1, y1, x2, y2), ignore in zip(photo.boxes_xyxy.tolist(), photo.ignore.tolist(), strict=True):
            bbox = [round(v, 3) for v in (x1, y1, x2 - x1, y2 - y1)]
            annotations.append(
                {"id": len(annotations) + 1, "image_id": image_id, "category_id": 1, "bbox": bbox,
                 "area": round(bbox[2] * bbox[3], 3), "iscrowd": int(ignore)}
            )  # fmt: skip
    document = {
        "info": {"description": description or dataset.name},
        "images": images,
        "annotations": annotations,
        "categories": [{"id": 1, "name": "face"}],
    }
    write_whole(Path(json_path), json.dumps(document, indent=1))
