"""WIDER FACE's protocol against a case worked out by hand and against a slow, literal version of the official code."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from facedet.errors import DataError
from facedet.faces import Faces
from facedet.wider_protocol import LEVELS, WiderPhoto, load_wider_truth, wider_ap

SIZE = (1000, 1000)


def photo_truth(boxes: list[list[float]], counted: list[bool]) -> WiderPhoto:
    keep = np.array(counted, np.bool_)
    return WiderPhoto(np.array(boxes, np.float64).reshape(-1, 4), dict.fromkeys(LEVELS, keep))


def faces_of(rows: list[list[float]]) -> Faces:
    table = np.array(rows, np.float32).reshape(-1, 5)
    return Faces.from_raw(table[:, :4], table[:, 4], SIZE)


def test_by_hand_one_of_two_faces_then_a_false_alarm_then_the_other() -> None:
    truth = {"e/a": photo_truth([[0, 0, 100, 100], [200, 0, 300, 100]], [True, True])}
    found = {"e/a.jpg": faces_of([[0, 0, 100, 100, 0.9], [500, 500, 600, 600, 0.6], [200, 0, 300, 100, 0.3]])}
    result = wider_ap(truth, found)["hard"]
    # recall 0.5 at precision 1, recall 1 at precision 2/3
    assert result.ap == pytest.approx(0.5 * 1 + 0.5 * 2 / 3)
    assert result.faces == 2
    assert result.curve.shape == (1000, 2)


def test_a_face_outside_the_level_neither_rewards_nor_costs() -> None:
    truth = {"e/a": photo_truth([[0, 0, 100, 100], [200, 0, 300, 100]], [True, False])}
    without = wider_ap(truth, {"e/a": faces_of([[0, 0, 100, 100, 0.5]])})["easy"]
    with_ignored = wider_ap(truth, {"e/a": faces_of([[200, 0, 300, 100, 0.9], [0, 0, 100, 100, 0.5]])})["easy"]
    assert without.ap == with_ignored.ap == pytest.approx(1.0)
    assert with_ignored.faces == 1


def test_a_second_detection_of_a_face_is_a_false_alarm() -> None:
    truth = {"e/a": photo_truth([[0, 0, 100, 100], [200, 0, 300, 100]], [True, True])}
    rows = [[0, 0, 100, 100, 0.9], [1, 0, 100, 100, 0.8], [200, 0, 300, 100, 0.2]]
    assert wider_ap(truth, {"e/a": faces_of(rows)})["hard"].ap == pytest.approx(0.5 + 0.5 * 2 / 3)


@pytest.mark.parametrize(
    ("rows", "counted", "ap"),
    [([], [True], 0.0), ([[0, 0, 100, 100, 0.7]], [True], 1.0), ([[0, 0, 100, 100, 0.7]], [False], 0.0)],
)
def test_edges(rows: list[list[float]], counted: list[bool], ap: float) -> None:
    assert wider_ap({"e/a": photo_truth([[0, 0, 100, 100]], counted)}, {"e/a": faces_of(rows)})["hard"].ap == ap


def test_no_photo_at_all() -> None:
    assert wider_ap({}, {})["easy"].faces == 0


def test_unknown_photo_is_named() -> None:
    with pytest.raises(DataError, match=r"1 photos are not in WIDER FACE's truth, the first is e/b\.jpg"):
        wider_ap({}, {"e/b.jpg": Faces.empty(SIZE)})


def literal_ap(truth: dict[str, WiderPhoto], found: dict[str, Faces], level: str) -> float:
    """The official evaluation, step by step in loops, as eval_tools and its Python ports have it."""
    everything = [s for f in found.values() for s in f.scores.astype(np.float64)]
    low, high = min([*everything, 1.0]), max([*everything, 0.0])
    face_count, table = 0, np.zeros((1000, 2))
    for key, faces in found.items():
        gt, keep = truth[key].boxes_xyxy, truth[key].counted[level]
        face_count += int(keep.sum())
        if len(gt) == 0 or len(faces) == 0:
            continue
        recall_list, proposal_list, pred_recall = np.zeros(len(gt)), np.ones(len(faces)), np.zeros(len(faces))
        for h, d in enumerate(faces.boxes_xyxy.astype(np.float64)):
            overlaps = []
            for g in gt:
                w = min(d[2], g[2]) - max(d[0], g[0]) + 1
                t = min(d[3], g[3]) - max(d[1], g[1]) + 1
                inter = w * t if w > 0 and t > 0 else 0.0
                areas = (d[2] - d[0] + 1) * (d[3] - d[1] + 1) + (g[2] - g[0] + 1) * (g[3] - g[1] + 1)
                overlaps.append(inter / (areas - inter))
            j = int(np.argmax(overlaps))
            if overlaps[j] >= 0.5:
                if not keep[j]:
                    recall_list[j], proposal_list[h] = -1, -1
                elif recall_list[j] == 0:
                    recall_list[j] = 1
            pred_recall[h] = (recall_list == 1).sum()
        scores = (faces.scores.astype(np.float64) - low) / (high - low) if high > low else np.ones(len(faces))
        for t in range(1000):
            at_least = np.where(scores >= 1 - (t + 1) / 1000)[0]
            if len(at_least):
                table[t, 0] += (proposal_list[: at_least[-1] + 1] == 1).sum()
                table[t, 1] += pred_recall[at_least[-1]]
    precision = [r / p if p else 0.0 for p, r in table]
    recall = [r / max(face_count, 1) for _, r in table]
    mrec, mpre = [0.0, *recall, 1.0], [0.0, *precision, 0.0]
    for i in range(len(mpre) - 1, 0, -1):
        mpre[i - 1] = max(mpre[i - 1], mpre[i])
    return sum((mrec[i + 1] - mrec[i]) * mpre[i + 1] for i in range(len(mrec) - 1) if mrec[i + 1] != mrec[i])


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(seed=st.integers(0, 10_000), photos=st.integers(1, 4))
def test_equals_the_literal_version(seed: int, photos: int) -> None:
    rng = np.random.default_rng(seed)
    truth, found = {}, {}
    for i in range(photos):
        corner, side = rng.uniform(0, 200, (8, 2)), rng.uniform(20, 80, (8, 2))
        gt = np.hstack([corner, corner + side])[: rng.integers(0, 9)]
        levels = {level: rng.random(len(gt)) < 0.7 for level in LEVELS}
        truth[f"e/{i}"] = WiderPhoto(gt, levels)
        near = np.repeat(gt, 2, 0) + rng.normal(0, 6, (2 * len(gt), 4))
        boxes = np.vstack([near, np.hstack([corner, corner + side])])
        found[f"e/{i}"] = Faces.from_raw(boxes, rng.uniform(0.05, 0.95, len(boxes)).round(2), SIZE)
    results = wider_ap(truth, found)
    for level in LEVELS:
        assert results[level].ap == pytest.approx(literal_ap(truth, found, level), abs=1e-12)


def write_mats(folder: Path, boxes: list[list[int]], hard: list[int]) -> None:
    """The benchmark's four files for one event with one photo; `hard` holds one-based rows."""
    from scipy.io import savemat

    def cell(value: object) -> np.ndarray:
        out = np.empty((1, 1), object)
        out[0, 0] = value
        return out

    base = {
        "event_list": cell(np.array(["0--Parade"])),
        "file_list": cell(cell(np.array(["a"]))),
        "face_bbx_list": cell(cell(np.array(boxes, np.float64).reshape(-1, 4))),
    }
    folder.mkdir()
    savemat(str(folder / "wider_face_val.mat"), base)
    for level in LEVELS:
        keep = hard if level == "hard" else hard[:1]
        savemat(str(folder / f"wider_{level}_val.mat"), base | {"gt_list": cell(cell(np.array(keep).reshape(-1, 1)))})


def test_reads_the_benchmarks_files(tmp_path: Path) -> None:
    write_mats(tmp_path / "ground_truth", [[10, 20, 30, 40], [50, 60, 7, 8]], [2, 1])
    truth = load_wider_truth(tmp_path / "ground_truth")
    assert list(truth) == ["0--Parade/a"]
    np.testing.assert_array_equal(truth["0--Parade/a"].boxes_xyxy, [[10, 20, 40, 60], [50, 60, 57, 68]])
    assert truth["0--Parade/a"].counted["hard"].tolist() == [True, True]
    assert truth["0--Parade/a"].counted["easy"].tolist() == [False, True]


def test_missing_files_name_the_folder(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=f"{tmp_path}: not WIDER FACE's ground_truth folder"):
        load_wider_truth(tmp_path)
