"""COCO's measure on cases worked out by hand, WIDER's through a folder, and bad input."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import pytest

from facedet.data.coco import FaceDataset, Photo
from facedet.data.images import read_photo
from facedet.data.wider import load_wider
from facedet.errors import ConfigError, DataError, MissingExtra
from facedet.evaluate import evaluate, measure
from facedet.faces import Faces
from facedet.gallery import prepare_gallery
from tests.facedet.test_wider_protocol import write_mats

SIZE = (640, 480)


def photo(boxes: list[list[float]], *, ignore: list[bool] | None = None, name: str = "a.jpg") -> Photo:
    flags = np.array(ignore if ignore is not None else [False] * len(boxes), np.bool_)
    return Photo(Path(name), name, *SIZE, np.array(boxes, np.float32).reshape(-1, 4), flags)


def dataset(*photos: Photo) -> FaceDataset:
    return FaceDataset("toy", Path("."), photos)


def faces_of(*rows: Sequence[float]) -> Faces:
    table = np.array(rows, np.float32).reshape(-1, 5)
    return Faces.from_raw(table[:, :4], table[:, 4], SIZE)


LEFT, RIGHT = [0.0, 0.0, 40.0, 40.0], [100.0, 0.0, 140.0, 40.0]


def test_no_detection_reaches_nothing() -> None:
    measured = measure(dataset(photo([LEFT])), [Faces.empty(SIZE)])
    assert measured.faces == 1
    assert measured.metrics["AP"] == measured.metrics["AP30"] == measured.metrics["AR"] == 0.0


def test_perfect_detections() -> None:
    measured = measure(dataset(photo([LEFT, RIGHT])), [faces_of([*LEFT, 0.9], [*RIGHT, 0.8])])
    metrics = measured.metrics
    assert metrics["AP"] == metrics["AP50"] == metrics["AP30"] == metrics["AR"] == pytest.approx(1.0)
    assert metrics["AP_medium"] == pytest.approx(1.0)
    assert metrics["AP_small"] is None
    assert metrics["AP_large"] is None
    assert measured.curves["IoU 0.5"].shape == (101, 2)


def test_hit_false_alarm_hit() -> None:
    """Precision 1 up to recall 0.5 (51 of COCO's 101 recall points), 2/3 above it."""
    found = faces_of([*LEFT, 0.9], [300, 300, 340, 340, 0.8], [*RIGHT, 0.7])
    metrics = measure(dataset(photo([LEFT, RIGHT])), [found]).metrics
    assert metrics["AP50"] == pytest.approx((51 + 50 * 2 / 3) / 101)


@pytest.mark.parametrize(
    ("shift", "ap30", "ap50", "ap75"),
    [(0, 1, 1, 1), (4, 1, 1, 1), (10, 1, 1, 0), (18, 1, 0, 0), (30, 0, 0, 0)],
    ids=["IoU 1", "IoU 0.82", "IoU 0.6", "IoU 0.38", "IoU 0.14"],
)
def test_iou_thresholds(shift: float, ap30: float, ap50: float, ap75: float) -> None:
    metrics = measure(dataset(photo([LEFT])), [faces_of([shift, 0, 40 + shift, 40, 0.9])]).metrics
    assert (metrics["AP30"], metrics["AP50"], metrics["AP75"]) == pytest.approx((ap30, ap50, ap75))


def test_iou_03_does_not_enter_ap() -> None:
    metrics = measure(dataset(photo([LEFT])), [faces_of([18, 0, 58, 40, 0.9])]).metrics
    assert metrics["AP30"] == pytest.approx(1.0)
    assert metrics["AP"] == 0.0


def test_an_ignored_face_neither_rewards_nor_costs() -> None:
    data = dataset(photo([LEFT, RIGHT], ignore=[False, True]))
    for found in (faces_of([*LEFT, 0.5]), faces_of([*RIGHT, 0.9], [*LEFT, 0.5])):
        measured = measure(data, [found])
        assert measured.faces == 1
        assert measured.metrics["AP"] == pytest.approx(1.0)


def test_crowds_beyond_100_detections_count() -> None:
    boxes = [[20.0 * (i % 30), 20.0 * (i // 30), 20.0 * (i % 30) + 15, 20.0 * (i // 30) + 15] for i in range(300)]
    found = faces_of(*[[*box, 0.9 - i / 1000] for i, box in enumerate(boxes)])
    metrics = measure(dataset(photo(boxes)), [found]).metrics
    assert metrics["AP"] == metrics["AR"] == metrics["AP_small"] == pytest.approx(1.0)


def test_detections_must_match_the_photos() -> None:
    with pytest.raises(ValueError, match="expected one per photo, 1, got 0"):
        measure(dataset(photo([LEFT])), [])


def test_empty_data_set_measures_nothing() -> None:
    measured = measure(dataset(), [])
    assert set(measured.metrics.values()) == {None}
    assert (measured.curves, measured.faces, measured.resampled) == ({}, 0, {})


class Fixed:
    """A detector that finds the same box everywhere."""

    name = "fixed"
    test_scale = "long side 640 px"

    def detect(self, images: Sequence[npt.NDArray[np.uint8]]) -> list[Faces]:
        return [Faces.from_raw([[10, 20, 40, 60]], [0.5], (i.shape[1], i.shape[0])) for i in images]


def wider_folder(folder: Path) -> Path:
    (folder / "images" / "0--Parade").mkdir(parents=True)
    assert cv2.imwrite(str(folder / "images" / "0--Parade" / "a.jpg"), np.zeros((100, 120, 3), np.uint8))
    faces = "2\n10 20 30 40 0 0 0 0 0 0\n70 60 7 8 0 0 0 1 0 0\n"
    text = f"0--Parade/a.jpg\n{faces}0--Parade/absent.jpg\n0\n0 0 0 0 0 0 0 0 0 0\n"
    (folder / "wider_face_val_bbx_gt.txt").write_text(text)
    write_mats(folder / "ground_truth", [[10, 20, 30, 40], [70, 60, 7, 8]], [1])
    return folder


def test_evaluate_by_widers_protocol(tmp_path: Path) -> None:
    seen: list[int] = []
    result = evaluate(Fixed(), load_wider(wider_folder(tmp_path / "dev")), "wider", on_photo=seen.append)
    assert result.metrics == pytest.approx({"easy": 1.0, "medium": 1.0, "hard": 1.0})
    assert seen == [1]
    report = json.loads(json.dumps(result.as_dict()))
    assert (report["detector"], report["scale"], report["photos"], report["faces"]) == (
        "fixed",
        "long side 640 px",
        1,
        1,
    )
    assert report["max_detections"] == 1000


def test_evaluate_by_coco_ignores_invalid_faces(tmp_path: Path) -> None:
    result = evaluate(Fixed(), load_wider(wider_folder(tmp_path / "dev")), "coco")
    assert result.faces == 1
    assert result.metrics["AP"] == pytest.approx(1.0)


def test_a_photo_of_another_size_than_its_annotation_says_is_named(tmp_path: Path) -> None:
    assert cv2.imwrite(str(tmp_path / "a.png"), np.zeros((48, 64, 3), np.uint8))
    boxes = np.array([LEFT], np.float32)
    data = FaceDataset("toy", tmp_path, (Photo(tmp_path / "a.png", "a.png", *SIZE, boxes, np.zeros(1, np.bool_)),))
    with pytest.raises(DataError, match=r"a\.png: 64x48 pixels: expected 640x480 as its annotation says"):
        evaluate(Fixed(), data)
    with pytest.raises(DataError, match=r"a\.png: 64x48 pixels: expected 640x480"):
        measure(data, [Faces.empty((64, 48))])


def test_unknown_protocol() -> None:
    with pytest.raises(ConfigError, match="protocol: expected one of coco, wider, got 'voc'"):
        evaluate(Fixed(), dataset(), "voc")


def test_wider_protocol_without_ground_truth(tmp_path: Path) -> None:
    folder = wider_folder(tmp_path / "dev")
    for mat in (folder / "ground_truth").iterdir():
        mat.unlink()
    with pytest.raises(DataError, match="not WIDER FACE's ground_truth folder"):
        evaluate(Fixed(), load_wider(folder), "wider")


class Forbidden:
    """A detector that must not be asked."""

    def detect(self, images: Sequence[npt.NDArray[np.uint8]]) -> list[Faces]:
        raise AssertionError("asked before all that the measurement needs was there")


def test_what_the_measurement_needs_is_looked_for_before_the_first_photo(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = wider_folder(tmp_path / "dev")
    data = load_wider(folder)
    other = replace(data, photos=(replace(data.photos[0], name="0--Parade/other.jpg"),))
    with pytest.raises(DataError, match=r"1 photos are not in WIDER FACE's truth, the first is 0--Parade/other\.jpg"):
        evaluate(Forbidden(), other, "wider")
    monkeypatch.setitem(sys.modules, "pycocotools.coco", None)
    with pytest.raises(MissingExtra, match="COCO's AP needs pycocotools"):
        evaluate(Forbidden(), data)
    for mat in (folder / "ground_truth").iterdir():
        mat.unlink()
    with pytest.raises(DataError, match="not WIDER FACE's ground_truth folder"):
        evaluate(Forbidden(), data, "wider")


def test_plots_are_made_ready_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    prepare_gallery(tmp_path / "plots")
    assert (tmp_path / "plots").is_dir()
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(MissingExtra, match="plots need matplotlib"):
        prepare_gallery(tmp_path / "others")
    assert not (tmp_path / "others").exists()


@pytest.mark.parametrize(
    ("content", "message"),
    [(None, "cannot read"), (b"", "could not decode"), (b"no image", "could not decode")],
)
def test_bad_photo_is_named(tmp_path: Path, content: bytes | None, message: str) -> None:
    path = tmp_path / "bad.jpg"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(DataError, match=rf"bad\.jpg: .*{message}"):
        read_photo(path)
