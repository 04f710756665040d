"""A box becomes a 48x48 grey crop: whatever the box, whatever the rule."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.crops import CROP_RULES, DEFAULT_RULE, CropRule, crop_faces, rule_for, square_boxes

PLAIN = CropRule(side="mean", scale=1.0, shift_y=0.0)


def boxes(*rows: tuple[float, float, float, float]) -> np.ndarray:
    return np.array(rows, np.float32).reshape(-1, 4)


def test_no_boxes_no_crops() -> None:
    assert crop_faces(np.zeros((10, 10, 3), np.uint8), boxes(), rule=PLAIN) == []


def test_a_48_pixel_square_comes_out_as_it_is() -> None:
    image = np.random.default_rng(0).integers(0, 256, (100, 120, 3)).astype(np.uint8)
    crop = crop_faces(image, boxes((30, 20, 78, 68)), rule=PLAIN)[0]
    assert np.array_equal(crop, cv2.cvtColor(image, cv2.COLOR_BGR2GRAY)[20:68, 30:78])


def test_grey_images_are_taken_too() -> None:
    image = np.random.default_rng(0).integers(0, 256, (100, 120)).astype(np.uint8)
    crop = crop_faces(image, boxes((30, 20, 78, 68)), rule=PLAIN)[0]
    assert np.array_equal(crop, image[20:68, 30:78])


@pytest.mark.parametrize(
    ("rule", "square"),
    [
        (CropRule("mean", 1.0, 0.0), (5, 5, 35, 35)),
        (CropRule("width", 1.0, 0.0), (10, 10, 30, 30)),
        (CropRule("height", 1.0, 0.0), (0, 0, 40, 40)),
        (CropRule("min", 2.0, 0.0), (0, 0, 40, 40)),
        (CropRule("max", 0.5, 0.0), (10, 10, 30, 30)),
        (CropRule("mean", 1.0, 0.1), (5, 8, 35, 38)),
        (CropRule("mean", 1.0, -0.5), (5, -10, 35, 20)),
    ],
)
def test_squares(rule: CropRule, square: tuple[float, ...]) -> None:
    assert square_boxes(boxes((10, 0, 30, 40)), rule=rule)[0] == pytest.approx(square)


@pytest.mark.parametrize(("padding", "value"), [("black", 0), ("replicate", 200), ("reflect", 200)])
def test_padding_outside_the_photo(padding: str, value: int) -> None:
    image = np.full((60, 60, 3), 200, np.uint8)
    rule = CropRule("mean", 2.0, 0.0, padding)  # type: ignore[arg-type]
    crop = crop_faces(image, boxes((0, 0, 24, 24)), rule=rule)[0]
    assert crop[2, 2] == value
    assert crop[40, 40] == 200


@pytest.mark.parametrize(("grey", "value"), [("luma", 41), ("mean", 60), ("green", 20)])
def test_grey_of_a_colour(grey: str, value: int) -> None:
    image = np.full((48, 48, 3), (100, 20, 60), np.uint8)
    (crop,) = crop_faces(image, np.array([[0, 0, 48, 48]], np.float32), rule=CropRule(grey=grey))
    assert set(crop.ravel().tolist()) == {value}


@pytest.mark.parametrize(
    ("resampling", "method"),
    [
        ("cubic", cv2.INTER_CUBIC),
        ("linear", cv2.INTER_LINEAR),
        ("lanczos", cv2.INTER_LANCZOS4),
        ("nearest", cv2.INTER_NEAREST),
    ],
)
def test_how_a_small_face_is_enlarged_and_that_a_large_one_is_averaged(resampling: str, method: int) -> None:
    image = np.random.default_rng(0).integers(0, 256, (96, 96), dtype=np.uint8)
    boxes = np.array([[0, 0, 20, 20], [0, 0, 96, 96]], np.float32)
    small, large = crop_faces(image, boxes, rule=CropRule(resampling=resampling))
    assert np.array_equal(small, cv2.resize(image[:20, :20], (48, 48), interpolation=method))
    assert np.abs(large - image.reshape(48, 2, 48, 2).mean((1, 3))).max() <= 0.5


def test_every_detector_has_a_rule_or_gets_the_default() -> None:
    assert rule_for("haar") is CROP_RULES["haar"]
    assert rule_for("faster_rcnn_x101_fpn") is CROP_RULES["faster_rcnn"]
    assert rule_for("compact:best.onnx") is CROP_RULES["compact"]
    assert rule_for("something else") is DEFAULT_RULE
    own = {"faster_rcnn": CropRule(scale=1.0), "faster_rcnn_r18_fpn": CropRule(scale=1.5)}
    assert rule_for("faster_rcnn_r18_fpn", own) is own["faster_rcnn_r18_fpn"]


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_any_box_inside_or_at_the_borders_gives_a_crop(data: st.DataObject) -> None:
    width, height = data.draw(st.integers(1, 300)), data.draw(st.integers(1, 300))
    shape = (height, width, 3) if data.draw(st.booleans()) else (height, width)
    image = np.full(shape, 77, np.uint8)
    x = sorted(data.draw(st.lists(st.floats(0, width, width=32), min_size=2, max_size=2, unique=True)))
    y = sorted(data.draw(st.lists(st.floats(0, height, width=32), min_size=2, max_size=2, unique=True)))
    rule = data.draw(
        st.builds(
            CropRule,
            st.sampled_from(["mean", "width", "height", "max", "min"]),
            st.floats(0.3, 3),
            st.floats(-0.5, 0.5),
            st.sampled_from(["replicate", "reflect", "black"]),
        )
    )
    side = data.draw(st.sampled_from([48, 40, 96]))
    crops = crop_faces(image, boxes((x[0], y[0], x[1], y[1])), rule=rule, side_px=side)
    assert [(crop.shape, crop.dtype) for crop in crops] == [((side, side), np.uint8)]
    if rule.padding != "black":
        assert (crops[0] == 77).all()
