"""The chain on photos in memory, with fake models whose answers are known."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

import emotion
import facedet
import pipeline
from pipeline.crops import CropRule
from pipeline.crowd_pipeline import MIN_LEGIBLE_PX, CrowdPipeline
from pipeline.errors import DetectorError, PhotoError
from tests.pipeline.factories import (
    BrightnessClassifier,
    FailingDetector,
    SquareDetector,
    corner_image,
    encoded,
    grey_image,
    make_chain,
    make_pipeline,
    save_photo,
)


def two_tone() -> np.ndarray:
    """Two faces wide; the left one black, the right one white."""
    image = grey_image(80, 40, 0)
    image[:, 40:] = 255
    return image


def test_read_an_array() -> None:
    reading = make_pipeline().read(two_tone())
    assert (reading.source, reading.width, reading.height) == ("array", 80, 40)
    assert (reading.detector, reading.fallback_reason, reading.error) == ("squares", None, None)
    assert reading.emotion_model == "brightness@0123456789ab"
    assert [face.emotion for face in reading.faces] == ["angry", "neutral"]
    assert [face.box_xyxy for face in reading.faces] == [(0, 0, 40, 40), (40, 0, 80, 40)]
    assert reading.elapsed_ms is not None
    assert reading.elapsed_ms > 0


def test_paths_bytes_pil_images_and_arrays_read_alike(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    corner_image().save(path)
    reader = make_pipeline()
    photos = [path, str(path), path.read_bytes(), corner_image(), cv2.imread(str(path))]
    readings = [reader.read(photo) for photo in photos]
    assert len({reading.faces for reading in map(without_probabilities, readings)}) == 1
    assert [reading.source for reading in readings] == [str(path), str(path), "bytes", "image", "array"]
    assert reader.read(path, source="mine").source == "mine"


def without_probabilities(reading: pipeline.PhotoReading) -> pipeline.PhotoReading:
    faces = tuple(pipeline.FaceReading(face.box_xyxy, face.score, None) for face in reading.faces)
    return pipeline.PhotoReading(reading.source, faces=faces)


def test_a_turned_photo_is_read_upright() -> None:
    exif = corner_image().getexif()
    exif[0x0112] = 6
    reading = make_pipeline().read(encoded(corner_image(), "JPEG", exif=exif))
    assert (reading.width, reading.height, reading.exif_orientation) == (48, 64, 6)


def test_a_bad_photo_raises_with_its_name() -> None:
    with pytest.raises(PhotoError, match="bytes: the file is empty"):
        make_pipeline().read(b"")
    with pytest.raises(PhotoError, match="over the limit"):
        make_pipeline(max_pixels=10).read(grey_image())


def test_read_many_keeps_order_and_goes_on_after_a_bad_photo() -> None:
    readings = list(make_pipeline().read_many([two_tone(), b"no photo", two_tone()]))
    assert [reading.error is None for reading in readings] == [True, False, True]
    assert "not a JPEG" in str(readings[1].error)
    assert readings[1].faces == ()


@pytest.mark.parametrize(("batch", "calls"), [(1, [2, 2, 2]), (2, [4, 2]), (8, [6])])
def test_photos_share_a_call_of_the_classifier(batch: int, calls: list[int]) -> None:
    classifier = BrightnessClassifier()
    reader = CrowdPipeline(make_chain(), classifier)
    assert len(list(reader.read_many([two_tone()] * 3, batch=batch))) == 3
    assert [len(crops) for crops in classifier.calls if crops] == calls
    assert all(crop.shape == (48, 48) for crops in classifier.calls for crop in crops)


def test_a_photo_without_faces() -> None:
    reading = make_pipeline().read(grey_image(20, 20))
    assert reading.faces == ()
    assert reading.error is None


def test_one_pixel() -> None:
    assert make_pipeline().read(grey_image(1, 1)).faces == ()


def test_faces_under_the_legible_size_get_no_emotion() -> None:
    reading = make_pipeline(min_legible_px=41).read(two_tone())
    assert [face.too_small for face in reading.faces] == [True, True]
    assert [face.too_small for face in make_pipeline(min_legible_px=40).read(two_tone()).faces] == [False, False]


def test_the_legible_size_is_the_measured_one_unless_it_is_told() -> None:
    small = grey_image(99, 99)

    class Small:
        name = "small"

        def detect(self, images: list[Any]) -> list[facedet.Faces]:
            sides = (MIN_LEGIBLE_PX, MIN_LEGIBLE_PX - 1)
            boxes = np.array([[0, 40 * i, side, 40 * i + side] for i, side in enumerate(sides)])
            return [facedet.Faces.from_raw(boxes, np.array([0.9, 0.8]), (99, 99)) for image in images]

    assert [face.too_small for face in make_pipeline({"small": Small()}).read(small).faces] == [False, True]
    assert not any(face.too_small for face in make_pipeline({"small": Small()}, min_legible_px=0).read(small).faces)


def test_the_crop_rule_is_that_of_the_detector_that_found_the_face() -> None:
    image = grey_image(120, 40, 0)
    image[:, 40:80] = 255
    wide, own = CropRule("mean", 3.0, 0.0), CropRule("mean", 1.0, 0.0)
    wanted = make_pipeline(crop_rules={"squares": own}).read(image)
    other = make_pipeline(crop_rules={"squares": wide}).read(image)
    assert wanted.faces[1].emotion == "neutral"
    assert other.faces[1].emotion != "neutral"


def test_fallback_is_told_in_the_reading() -> None:
    reader = make_pipeline({"failing": FailingDetector(), "haar": SquareDetector()})
    reading = reader.read(two_tone())
    assert (reading.detector, reading.fallback_reason) == ("squares", "failing failed: out of luck")
    assert len(reading.faces) == 2


def test_without_fallback_a_failure_is_an_error() -> None:
    reader = make_pipeline({"failing": FailingDetector()}, allow_fallback=False)
    with pytest.raises(DetectorError):
        reader.read(two_tone())
    assert [reading.error for reading in reader.read_many([two_tone()])] == ["failing failed: out of luck"]


class BrightClassifier(BrightnessClassifier):
    """Fails on white crops."""

    def classify(self, crops: Sequence[np.ndarray]) -> emotion.Expressions:
        if any(crop.mean() > 200 for crop in crops):
            raise RuntimeError("too bright")
        return super().classify(crops)


def test_a_classifier_that_fails_on_a_photo_costs_that_photo() -> None:
    reader = CrowdPipeline(make_chain(), BrightClassifier())
    readings = list(reader.read_many([grey_image(), two_tone(), b"no photo", grey_image()]))
    assert [reading.error for reading in readings] == [
        None, "brightness@0123456789ab failed: too bright", readings[2].error, None
    ]  # fmt: skip
    assert "not a JPEG" in str(readings[2].error)
    assert [len(reading.faces) for reading in readings] == [2, 0, 0, 2]
    with pytest.raises(PhotoError, match="array: brightness@0123456789ab failed: too bright"):
        reader.read(two_tone())


def test_every_public_name_is_there() -> None:
    assert all(getattr(pipeline, name) is not None for name in pipeline.__all__)
    with pytest.raises(AttributeError, match="no attribute 'Nothing'"):
        _ = pipeline.Nothing  # type: ignore[attr-defined]


def test_a_file_is_closed_after_reading(tmp_path: Path) -> None:
    path = save_photo(tmp_path / "a.jpg")
    make_pipeline().read(path)
    path.unlink()
    assert not path.exists()
