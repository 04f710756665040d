"""Which detection is right, and the threshold with the best F1."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from facedet.data.coco import FaceDataset, Photo
from facedet.faces import Faces
from facedet.operating_point import match_all, match_faces, operating_point

SIZE = (640, 480)
LEFT, RIGHT, FAR = [0.0, 0.0, 40.0, 40.0], [100.0, 0.0, 140.0, 40.0], [300.0, 300.0, 340.0, 340.0]


def photo(boxes: list[list[float]], ignore: list[bool]) -> Photo:
    return Photo(Path("a.jpg"), "a.jpg", *SIZE, np.array(boxes, np.float32).reshape(-1, 4), np.array(ignore, np.bool_))


def faces_of(rows: list[list[float]]) -> Faces:
    table = np.array(rows, np.float32).reshape(-1, 5)
    return Faces.from_raw(table[:, :4], table[:, 4], SIZE)


@pytest.mark.parametrize(
    ("boxes", "ignore", "found", "hits", "neutral"),
    [
        ([], [], [], [], []),
        ([], [], [[*LEFT, 0.9]], [False], [False]),
        ([LEFT], [False], [[*LEFT, 0.9]], [True], [False]),
        ([LEFT], [True], [[*LEFT, 0.9], [*LEFT, 0.8]], [False, False], [True, True]),
        ([LEFT], [False], [[*LEFT, 0.9], [*LEFT, 0.8]], [True, False], [False, False]),
        ([LEFT, LEFT], [True, False], [[*LEFT, 0.9], [*LEFT, 0.8]], [True, False], [False, True]),
        ([LEFT, RIGHT], [False, False], [[*FAR, 0.9], [*RIGHT, 0.8]], [False, True], [False, False]),
    ],
)
def test_matches(
    boxes: list[list[float]], ignore: list[bool], found: list[list[float]], hits: list[bool], neutral: list[bool]
) -> None:
    match = match_faces(faces_of(found), photo(boxes, ignore))
    assert match.hits.tolist() == hits
    assert match.neutral.tolist() == neutral
    assert match.found_at.shape == (len(boxes),)


def test_the_score_of_a_found_face() -> None:
    match = match_faces(faces_of([[*LEFT, 0.75]]), photo([LEFT, RIGHT], [False, False]))
    assert match.found_at.tolist() == [0.75, -1]


def test_best_f1_by_hand() -> None:
    """At 0.75: 1 of 1 right, F1 2/3; at 0.5: 2 of 3 right, F1 0.8; at 0.25: 2 of 4, F1 2/3."""
    data = FaceDataset("toy", Path("."), (photo([LEFT, RIGHT], [False, False]),))
    found = [faces_of([[*LEFT, 0.75], [*FAR, 0.5], [*RIGHT, 0.5], [400, 0, 440, 40, 0.25]])]
    point = operating_point(data, found, match_all(data, found))
    assert point is not None
    assert (point.score, point.precision, point.recall, point.f1) == pytest.approx((0.5, 2 / 3, 1.0, 0.8))


@pytest.mark.parametrize(("boxes", "found"), [([], []), ([LEFT], []), ([], [[*LEFT, 0.5]])])
def test_no_operating_point_without_faces_or_detections(boxes: list[list[float]], found: list[list[float]]) -> None:
    data = FaceDataset("toy", Path("."), (photo(boxes, [False] * len(boxes)),))
    assert operating_point(data, [faces_of(found)], match_all(data, [faces_of(found)])) is None
