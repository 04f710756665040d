"""WIDER FACE, Caltech Web Faces and COCO: what is read and what is refused."""

from __future__ import annotations

import json
import re
import struct
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from facedet.data.coco import load_coco, read_coco
from facedet.data.images import read_photo
from facedet.data.load import load_data, load_training
from facedet.data.prepare import PrepareOptions, prepare
from facedet.data.webfaces import read_webfaces
from facedet.data.wider import is_wider, load_wider, read_wider
from facedet.data.yolo import read_yolo
from facedet.errors import DataError
from tests.facedet.photos import write_photo

# WIDER FACE


def wider(folder: Path, text: str, photos: tuple[str, ...] = ("e/a.jpg",)) -> Path:
    for name in photos:
        write_photo(folder / "images" / name)
    (folder / "wider_face_val_bbx_gt.txt").write_text(text)
    return folder


def test_wider_reads_what_is_present(tmp_path: Path) -> None:
    rows = "1 2 30 40 0 0 0 0 0 0 \n5 6 7 8 0 0 0 1 0 0 \n9 9 0 5 0 0 0 0 0 0 \n"
    folder = wider(
        tmp_path, f"e/a.jpg\n3\n{rows}e/none.jpg\n0\n0 0 0 0 0 0 0 0 0 0\ne/gone.jpg\n1\n1 1 2 2 0 0 0 0 0 0\n"
    )
    assert is_wider(folder)
    data = load_wider(folder)
    assert [p.name for p in data.photos] == ["e/a.jpg"]
    np.testing.assert_array_equal(data.photos[0].boxes_xyxy, [[1, 2, 31, 42], [5, 6, 12, 14]])
    assert data.photos[0].ignore.tolist() == [False, True]
    raws = read_wider(folder)
    assert [(r.name, r.path is not None, len(r.corners)) for r in raws] == [
        ("e/a.jpg", True, 3), ("e/none.jpg", False, 0), ("e/gone.jpg", False, 1)
    ]  # fmt: skip


@pytest.mark.parametrize(("name", "split"), [("train", "train"), ("val", "val"), ("dev", None)])
def test_wider_photos_are_of_the_split_that_their_list_is_called_by(
    tmp_path: Path, name: str, split: str | None
) -> None:
    wider(tmp_path, "e/a.jpg\n1\n1 1 2 2 0 0 0 0 0 0\n")
    (tmp_path / "wider_face_val_bbx_gt.txt").rename(tmp_path / f"wider_face_{name}_bbx_gt.txt")
    assert [raw.split for raw in read_wider(tmp_path)] == [split]


