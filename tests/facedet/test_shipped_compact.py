"""The detector that ships: its file, and what it finds in the crowd of the examples."""

from __future__ import annotations

from importlib import resources
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import pytest

import facedet
from facedet.boxes import iou_matrix

CROWD = Path(__file__).parents[2] / "examples" / "crowd.jpg"
SHIPPED = resources.files("facedet") / "weights" / "compact.onnx"


@pytest.fixture(scope="module")
def crowd() -> npt.NDArray[np.uint8]:
    image = cv2.imread(str(CROWD))
    assert image is not None
    return image.astype(np.uint8, copy=False)


def test_the_file_is_small_and_has_a_card() -> None:
    assert len(SHIPPED.read_bytes()) < 5_000_000
    assert (resources.files("facedet") / "weights" / "compact.md").is_file()


def test_a_small_photo_filled_by_one_face_gives_that_face(crowd: npt.NDArray[np.uint8]) -> None:
    detector = facedet.load_detector(threads=1)
    best = detector.detect([crowd])[0].boxes_xyxy[:20]
    for box in best:
        x1, y1, x2, y2 = box.round().astype(int)
        face = cv2.resize(crowd[y1:y2, x1:x2], (60, 60), interpolation=cv2.INTER_AREA).astype(np.uint8, copy=False)
        found = detector.detect([face])[0].boxes_xyxy
        assert len(found) == 1
        assert iou_matrix(found, np.array([[0, 0, 60, 60]], np.float32))[0, 0] > 0.4


@pytest.mark.slow
def test_parts_of_a_large_face_are_no_faces_in_a_very_large_photo(crowd: npt.NDArray[np.uint8]) -> None:
    detector = facedet.load_detector(threads=1)
    reported = 0
    for x1, y1, x2, y2 in detector.detect([crowd])[0].boxes_xyxy[:6].round().astype(int):
        portrait = crowd[max(y1 - 20, 0) : y2 + 20, max(x1 - 20, 0) : x2 + 20]
        large = cv2.resize(portrait, (3000, 3000), interpolation=cv2.INTER_CUBIC).astype(np.uint8, copy=False)
        found = detector.detect([large])[0].boxes_xyxy
        assert (found[:, 2] - found[:, 0]).max() > 1000
        reported += len(found)
    assert reported <= 9  # tiles at full size see noses and ears, and with them it was 17


@pytest.mark.parametrize("min_score", [0.15, 0.5])
def test_min_score_is_a_cut_and_nothing_else(crowd: npt.NDArray[np.uint8], min_score: float) -> None:
    everything = facedet.load_detector(threads=1, min_score=0.02).detect([crowd])[0]
    expected = everything.select(everything.scores >= min_score)
    some = facedet.load_detector(threads=1, min_score=min_score).detect([crowd])[0]
    assert len(some) > 20
    assert np.allclose(some.boxes_xyxy, expected.boxes_xyxy, atol=1e-3)
    assert np.array_equal(some.scores, expected.scores)


@pytest.mark.slow
def test_a_photo_of_24_megapixels_keeps_its_small_faces(crowd: npt.NDArray[np.uint8]) -> None:
    detector = facedet.load_detector(threads=1)
    small = cv2.resize(crowd, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA).astype(np.uint8, copy=False)
    photo = np.full((4000, 6000, 3), 114, np.uint8)
    photo[1100 : 1100 + small.shape[0], 1000 : 1000 + small.shape[1]] = small
    alone, within = detector.detect([small])[0], detector.detect([photo])[0]
    sure = alone.select(alone.scores > 0.55)
    moved = sure.boxes_xyxy + np.array([1000, 1100, 1000, 1100], np.float32)
    assert len(sure) > 20
    assert (iou_matrix(moved, within.boxes_xyxy).max(1) > 0.5).mean() > 0.9
    assert len(within) < 1.2 * len(alone)


@pytest.mark.parametrize("content", [None, b"no network"])
def test_unreadable_weights_are_named(content: bytes | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "weights").mkdir()
    if content is not None:
        (tmp_path / "weights" / "compact.onnx").write_bytes(content)
    monkeypatch.setattr("facedet.detectors.compact.resources.files", lambda package: tmp_path)
    with pytest.raises(facedet.WeightsError, match=r"compact\.onnx: "):
        facedet.load_detector()
