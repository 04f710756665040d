"""Box arithmetic, against the plain definition."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from facedet.boxes import iou_matrix, suppress_overlaps, voted_boxes

NONE = np.zeros((0, 4), np.float32)
UNIT = np.array([[0, 0, 10, 10]], np.float32)


@pytest.mark.parametrize(
    ("other", "iou"),
    [
        ([0, 0, 10, 10], 1.0),
        ([5, 0, 15, 10], 50 / 150),
        ([2, 2, 7, 7], 0.25),
        ([10, 0, 20, 10], 0.0),
        ([3, 3, 3, 8], 0.0),
    ],
)
def test_iou(other: list[float], iou: float) -> None:
    assert iou_matrix(UNIT, np.array([other], np.float32))[0, 0] == pytest.approx(iou)


def test_iou_of_nothing() -> None:
    assert iou_matrix(NONE, UNIT).shape == (0, 1)
    assert iou_matrix(UNIT, NONE).shape == (1, 0)


def test_suppressing_nothing() -> None:
    assert suppress_overlaps(NONE, np.zeros(0, np.float32), 0.5).tolist() == []


def test_a_suppressed_box_suppresses_nobody() -> None:
    chain = np.array([[0, 0, 10, 10], [4, 0, 14, 10], [8, 0, 18, 10]], np.float32)
    assert suppress_overlaps(chain, np.array([0.9, 0.8, 0.7], np.float32), 0.3).tolist() == [0, 2]
    assert suppress_overlaps(chain, np.array([0.7, 0.9, 0.8], np.float32), 0.3).tolist() == [1]


@given(arrays(np.float32, (12, 4), elements=st.integers(0, 30)), arrays(np.float32, 12, elements=st.integers(0, 5)))
def test_what_stays_is_apart_and_what_goes_has_a_better_neighbour(corners: np.ndarray, scores: np.ndarray) -> None:
    boxes = np.hstack([corners[:, :2], corners[:, :2] + corners[:, 2:] + 1])
    kept = suppress_overlaps(boxes, scores, 0.4)
    overlaps = iou_matrix(boxes, boxes) > 0.4
    assert np.array_equal(overlaps[np.ix_(kept, kept)], np.eye(len(kept), dtype=bool))
    for gone in set(range(12)) - set(kept.tolist()):
        assert any(overlaps[gone, k] and scores[k] >= scores[gone] for k in kept)


def test_voters_pull_a_box_by_their_scores_and_others_do_not() -> None:
    voters = np.array([[0, 0, 10, 10], [2, 0, 12, 10], [8, 8, 18, 18]], np.float32)
    scores = np.array([0.9, 0.3, 0.8], np.float32)
    voted = voted_boxes(voters[[0, 2]], voters, scores, 0.6)
    assert voted == pytest.approx(np.array([[0.5, 0, 10.5, 10], [8, 8, 18, 18]]))


def test_nothing_to_vote_on() -> None:
    assert voted_boxes(NONE, UNIT, np.ones(1, np.float32), 0.6).shape == (0, 4)


@pytest.mark.parametrize("count", [255, 256, 257, 1000])
def test_votes_of_a_large_crowd_are_the_same_and_take_little_more_than_their_weights(count: int) -> None:
    rng = np.random.default_rng(count)
    corners = rng.uniform(0, 200, (3000, 2))
    voters = np.hstack([corners, corners + rng.uniform(20, 40, (3000, 2))]).astype(np.float32)
    scores = rng.uniform(0.1, 1, 3000).astype(np.float32)
    weights = np.where(iou_matrix(voters[:count], voters) >= 0.6, scores[None], 0)
    expected = weights @ voters / weights.sum(1, keepdims=True)
    tracemalloc.start()
    voted = voted_boxes(voters[:count], voters, scores, 0.6)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert (voted.dtype, np.array_equal(voted, expected)) == (np.float32, True)
    assert peak < weights.nbytes + 8 * weights[:256].nbytes