def test_lists_that_begin_with_a_byte_order_mark_lose_no_photo(tmp_path: Path) -> None:
    folder = wider(tmp_path, "\ufeffe/a.jpg\n1\n1 1 2 2 0 0 0 0 0 0\n")
    assert [photo.name for photo in load_wider(folder).photos] == ["e/a.jpg"]
    (tmp_path / "list.txt").write_text(f"\ufeff{LANDMARKS}")
    assert read_webfaces(tmp_path / "list.txt", folder / "images" / "e")[0].path == folder / "images" / "e" / "a.jpg"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("e/b.jpg\n0\n0 0 0 0 0 0 0 0 0 0\n", "no photo of wider_face_val_bbx_gt.txt is present"),
        ("e/a.jpg\nmany\n", "line 2: expected a count"),
        ("e/a.jpg\n", "line 2: expected a count"),
        ("e/a.jpg\n2\n1 2 3 4 0 0 0 0 0 0\n", "too few rows or columns"),
        ("e/a.jpg\n1\n1 2 3\n", "too few rows or columns"),
        ("../../a.jpg\n1\n1 2 3 4 0 0 0 0 0 0\n", "must not lead out of"),
    ],
)
def test_wider_bad_lists(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        load_wider(wider(tmp_path, text))


def test_wider_without_a_list(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="expected one wider_face_"):
        load_wider(tmp_path)


# Caltech 10,000 Web Faces


LANDMARKS = "a.jpg 40 50 60 50 50 60 50 70"


def test_webfaces_boxes_stand_around_the_landmarks(tmp_path: Path) -> None:
    write_photo(tmp_path / "photos" / "a.jpg", 120, 120)
    (tmp_path / "list.txt").write_text(f"{LANDMARKS}\n\nb.jpg 1 1 2 1 1 2 1 3\n{LANDMARKS.replace('40', '42')}\n")
    first, absent = read_webfaces(tmp_path / "list.txt", tmp_path / "photos")
    assert (first.name, absent.name, absent.path) == ("a.jpg", "b.jpg", None)
    assert first.path == tmp_path / "photos" / "a.jpg"
    # eyes 20 px apart and 20 px above the mouth: 43.2 x 57.4 px, centred 4.8 px above (50, 60)
    np.testing.assert_allclose(first.corners[0], [28.4, 26.5, 71.6, 83.9], atol=1e-6)
    assert first.corners[1, 2] - first.corners[1, 0] < 43.2
    assert first.ignore.tolist() == [False, False]


def test_webfaces_boxes_turn_with_the_face(tmp_path: Path) -> None:
    (tmp_path / "list.txt").write_text("a.jpg 50 60 50 40 40 50 30 50\n")  # the mouth left of the eyes
    x1, y1, x2, y2 = read_webfaces(tmp_path / "list.txt", tmp_path)[0].corners[0]
    assert ((x1 + x2) / 2, (y1 + y2) / 2) == pytest.approx((44.8, 50))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (f"{LANDMARKS}\na.jpg 1 2 3", "line 2: expected a photo's name and eight numbers"),
        (LANDMARKS.replace("70", "x"), "line 1: expected a photo's name and eight numbers"),
        (LANDMARKS.replace("70", "nan"), "line 1: .*: a number is not finite"),
        (LANDMARKS + " 3", "line 1: expected"),
        ("\n", "expected lines of a photo's name and eight numbers, found none"),
        (LANDMARKS.replace("a.jpg", "../a.jpg"), "must not lead out of"),
    ],
)
def test_webfaces_bad_files(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "list.txt").write_text(text)
    with pytest.raises(DataError, match=message):
        read_webfaces(tmp_path / "list.txt", tmp_path / "photos")


def test_webfaces_without_a_file(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"none\.txt: cannot be read"):
        read_webfaces(tmp_path / "none.txt", tmp_path)


# Files of another kind than they should be


def write_huge_photo(path: Path) -> None:
    """A few bytes that claim 40,000 x 40,000 pixels."""
    path.parent.mkdir(parents=True, exist_ok=True)
    header = struct.pack("<IiiHHIIiiII", 40, 40_000, 40_000, 1, 24, 0, 0, 0, 0, 0, 0)
    path.write_bytes(b"BM" + struct.pack("<III", 54, 0, 54) + header + bytes(64))


@pytest.mark.parametrize(
    ("name", "content", "read", "message"),
    [
        ("a.txt", b"\xff\xfe\x00", read_yolo, "expected UTF-8 text"),
        ("a.txt", b"1e400 0 0 1 1", read_yolo, "line 1: expected `class cx cy w h`"),
        ("classes.txt", b"\xff\xfe\x00", read_yolo, "expected UTF-8 text"),
        ("data.yaml", b"names: [\xff]", read_yolo, "expected UTF-8 text"),
        ("wider_face_val_bbx_gt.txt", b"\xff\xfe\x00", read_wider, "expected UTF-8 text"),
        (
            "wider_face_val_bbx_gt.txt",
            b"e/a.jpg\n2\n1 2 3 4 0 0 0 0 0 0\n1 2 3 4 0 0 0 0 0\n",
            read_wider,
            "line 2: expected a count and that many rows for e/a.jpg: rows of unequal length",
        ),
        (
            "images/e/huge.bmp",
            write_huge_photo,
            lambda f: read_photo(f / "images/e/huge.bmp"),
            "at most 2\\*\\*30 pixels",
        ),
        ("annotations.json", b'{"images": ["a", 3], "annotations": []}', partial(load_data, split="val"), "not COCO"),
        ("annotations.json", b'{"images": null, "annotations": []}', lambda f: load_training([f]), "not COCO"),
    ],
)
def test_files_of_another_kind_are_named(
    tmp_path: Path, name: str, content: Any, read: Callable[[Path], object], message: str
) -> None:
    write_photo(tmp_path / "a.jpg")
    (tmp_path / "a.txt").write_text("0 .5 .5 .2 .2")
    if callable(content):
        content(tmp_path / name)
    else:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=rf"{re.escape(name)}: .*{message}"):
        read(tmp_path)


