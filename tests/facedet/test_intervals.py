"""Intervals against the plain way: a photo that is drawn twice is measured twice."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from facedet.data.coco import FaceDataset, Photo
from facedet.evaluate import measure
from facedet.faces import Faces
from facedet.intervals import DRAWS, differences, draws, intervals
from facedet.wider_protocol import LEVELS, WiderPhoto, wider_ap

SIZE = (640, 480)
TIMES = [2, 0, 1, 3]
"""How often each of four photos is drawn."""


def boxes_and_found(seed: int) -> tuple[list[np.ndarray], list[Faces]]:
    """Four photos: true boxes, and two detections near each of them, with scores that occur once."""
    rng = np.random.default_rng(seed)
    truth, found = [], []
    for i in range(4):
        corner = rng.uniform(0, 300, (2 + i, 2))
        boxes = np.hstack([corner, corner + rng.uniform(30, 90, (2 + i, 2))]).astype(np.float32)
        near = np.repeat(boxes, 2, 0) + rng.normal(0, 6, (2 * len(boxes), 4)).astype(np.float32)
        truth.append(boxes)
        found.append(Faces.from_raw(near, rng.permutation(90)[: len(near)] / 100 + 0.002 * i, SIZE))
    return truth, found


def drawn(seed: int) -> tuple[list[np.ndarray], list[Faces]]:
    truth, found = boxes_and_found(seed)
    chosen = [i for i, times in enumerate(TIMES) for _ in range(times)]
    return [truth[i] for i in chosen], [found[i] for i in chosen]


def dataset(truth: list[np.ndarray]) -> FaceDataset:
    """With an ignored face in each photo that has three and more."""
    photos = [
        Photo(Path(f"{i}.jpg"), f"{i}.jpg", *SIZE, boxes, np.arange(len(boxes)) == 2) for i, boxes in enumerate(truth)
    ]
    return FaceDataset("made", Path("."), tuple(photos))


@pytest.mark.parametrize("seed", range(5))
def test_coco_ap_of_a_draw_is_that_of_the_photos_drawn(seed: int) -> None:
    truth, found = boxes_and_found(seed)
    measured = measure(dataset(truth), found)
    again = measure(dataset(drawn(seed)[0]), drawn(seed)[1])
    weights = np.array([[1, 1, 1, 1], TIMES], np.float64)
    for name in ("AP", "AP30", "AP50", "AP75"):
        assert measured.resampled[name](weights).tolist() == pytest.approx(
            [measured.metrics[name], again.metrics[name]]
        )


@pytest.mark.parametrize("seed", range(5))
def test_wider_ap_of_a_draw_is_that_of_the_photos_drawn(seed: int) -> None:
    def results(truth: list[np.ndarray], found: list[Faces]) -> dict[str, object]:
        photos = {
            f"e/{i}": WiderPhoto(b.astype(float), dict.fromkeys(LEVELS, np.arange(len(b)) != 2))
            for i, b in enumerate(truth)
        }
        # One detection at either end of the scores, on a photo without faces, so that both sets are stretched alike.
        photos["e/ends"] = WiderPhoto(np.zeros((0, 4)), dict.fromkeys(LEVELS, np.zeros(0, np.bool_)))
        ends = Faces.from_raw(np.array([[0, 0, 9, 9], [20, 0, 29, 9]], np.float32), np.array([0.0, 1.0]), SIZE)
        return wider_ap(photos, {**{f"e/{i}": f for i, f in enumerate(found)}, "e/ends": ends})["hard"]

    result, again = results(*boxes_and_found(seed)), results(*drawn(seed))
    weights = np.array([[1, 1, 1, 1, 1], [*TIMES, 1]], np.float64)
    assert result.resampled(weights).tolist() == pytest.approx([result.ap, again.ap])


def test_interval_holds_the_value_and_is_wide_where_photos_differ() -> None:
    truth, found = boxes_and_found(0)
    found[3] = Faces.empty(SIZE)
    measured = measure(dataset(truth), found)
    low, high = intervals(measured.resampled, 4)["AP50"]
    assert low < measured.metrics["AP50"] < high
    assert high - low > 0.1


def test_one_photo_has_a_point_for_interval() -> None:
    truth, found = boxes_and_found(0)
    measured = measure(dataset(truth[:1]), found[:1])
    assert intervals(measured.resampled, 1)["AP50"] == pytest.approx([measured.metrics["AP50"]] * 2)


def test_nothing_measured_has_no_interval() -> None:
    assert intervals({}, 0) == {}
    assert intervals(measure(dataset([]), []).resampled, 0) == {}
    assert intervals(measure(dataset([np.zeros((0, 4), np.float32)]), [Faces.empty(SIZE)]).resampled, 1) == {}


def test_difference_is_taken_on_the_same_draws() -> None:
    truth, found = boxes_and_found(1)
    ours, theirs = measure(dataset(truth), found), measure(dataset(truth), [found[0], *[Faces.empty(SIZE)] * 3])
    assert differences(ours.resampled, ours.resampled, 4)["AP50"] == (0.0, 0.0)
    low, high = differences(ours.resampled, theirs.resampled, 4)["AP50"]
    plain = ours.resampled["AP50"](draws(4)) - theirs.resampled["AP50"](draws(4))
    assert (low, high) == pytest.approx(np.percentile(plain, [2.5, 97.5]).tolist())
    assert differences(ours.resampled, {}, 4) == {}


def test_draws_are_as_many_photos_as_there_are() -> None:
    assert draws(7).shape == (DRAWS, 7)
    assert set(draws(7).sum(1).tolist()) == {7.0}
