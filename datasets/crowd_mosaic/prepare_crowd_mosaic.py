"""Make crowd scenes with known faces and emotions from a split of FER-2013, to evaluate the whole chain on.

    python datasets/crowd_mosaic/prepare_crowd_mosaic.py [FER] --split public --out FOLDER

FER is fer2013.csv, Kaggle's archive.zip or its unpacked folder; default $CROWDMOOD_DATASETS/fer2013/archive.zip.
FOLDER gets images/, annotations.json (COCO, emotion in `attributes`) and results.jsonl (schema crowdmood/1); default
$CROWDMOOD_DATASETS/crowd_mosaic/<split>. Equal arguments make equal files. Then: crowdmood evaluate --truth FOLDER
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections import deque
from pathlib import Path

import cv2
import numpy as np
from scene import Placed, paint_scene, place_faces

from emotion import EMOTIONS
from emotion.data import FerSplit, load_fer2013
from emotion.errors import DataError
from pipeline.reading import FaceReading, PhotoReading

HERE = Path(__file__).resolve().parent
JPEG_QUALITY = 95
MIN_CONTRAST = 4.0
"""Images with less spread of grey values (standard deviation) show nothing; FER-2013 has a dozen."""


def main(arguments: argparse.Namespace) -> int:
    """Write the folder; 0 when all went well."""
    try:
        split = load_fer2013(arguments.fer, arguments.split)
    except DataError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    out: Path = arguments.out or data_root() / "crowd_mosaic" / arguments.split
    (out / "images").mkdir(parents=True, exist_ok=True)
    photos = make_photos(split, out / "images", arguments)
    faces = sum(len(placed) for placed in photos.values())
    size_wh = (arguments.width, arguments.height)
    (out / "annotations.json").write_text(json.dumps(coco(photos, split, size_wh), indent=1))
    readings = [reading(name, placed, split, size_wh) for name, placed in photos.items()]
    (out / "results.jsonl").write_text("".join(json.dumps(r.to_dict()) + "\n" for r in readings))
    print(f"{out}: {len(photos)} photos, {faces} faces of {arguments.min_face} to {arguments.max_face} px")
    return 0


def make_photos(split: FerSplit, folder: Path, arguments: argparse.Namespace) -> dict[str, list[Placed]]:
    """Write the pictures; their names, and the faces in each. Every face is used once at most."""
    rng = np.random.default_rng(arguments.seed)
    rows = np.flatnonzero(split.images.reshape(len(split), -1).std(1) >= MIN_CONTRAST)
    rng.shuffle(rows)
    low, high = np.log(arguments.min_face), np.log(arguments.max_face)
    sides = np.exp(rng.uniform(low, high, len(rows))).round().astype(int)
    waiting = deque(zip(rows.tolist(), sides.tolist(), strict=True))
    size_wh = (arguments.width, arguments.height)
    photos: dict[str, list[Placed]] = {}
    while waiting and len(photos) < arguments.photos:
        placed = place_faces(waiting, size_wh, arguments.faces_per_photo, rng)
        if not placed:
            break
        name = f"{arguments.split}_{len(photos):04d}.jpg"
        picture = paint_scene(split.images, placed, size_wh, rng)
        cv2.imwrite(str(folder / name), picture, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
        photos[name] = placed
    return photos


def coco(photos: dict[str, list[Placed]], split: FerSplit, size_wh: tuple[int, int]) -> dict[str, object]:
    """COCO JSON: the category `face`; attributes tell the emotion and the image of FER-2013."""
    images, annotations = [], []
    for number, (name, placed) in enumerate(photos.items(), 1):
        images.append({"id": number, "file_name": name, "width": size_wh[0], "height": size_wh[1]})
        for face in placed:
            x1, y1, x2, y2 = face.square_xyxy
            row = {"id": len(annotations) + 1, "image_id": number, "category_id": 1, "iscrowd": 0}
            row |= {"bbox": [x1, y1, x2 - x1, y2 - y1], "area": (x2 - x1) * (y2 - y1)}
            known = {"emotion": EMOTIONS[split.labels[face.face]], "fer2013": split.names[face.face]}
            annotations.append(row | {"attributes": known})
    categories = [{"id": 1, "name": "face"}]
    info = {"description": "crowd mosaic: FER-2013 faces in generated scenes, for measuring only"}
    return {"info": info, "images": images, "annotations": annotations, "categories": categories}


def reading(name: str, placed: list[Placed], split: FerSplit, size_wh: tuple[int, int]) -> PhotoReading:
    """The truth as the pipeline would have said it."""
    faces = []
    for face in placed:
        x1, y1, x2, y2 = (float(value) for value in face.square_xyxy)
        shares = {emotion: float(i == split.labels[face.face]) for i, emotion in enumerate(EMOTIONS)}
        faces.append(FaceReading((x1, y1, x2, y2), 1.0, shares))
    width, height = size_wh
    return PhotoReading(name, width, height, detector="truth", emotion_model="truth", faces=tuple(faces))


def data_root() -> Path:
    """Where data lies when nobody says."""
    root = os.environ.get("CROWDMOOD_DATASETS")
    return Path(root) if root else HERE / "data"


def parse(argv: list[str]) -> argparse.Namespace:
    """The command line; exits with 2 when it cannot work."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("fer", nargs="?", type=Path, default=data_root() / "fer2013" / "archive.zip", metavar="FER")
    parser.add_argument("--split", choices=("train", "public", "private"), default="public")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--photos", type=int, default=10_000, help="at most; default: until the faces are used up")
    parser.add_argument("--faces-per-photo", type=int, default=16, help="at most")
    parser.add_argument("--min-face", type=int, default=24, help="smallest side of a face square in pixels")
    parser.add_argument("--max-face", type=int, default=200)
    parser.add_argument("--width", type=int, default=1280)
    parser.add_argument("--height", type=int, default=960)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args(argv)
    if not 8 <= arguments.min_face <= arguments.max_face <= min(arguments.width, arguments.height):
        parser.error("expected 8 <= --min-face <= --max-face <= --width and --height")
    if min(arguments.photos, arguments.faces_per_photo) < 1:
        parser.error("expected --photos and --faces-per-photo of at least 1")
    return arguments


if __name__ == "__main__":
    sys.exit(main(parse(sys.argv[1:])))
