"""The value that crosses the seam: what it accepts, what it refuses and with which words."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from facedet import Faces

SIZE_WH = (100, 50)
ONE_BOX = np.array([[1, 2, 30, 40]], np.float32)
ONE_SCORE = np.array([0.5], np.float32)


def test_no_faces() -> None:
    faces = Faces.empty(SIZE_WH)
    assert len(faces) == 0
    assert faces.boxes_xyxy.shape == (0, 4)
    assert faces.image_size_wh == SIZE_WH


def test_values_are_frozen() -> None:
    faces = Faces(ONE_BOX.copy(), ONE_SCORE.copy(), SIZE_WH)
    with pytest.raises(ValueError, match="read-only"):
        faces.boxes_xyxy[0, 0] = 7
    with pytest.raises(AttributeError):
        faces.image_size_wh = (1, 1)  # type: ignore[misc]


@pytest.mark.parametrize(
    ("boxes", "scores", "message"),
    [
        (np.zeros(4, np.float32), ONE_SCORE, "expected float32 [N, 4], got float32 [4]"),
        (ONE_BOX.astype(np.float64), ONE_SCORE, "expected float32 [N, 4], got float64 [1, 4]"),
        (ONE_BOX, np.zeros(2, np.float32), "scores: expected float32 [1], got float32 [2]"),
        (ONE_BOX, np.array([1.5], np.float32), "expected finite values in [0, 1]"),
        (ONE_BOX, np.array([np.nan], np.float32), "expected finite values in [0, 1]"),
        (np.repeat(ONE_BOX, 2, 0), np.array([0.1, 0.2], np.float32), "expected falling order"),
        (np.array([[-1, 2, 30, 40]], np.float32), ONE_SCORE, "0 <= x1 < x2 <= 100 and 0 <= y1 < y2 <= 50, got [-1.0"),
        (np.array([[1, 2, 101, 40]], np.float32), ONE_SCORE, "got [1.0, 2.0, 101.0, 40.0]"),
        (np.array([[1, 2, 30, 51]], np.float32), ONE_SCORE, "got [1.0, 2.0, 30.0, 51.0]"),
        (np.array([[30, 2, 30, 40]], np.float32), ONE_SCORE, "got [30.0, 2.0, 30.0, 40.0]"),
        (np.array([[np.nan, 2, 30, 40]], np.float32), ONE_SCORE, "got [nan, 2.0, 30.0, 40.0]"),
    ],
)
def test_refuses(boxes: Any, scores: Any, message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        Faces(boxes, scores, SIZE_WH)


def test_select_keeps_order() -> None:
    boxes = np.array([[0, 0, 1, 1], [0, 0, 2, 2], [0, 0, 3, 3]], np.float32)
    faces = Faces(boxes, np.array([0.9, 0.8, 0.7], np.float32), SIZE_WH)
    kept = faces.select(np.array([True, False, True]))
    assert kept.scores.tolist() == pytest.approx([0.9, 0.7])
    assert kept.boxes_xyxy[:, 2].tolist() == [1, 3]


def test_from_raw_clips_drops_and_sorts() -> None:
    faces = Faces.from_raw(
        [[-5, -5, 10, 10], [90, 40, 200, 200], [200, 10, 300, 20], [5, 5, 20, 20], [5, 5, 20, 20]],
        [0.2, 0.9, 0.8, np.nan, 1.7],
        SIZE_WH,
    )
    assert faces.boxes_xyxy.tolist() == [[5, 5, 20, 20], [90, 40, 100, 50], [0, 0, 10, 10]]
    assert faces.scores.tolist() == pytest.approx([1.0, 0.9, 0.2])


def test_from_raw_measures_the_least_side_after_clipping() -> None:
    boxes = [[-20, 0, 10, 30], [0, 0, 12, 12]]
    assert Faces.from_raw(boxes, [0.9, 0.8], SIZE_WH, min_side_px=11).boxes_xyxy.tolist() == [[0, 0, 12, 12]]


any_number = st.one_of(
    st.floats(width=32, allow_nan=True, allow_infinity=True), st.floats(-50, 200, width=32), st.just(0.0)
)


@given(st.data(), st.integers(0, 8), st.tuples(st.integers(1, 120), st.integers(1, 120)))
def test_from_raw_always_gives_valid_faces(data: st.DataObject, count: int, size_wh: tuple[int, int]) -> None:
    boxes = data.draw(arrays(np.float32, (count, 4), elements=any_number))
    scores = data.draw(arrays(np.float32, (count,), elements=any_number))
    faces = Faces.from_raw(boxes, scores, size_wh)
    assert len(faces) <= count
    inside = [
        i
        for i, ((x1, y1, x2, y2), score) in enumerate(zip(boxes, scores, strict=True))
        if x1 >= 0 and x1 + 1 < x2 <= size_wh[0] and y1 >= 0 and y1 + 1 < y2 <= size_wh[1] and np.isfinite(score)
    ]
    rows = {tuple(box) for box in faces.boxes_xyxy.tolist()}
    assert all(tuple(boxes[i].tolist()) in rows for i in inside), "a good box got lost"
