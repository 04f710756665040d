"""YOLO sets: boxes, polygons, landmarks, class names and splits, what is refused, and agreement with supervision."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import pytest

from facedet.data.prepare import PrepareOptions, prepare
from facedet.data.voc import read_voc
from facedet.data.yolo import read_yolo
from facedet.errors import DataError
from tests.facedet.photos import write_photo


def test_yolo_reads_boxes_polygons_and_names(tmp_path: Path) -> None:
    write_photo(tmp_path / "images" / "train" / "a.jpg")
    write_photo(tmp_path / "images" / "b.jpg")
    labels = tmp_path / "labels" / "train"
    labels.mkdir(parents=True)
    (labels / "a.txt").write_text("0 0.5 0.5 0.2 0.4\n1 0.5 0.5 1 1\n\n0 0.5 0.5 0.2 0.4 0.9\n0 .1 .1 .3 .1 .3 .5\n")
    (tmp_path / "data.yaml").write_text("names: {0: Face, 1: dog}\n")
    by_name = {raw.name: raw for raw in read_yolo(tmp_path)}
    assert set(by_name) == {"train/a.jpg", "b.jpg"}
    np.testing.assert_allclose(
        by_name["train/a.jpg"].corners, [[0.4, 0.3, 0.6, 0.7], [0.4, 0.3, 0.6, 0.7], [0.1, 0.1, 0.3, 0.5]]
    )
    assert len(by_name["b.jpg"].corners) == 0
    assert (by_name["train/a.jpg"].split, by_name["b.jpg"].split) == ("train", None)


@pytest.mark.parametrize(("folder", "split"), [("images/val", "val"), ("valid/images", "val"), ("Test", "test")])
def test_yolo_keeps_the_split_of_the_folder(tmp_path: Path, folder: str, split: str) -> None:
    write_photo(tmp_path / folder / "train.jpg")
    (tmp_path / folder / "train.txt").write_text("0 .5 .5 .2 .2\n")
    assert [raw.split for raw in read_yolo(tmp_path)] == [split]


@pytest.mark.parametrize(
    "settings",
    [
        "train: images/train2017\nval: images/val2017",
        "path: ../elsewhere\ntrain: images/train2017\nval: [images/val2017]",
        "train: ../images/train2017\nval: ../images/val2017",
        "train: images\nval: images/val2017",
        "train: train.txt\nval: val.txt",
    ],
)
def test_yolo_keeps_the_splits_that_its_settings_declare(tmp_path: Path, settings: str) -> None:
    for split in ("train", "val"):
        write_photo(tmp_path / "images" / f"{split}2017" / f"{split}.jpg")
        (tmp_path / f"{split}.txt").write_text(f"./images/{split}2017/{split}.jpg\n")
    write_photo(tmp_path / "other" / "b.jpg")
    (tmp_path / "labels" / "val2017").mkdir(parents=True)
    (tmp_path / "labels" / "val2017" / "val.txt").write_text("0 .5 .5 .2 .2\n")
    (tmp_path / "data.yaml").write_text(f"names: [face]\n{settings}\ntest:\n")
    splits = {Path(raw.name).stem: raw.split for raw in read_yolo(tmp_path)}
    assert splits == {"train": "train", "val": "val", "b": None}


def test_yolo_a_folder_that_is_declared_for_two_splits_has_none(tmp_path: Path) -> None:
    (raw,) = read_yolo(yolo(tmp_path, "0 .5 .5 .2 .2", settings="names: [face]\ntrain: .\nval: ."))
    assert raw.split is None


def test_yolo_labels_without_a_photo_that_is_read_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("a.jpg", "b.jpg", "c.jpg"):
        write_photo(tmp_path / "images" / "train" / name)
    for name, renamed in (("a.jpg", "a.jfif"), ("b.jpg", "b.jpe"), ("c.jpg", "c.heic")):
        (tmp_path / "images" / "train" / name).rename(tmp_path / "images" / "train" / renamed)
    (tmp_path / "labels" / "train").mkdir(parents=True)
    for stem in ("a", "b", "c", "none"):
        text = "" if stem == "none" else "0 .5 .5 .2 .2"
        (tmp_path / "labels" / "train" / f"{stem}.txt").write_text(text)
    (tmp_path / "labels" / "train" / "classes.txt").write_text("face\n")
    (tmp_path / "labels" / "README.txt").write_bytes(b"exported in M\xe4rz")
    (tmp_path / "numbers.txt").write_text("0 1 2 3 4\n")
    raws = read_yolo(tmp_path)
    assert [(raw.name, len(raw.corners), bool(raw.fault)) for raw in raws] == [
        ("train/a.jfif", 1, False), ("train/b.jpe", 1, False), ("labels/train/c.txt", 0, True)
    ]  # fmt: skip
    monkeypatch.chdir(tmp_path.parent)
    same = read_yolo(tmp_path.name, images=tmp_path / "images")
    assert [(raw.name, bool(raw.fault)) for raw in same] == [(raw.name, bool(raw.fault)) for raw in raws]
    report = prepare(raws, tmp_path / "out", options=PrepareOptions(download=False))
    assert (report.counts["photos_kept"], report.counts["records_of_no_use"]) == (2, 1)
    assert report.left_out["labels/train/c.txt"].endswith(
        "c.txt: labels without a photo, or of one that is of no known kind"
    )


def test_yolo_what_macos_adds_is_left_out(tmp_path: Path) -> None:
    yolo(tmp_path, "0 .5 .5 .2 .2")
    write_photo(tmp_path / "._a.jpg")
    write_photo(tmp_path / "__MACOSX" / "a.jpg")
    assert [raw.name for raw in read_yolo(tmp_path)] == ["a.jpg"]


def test_yolo_without_class_names_takes_every_class(tmp_path: Path) -> None:
    write_photo(tmp_path / "a.jpg")
    (tmp_path / "a.txt").write_text("0 .5 .5 .2 .2\n7 .5 .5 .4 .4\n")
    assert len(read_yolo(tmp_path)[0].corners) == 2
    said: list[str] = []
    read_yolo(tmp_path, notice=said.append)
    (tmp_path / "a.txt").write_text("7 .5 .5 .2 .2\n")
    read_yolo(tmp_path, notice=said.append)
    assert said == [f"nothing names the classes 0, 7 of {tmp_path}: all of them count as faces"]


@pytest.mark.parametrize(
    ("label", "names", "message"),
    [
        ("0 .5 .5", None, r"a\.txt: line 1: expected `class cx cy w h`, got '0 .5 .5'"),
        ("face .5 .5 .1 .1", None, "line 1: expected `class cx cy w h`"),
        ("0 .5 .5 .1 .1", "names: [dog, cat]", "none of its classes is called face"),
        ("0 .5 .5 .1 .1", "nc: 3", r"data\.yaml: expected `names`"),
        ("0 .5 .5 .1 .1", "names: [", r"data\.yaml: expected `names`"),
    ],
)
def test_yolo_bad_files(tmp_path: Path, label: str, names: str | None, message: str) -> None:
    write_photo(tmp_path / "a.jpg")
    (tmp_path / "a.txt").write_text(label)
    if names is not None:
        (tmp_path / "data.yaml").write_text(names)
    with pytest.raises(DataError, match=message):
        read_yolo(tmp_path)


def test_yolo_without_photos_or_labels(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="expected photos, found none"):
        read_yolo(tmp_path)
    write_photo(tmp_path / "a.jpg")
    with pytest.raises(DataError, match="no label file of YOLO's layout"):
        read_yolo(tmp_path)


FIVE_LANDMARKS = ".5 .5 .2 .4 .45 .4 .55 .4 .5 .5 .45 .6 .55 .6"
HEPTAGON = ".1 .1 .2 .1 .3 .2 .3 .3 .2 .4 .1 .3 .05 .2"


def yolo(folder: Path, label: str, *, settings: str | None = None) -> Path:
    write_photo(folder / "a.jpg")
    (folder / "a.txt").write_text(label)
    if settings is not None:
        (folder / "data.yaml").write_text(settings)
    return folder


@pytest.mark.parametrize(
    ("shape", "row"),
    [
        ("[5, 2]", FIVE_LANDMARKS),
        ("[5, 2]", ".5 .5 .2 .4" + " -1" * 10),
        ("[5, 2]", ".5 .5 .2 .4"),
        ("[5, 3]", ".5 .5 .2 .4" + " .5 .5 2" * 5),
    ],
)
def test_yolo_landmarks_that_are_told_are_left_out(tmp_path: Path, shape: str, row: str) -> None:
    (raw,) = read_yolo(yolo(tmp_path, f"0 {row}", settings=f"names: [face]\nkpt_shape: {shape}"))
    np.testing.assert_allclose(raw.corners, [[0.4, 0.3, 0.6, 0.7]])


def test_yolo_landmarks_that_are_not_told_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"a\.txt: a box and five landmarks, or a polygon\? Expected `kpt_shape: "):
        read_yolo(yolo(tmp_path, f"0 {FIVE_LANDMARKS}\n0 .5 .5 .1 .1\n0 {HEPTAGON}"))
    with pytest.raises(DataError, match=r"line 1: .*a polygon lies in the photo; landmarks need `kpt_shape`"):
        read_yolo(yolo(tmp_path, "0 .5 .5 .2 .4" + " -1" * 10))


@pytest.mark.parametrize(
    ("label", "settings"),
    [
        (f"0 {HEPTAGON}", None),
        (f"0 {FIVE_LANDMARKS}\n0 .1 .1 .3 .1 .3 .5", None),
        (f"0 {FIVE_LANDMARKS}", "names: [face]\nkpt_shape: [0, 0]"),
    ],
)
def test_yolo_polygons_of_seven_points_stay_polygons(tmp_path: Path, label: str, settings: str | None) -> None:
    values = [float(v) for v in label.split("\n")[0].split()[1:]]
    box = [min(values[0::2]), min(values[1::2]), max(values[0::2]), max(values[1::2])]
    np.testing.assert_allclose(read_yolo(yolo(tmp_path, label, settings=settings))[0].corners[0], box)


@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("labels/classes.txt", "dog\nFace\n"),
        ("labels/train/classes.txt", "dog\nface\n"),
        ("classes.txt", "dog\nface\n"),
        ("faces.yaml", "path: .\nnames:\n  0: dog\n  1: face\n"),
        ("data.yml", "names: [dog, face]"),
    ],
)
def test_yolo_class_names_are_found(tmp_path: Path, file: str, text: str) -> None:
    write_photo(tmp_path / "images" / "train" / "a.jpg")
    (tmp_path / "labels" / "train").mkdir(parents=True)
    (tmp_path / "labels" / "train" / "a.txt").write_text("0 .5 .5 .2 .2\n1 .5 .5 .4 .4\n")
    (tmp_path / file).write_text(text)
    (tmp_path / "compose.yml").write_text("{{ no: yaml")
    (raw,) = read_yolo(tmp_path)
    np.testing.assert_allclose(raw.corners, [[0.3, 0.3, 0.7, 0.7]])
    (raw,) = read_yolo(tmp_path, classes=["DOG"])
    np.testing.assert_allclose(raw.corners, [[0.4, 0.4, 0.6, 0.6]])


def test_yolo_names_that_are_asked_for_have_to_be_there(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"nothing names its classes: expected data\.yaml or classes\.txt to find head"):
        read_yolo(yolo(tmp_path, "0 .5 .5 .2 .2"), classes=["head"])
    (tmp_path / "classes.txt").write_text("head\nface\n")
    with pytest.raises(DataError, match=r"data\.yaml: class 0 is called 'face', in .*classes\.txt 'head'"):
        read_yolo(yolo(tmp_path, "0 .5 .5 .2 .2", settings="names: [face]"))
    with pytest.raises(DataError, match=r"data\.yaml: expected `kpt_shape` as two numbers, such as \[5, 2\], got 5"):
        read_yolo(yolo(tmp_path, "0 .5 .5 .2 .2", settings="names: [head]\nkpt_shape: 5"))


def test_yolo_and_voc_agree_with_supervision(tmp_path: Path) -> None:
    """Written by supervision, read by us: the same boxes."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # supervision's own, of its dependencies
        import supervision as sv
    photo = write_photo(tmp_path / "source" / "a.png")
    boxes = np.array([[10, 20, 50, 60], [0, 0, 120, 80]], np.float32)
    found = sv.Detections(xyxy=boxes, class_id=np.zeros(2, int))
    data = sv.DetectionDataset(classes=["face"], images=[str(photo)], annotations={str(photo): found})
    data.as_yolo(str(tmp_path / "yolo/images"), str(tmp_path / "yolo/labels"), str(tmp_path / "yolo/data.yaml"))
    data.as_pascal_voc(str(tmp_path / "voc/images"), str(tmp_path / "voc/annotations"))
    (yolo,) = read_yolo(tmp_path / "yolo")
    (voc,) = read_voc(tmp_path / "voc")
    np.testing.assert_allclose(yolo.corners * [120, 80, 120, 80], boxes, atol=1e-3)
    np.testing.assert_allclose(voc.corners, boxes, atol=1.0)
