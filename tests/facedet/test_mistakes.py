"""Right and wrong by score, against counts by hand."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from facedet.data.coco import FaceDataset, Photo
from facedet.faces import Faces
from facedet.mistakes import Mistakes, mistakes_by_score
from facedet.operating_point import match_all

SIZE = (640, 480)
NEAR, SMALL, CROWD = [0, 0, 40, 40], [100, 0, 108, 10], [200, 200, 300, 300]


def toy(ignore: tuple[bool, bool, bool] = (False, False, True)) -> FaceDataset:
    boxes = np.array([NEAR, SMALL, CROWD], np.float32)
    return FaceDataset("toy", Path("."), (Photo(Path("a.jpg"), "a.jpg", *SIZE, boxes, np.array(ignore)),))


def found(*rows: list[float]) -> list[Faces]:
    table = np.array(rows, np.float32).reshape(-1, 5)
    return [Faces.from_raw(table[:, :4], table[:, 4], SIZE)]


def test_each_kind_is_counted_where_it_belongs() -> None:
    faces = found(
        [*NEAR, 0.95], [2, 0, 42, 40, 0.85], [20, 0, 60, 40, 0.75], [400, 0, 440, 40, 0.65], [*CROWD, 0.99],
        [*SMALL, 0.35],
    )  # fmt: skip
    data = toy()
    rows = mistakes_by_score(data, faces, match_all(data, faces), (0.3, 0.7, 0.9, 1.0))
    assert rows == [
        Mistakes(0.3, right=2, off=1, twice=1, background=1, missed=0),
        Mistakes(0.7, right=1, off=1, twice=1, background=0, missed=1),
        Mistakes(0.9, right=1, off=0, twice=0, background=0, missed=1),
        Mistakes(1.0, right=0, off=0, twice=0, background=0, missed=2),
    ]
    assert (rows[0].precision, rows[0].recall) == (0.4, 1.0)
    assert (rows[3].precision, rows[3].recall) == (None, 0.0)


@pytest.mark.parametrize("rows", [[], [[*NEAR, 0.9]]])
def test_photos_without_faces_or_detections(rows: list[list[float]]) -> None:
    data = toy(ignore=(True, True, True))
    row = mistakes_by_score(data, found(*rows), match_all(data, found(*rows)), (0.5,))[0]
    assert (row.right, row.missed, row.precision, row.recall) == (0, 0, None, None)
    assert mistakes_by_score(FaceDataset("none", Path("."), ()), [], [], (0.5,)) == [Mistakes(0.5, 0, 0, 0, 0, 0)]


def test_small_faces_neither_reward_nor_cost() -> None:
    data = toy().ignoring_small(11)
    assert data.face_count == 1
    faces = found([*SMALL, 0.9])
    assert mistakes_by_score(data, faces, match_all(data, faces), (0.5,)) == [Mistakes(0.5, 0, 0, 0, 0, 1)]
