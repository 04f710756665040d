"""The cascade: finds faces, scores them, and takes any image without complaint."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import pytest

from facedet import Faces, WeightsError
from facedet.boxes import iou_matrix
from facedet.detectors import haar
from facedet.detectors.haar import HaarDetector, load_cascade, merge_windows

CROWD = Path(__file__).parents[2] / "examples" / "crowd.jpg"
FRONT_FACES_XYXY = np.array([[210, 610, 390, 790], [1150, 590, 1390, 830], [820, 510, 980, 670]], np.float32)
"""Three large faces of the picture, read off by eye."""


@pytest.fixture(scope="module")
def crowd() -> npt.NDArray[np.uint8]:
    image = cv2.imread(str(CROWD))
    assert image is not None
    return np.asarray(image, np.uint8)


@pytest.fixture(scope="module")
def faces(crowd: npt.NDArray[np.uint8]) -> Faces:
    return HaarDetector().detect([crowd])[0]


def test_finds_most_of_the_crowd(faces: Faces) -> None:
    assert 40 <= len(faces) <= 110
    assert faces.image_size_wh == (1600, 920)
    assert (iou_matrix(FRONT_FACES_XYXY, faces.boxes_xyxy).max(1) > 0.5).all()


def test_scores_are_graded(faces: Faces) -> None:
    assert faces.scores.min() >= haar.MIN_SCORE
    assert faces.scores.max() < 1
    assert len(np.unique(faces.scores)) > len(faces) / 2
    front = iou_matrix(FRONT_FACES_XYXY, faces.boxes_xyxy).argmax(1)
    assert (faces.scores[front] > np.median(faces.scores)).all()


def test_no_two_boxes_on_one_face(faces: Faces) -> None:
    overlaps = iou_matrix(faces.boxes_xyxy, faces.boxes_xyxy)
    np.fill_diagonal(overlaps, 0)
    assert overlaps.max() <= haar.MAX_IOU + 1e-3


@pytest.mark.parametrize(
    "shape", [(1, 1, 3), (1, 500, 3), (10, 10, 3), (10, 10), (19, 19, 3), (64, 64, 3), (300, 2, 3)]
)
def test_an_image_without_faces(shape: tuple[int, ...]) -> None:
    faces = HaarDetector().detect([np.full(shape, 128, np.uint8)])[0]
    assert len(faces) == 0
    assert faces.image_size_wh == (shape[1], shape[0])


def test_no_images() -> None:
    assert HaarDetector().detect([]) == []


def test_a_batch_is_its_images_one_by_one(crowd: npt.NDArray[np.uint8]) -> None:
    left, right = crowd[560:, 150:500], crowd[540:, 1100:1440]
    detector = HaarDetector(min_face_px=60)
    together = detector.detect([left, right])
    for faces, image in zip(together, (left, right), strict=True):
        assert len(faces) > 0
        assert np.array_equal(faces.boxes_xyxy, detector.detect([image])[0].boxes_xyxy)


def test_grey_is_as_good_as_colour(crowd: npt.NDArray[np.uint8]) -> None:
    part = crowd[560:, 150:500]
    grey = np.asarray(cv2.cvtColor(part, cv2.COLOR_BGR2GRAY), np.uint8)
    of_grey, of_colour = HaarDetector(min_face_px=60).detect([grey, part])
    assert len(of_grey) > 0
    assert np.array_equal(of_grey.boxes_xyxy, of_colour.boxes_xyxy)


@pytest.mark.parametrize("contrast", [0.05, 0.5])
def test_flat_photos_are_as_good_as_others(contrast: float, crowd: npt.NDArray[np.uint8]) -> None:
    part = crowd[560:, 150:500]
    flat = (part * contrast + 60).round().astype(np.uint8)
    of_flat, of_part = HaarDetector(min_face_px=60).detect([flat, part])
    assert len(of_part) > 0
    assert (iou_matrix(of_part.boxes_xyxy, of_flat.boxes_xyxy).max(1) > 0.5).all()


def test_scale_keeps_the_pixels_of_the_photo(crowd: npt.NDArray[np.uint8]) -> None:
    faces = HaarDetector(scale=640).detect([crowd])[0]
    assert faces.image_size_wh == (1600, 920)
    assert (iou_matrix(FRONT_FACES_XYXY, faces.boxes_xyxy).max(1) > 0.5).all()


def test_min_face_px_is_in_pixels_of_the_photo(crowd: npt.NDArray[np.uint8]) -> None:
    faces = HaarDetector(min_face_px=60, scale=800).detect([crowd])[0]
    assert len(faces) >= 3
    assert (faces.boxes_xyxy[:, 2:] - faces.boxes_xyxy[:, :2]).min() >= 60


def test_min_score_is_a_cut_and_nothing_else(crowd: npt.NDArray[np.uint8]) -> None:
    part = crowd[250:500, :500]
    everything = HaarDetector(min_score=0).detect([part])[0]
    some = HaarDetector(min_score=0.9).detect([part])[0]
    assert 0 < len(some) < len(everything)
    assert np.array_equal(some.scores, everything.scores[everything.scores >= 0.9])


def test_threads_hold_for_the_call_only(crowd: npt.NDArray[np.uint8], monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[int] = []
    monkeypatch.setattr(cv2, "getNumThreads", lambda: 7)
    monkeypatch.setattr(cv2, "setNumThreads", calls.append)
    HaarDetector(threads=1).detect([crowd[:64, :64]])
    assert calls == [1, 7]


def test_merging_nothing() -> None:
    boxes, scores = merge_windows(np.zeros((0, 4), np.float32), np.zeros(0, np.float32))
    assert (boxes.shape, scores.shape) == ((0, 4), (0,))


def test_merging_counts_votes_and_weighs_them() -> None:
    crowded = [[100, 100, 140, 140], [101, 100, 141, 140], [99, 99, 139, 139]]
    windows = np.array([*crowded, [300, 100, 340, 140], [500, 100, 540, 140]], np.float32)
    boxes, scores = merge_windows(windows, np.array([55, 55, 55, 55, 54.5], np.float32))
    assert boxes.tolist() == pytest.approx(np.array([[100, 99.667, 140, 139.667], windows[3], windows[4]]), abs=1e-2)
    assert 1 > scores[0] > scores[1] > scores[2] > 0


def test_a_cascade_that_is_not_there() -> None:
    with pytest.raises(WeightsError, match=r"no_such\.xml: OpenCV .* has no readable cascade there"):
        load_cascade("no_such.xml")


def test_a_cascade_that_is_damaged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "bad.xml").write_text("<opencv_storage/>")
    monkeypatch.setattr(cv2.data, "haarcascades", str(tmp_path))
    with pytest.raises(WeightsError, match=r"bad\.xml: OpenCV .* has no readable cascade"):
        load_cascade("bad.xml")