# COCO


def coco(folder: Path, **change: Any) -> Path:
    document = {
        "images": [{"id": 7, "file_name": "a.jpg", "width": 120, "height": 80, "split": "val"}],
        "annotations": [
            {"id": 1, "image_id": 7, "category_id": 2, "bbox": [10, 20, 30, 40]},
            {"id": 2, "image_id": 7, "category_id": 2, "bbox": [1, 2, 3, 4], "iscrowd": 1},
            {"id": 3, "image_id": 7, "category_id": 5, "bbox": [1, 2, 3, 4]},
            {"id": 4, "image_id": 99, "category_id": 2, "bbox": [1, 2, 3, 4]},
        ],
        "categories": [{"id": 2, "name": "Face"}, {"id": 5, "name": "dog"}],
    } | change
    folder.mkdir(exist_ok=True)
    (folder / "annotations.json").write_text(json.dumps(document))
    return folder / "annotations.json"


def test_coco_reads_faces_only(tmp_path: Path) -> None:
    write_photo(tmp_path / "images" / "a.jpg")
    (raw,) = read_coco(coco(tmp_path), tmp_path / "images")
    np.testing.assert_array_equal(raw.corners, [[10, 20, 40, 60], [1, 2, 4, 6]])
    assert raw.ignore.tolist() == [False, True]
    assert (raw.split, raw.declared_wh, raw.path) == ("val", (120, 80), tmp_path / "images" / "a.jpg")


@pytest.mark.parametrize(
    ("file_name", "photo", "name"),
    [
        ("sub\\a.jpg", "images/sub/a.jpg", "sub/a.jpg"),
        ("\\sub\\a.jpg", "images/sub/a.jpg", "sub/a.jpg"),
        ("images/a.jpg", "images/a.jpg", "images/a.jpg"),
        ("images\\a.jpg", "images/a.jpg", "images/a.jpg"),
        ("photos/a.jpg", "photos/a.jpg", "photos/a.jpg"),
        ("elsewhere/a.jpg", "images/a.jpg", "elsewhere/a.jpg"),
    ],
)
def test_coco_photos_are_found(tmp_path: Path, file_name: str, photo: str, name: str) -> None:
    write_photo(tmp_path / photo)
    image = {"id": 7, "file_name": file_name, "width": 120, "height": 80}
    (raw,) = read_coco(coco(tmp_path, images=[image]), tmp_path / "images")
    assert (raw.name, raw.path) == (name, tmp_path / photo)


@pytest.mark.parametrize("size", [{}, {"width": 0, "height": 0}, {"width": None}, {"width": 120}])
def test_coco_a_size_that_is_not_told_is_not_held_against_the_photo(tmp_path: Path, size: dict[str, Any]) -> None:
    write_photo(tmp_path / "images" / "a.jpg")
    (raw,) = read_coco(coco(tmp_path, images=[{"id": 7, "file_name": "a.jpg", **size}]), tmp_path / "images")
    assert raw.declared_wh is None
    assert prepare([raw], tmp_path / "out", options=PrepareOptions(download=False)).counts["faces"] == 1


@pytest.mark.parametrize("bbox", [{}, {"bbox": None}, {"bbox": []}, {"bbox": [1, 2, "x", 4]}])
def test_coco_a_box_that_cannot_be_is_named(tmp_path: Path, bbox: dict[str, Any]) -> None:
    path = coco(tmp_path, annotations=[{"id": 12, "image_id": 7, "category_id": 2, **bbox}])
    expected = re.escape(f"annotation 12: expected a bbox of four numbers, got {bbox.get('bbox')!r}")
    for read in (read_coco, load_coco):
        with pytest.raises(DataError, match=expected):
            read(path, tmp_path)


@pytest.mark.parametrize(("listed", "named"), [(7, "7"), ("7", 7), (7.0, 7)])
def test_coco_ids_are_the_same_as_text_and_as_number(tmp_path: Path, listed: Any, named: Any) -> None:
    image = {"id": listed, "file_name": "a.jpg", "width": 120, "height": 80}
    boxes = [{"image_id": named, "category_id": 2, "bbox": [10, 20, 30, 40], "iscrowd": crowd} for crowd in "01"]
    path = coco(tmp_path, images=[image], annotations=boxes)
    (raw,) = read_coco(path, tmp_path)
    assert raw.ignore.tolist() == [False, True]
    (photo,) = load_coco(path, tmp_path).photos
    assert photo.ignore.tolist() == [False, True]


def test_coco_annotations_without_an_image_are_told(tmp_path: Path) -> None:
    said: list[str] = []
    read_coco(coco(tmp_path), tmp_path, notice=said.append)
    assert said == ["1 of 3 annotations of faces have no image, the first is annotation 4 with image_id 99"]
    path = coco(tmp_path, annotations=[{"id": 4, "image_id": "a.jpg", "category_id": 2, "bbox": [1, 2, 3, 4]}])
    for read in (read_coco, load_coco):
        with pytest.raises(
            DataError, match=r"1 of 1 .* have no image, the first is annotation 4 with image_id 'a\.jpg'"
        ):
            read(path, tmp_path)
    images = [{"id": 7, "file_name": name, "width": 9, "height": 9} for name in ("a.jpg", "b.jpg")]
    with pytest.raises(DataError, match=r"image id 7 is of a\.jpg and of b\.jpg"):
        read_coco(coco(tmp_path, images=images), tmp_path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"categories": [{"id": 2, "name": "person"}]}, r"none of its categories is called face: \['person'\]"),
        ({"images": [{"id": 7}]}, "not COCO JSON as expected: KeyError 'file_name'"),
        ({"images": [{"id": 7, "file_name": "../a.jpg", "width": 1, "height": 1}]}, "must not lead out of"),
        ({"annotations": [{"image_id": 7, "category_id": 2, "bbox": [1, 2]}]}, "not COCO JSON as expected: ValueError"),
        ({"annotations": None}, "not COCO JSON as expected: TypeError"),
    ],
)
def test_coco_bad_files(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=message):
        read_coco(coco(tmp_path, **change), tmp_path / "images")


def test_load_coco_takes_faces_or_the_only_category(tmp_path: Path) -> None:
    (photo,) = load_coco(coco(tmp_path), tmp_path / "images").photos
    assert photo.boxes_xyxy.tolist() == [[10, 20, 40, 60], [1, 2, 4, 6]]
    only = coco(tmp_path, categories=[{"id": 2, "name": "head"}])
    assert len(load_coco(only, tmp_path / "images").photos[0].boxes_xyxy) == 3
    several = coco(tmp_path, categories=[{"id": 2, "name": "head"}, {"id": 5, "name": "dog"}])
    with pytest.raises(DataError, match=r"none of its categories is called face.*--face-class"):
        load_coco(several, tmp_path / "images")


@pytest.mark.parametrize(
    ("split", "message"),
    [
        ("train", "no photo of split 'train'; splits in the file: val"),
        ("dev", "split: expected one of train, val, test, got 'dev'"),
    ],
)
def test_load_coco_unknown_split(tmp_path: Path, split: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        load_coco(coco(tmp_path), tmp_path, split=split)


def test_load_coco_refuses_a_box_without_extent(tmp_path: Path) -> None:
    path = coco(tmp_path, annotations=[{"image_id": 7, "category_id": 2, "bbox": [10, 20, 0, 5]}])
    with pytest.raises(
        DataError, match=r"a\.jpg: expected x1 < x2 and y1 < y2, got box \[10\.0, 20\.0, 10\.0, 25\.0\]"
    ):
        load_coco(path, tmp_path)


@pytest.mark.parametrize("text", ["", "{", "[1]"])
def test_load_coco_no_json(tmp_path: Path, text: str) -> None:
    path = tmp_path / "bad.json"
    path.write_text(text)
    with pytest.raises(DataError, match=r"bad\.json: "):
        load_coco(path, tmp_path)
