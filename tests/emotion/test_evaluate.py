"""Figures against scikit-learn or hand-made values; the report, comparison and robustness on made faces."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics

from emotion import EMOTIONS, DataError, WeightsError, load_classifier
from emotion.calibration import calibrate, expected_calibration_error, fit_temperature
from emotion.compare import compare, mcnemar
from emotion.data import FerSplit, near_copies
from emotion.evaluate import (
    Predictions,
    bootstrap_interval,
    confusion_intervals,
    duplicate_images,
    evaluate,
    ferplus_accuracy,
    predict,
    run_of,
)
from emotion.report import class_rows, summary_rows, write_report
from emotion.robustness import CHANGES, robustness
from emotion.views import probabilities
from tests.emotion.factories import make_split, write_onnx, write_votes

SPLIT = make_split(6)
FERPLUS_OF = dict(
    zip(EMOTIONS, ("anger", "disgust", "fear", "happiness", "sadness", "surprise", "neutral"), strict=True)
)


def predictions_of(chosen: list[int], labels: list[int], temperature: float = 1.0) -> Predictions:
    logits = np.full((len(labels), 7), -2.0, np.float32)
    logits[np.arange(len(labels)), chosen] = 2.0
    faces = np.arange(len(labels), dtype=np.uint8)[:, None, None] * np.ones((1, 48, 48), np.uint8)
    split = FerSplit(faces, np.array(labels, np.int64), tuple(f"f{i}" for i in range(len(labels))))
    return Predictions(split, logits, EMOTIONS, temperature)


def test_figures_by_hand() -> None:
    figures = evaluate(predictions_of([0, 0, 1, 3, 3, 3], [0, 0, 0, 3, 3, 6]), "made@0", split="public")
    assert figures.accuracy == pytest.approx(4 / 6)
    assert figures.balanced_accuracy == pytest.approx((2 / 3 + 1 + 0) / 3)
    angry, happy, neutral = (figures.per_class[i] for i in (0, 3, 6))
    assert (angry.precision, angry.recall) == (1.0, pytest.approx(2 / 3))
    assert (happy.precision, happy.recall, happy.auc) == (pytest.approx(2 / 3), 1.0, pytest.approx(7 / 8))
    assert (neutral.images, neutral.f1) == (1, 0.0)
    assert figures.macro_f1 == pytest.approx((0.8 + 0.8 + 0) / 3)
    assert figures.per_class[2].auc is None
    assert figures.confusion[0] == (2, 1, 0, 0, 0, 0, 0)
    assert figures.accuracy_interval[0] < figures.accuracy < figures.accuracy_interval[1]
    json.dumps(figures.to_dict())


def test_binary_accuracy_flatters_a_model_that_commits_to_nothing() -> None:
    labels = list(range(7))
    unsure = Predictions(predictions_of(labels, labels).split, np.zeros((7, 7), np.float32), EMOTIONS, 1.0)
    figures = evaluate(unsure, "unsure@0", split="public")
    assert figures.binary_accuracy == pytest.approx(6 / 7)
    assert figures.binary_recall == 0
    assert figures.accuracy == pytest.approx(1 / 7)


def test_accuracy_without_duplicates() -> None:
    predictions = predictions_of([0, 1, 2, 4], [0, 1, 2, 3])
    train = predictions.split.subset(np.array([True, False, True, False]))
    assert duplicate_images(predictions.split, train).tolist() == [True, False, True, False]
    figures = evaluate(predictions, "made@0", split="public", train=train)
    assert (figures.duplicates, figures.without_duplicates) == (2, 0.5)


def test_accuracy_with_duplicates_known_by_heart() -> None:
    predictions = predictions_of([0, 1, 2, 4], [0, 2, 3, 3])
    images = predictions.split.images[[0, 1, 2, 2, 2]]
    train = FerSplit(images, np.array([6, 2, 5, 3, 3], np.int64), tuple("abcde"))
    figures = evaluate(predictions, "made@0", split="public", train=train)
    assert (figures.accuracy, figures.duplicates_by_heart) == (0.25, 0.5)
    assert ("accuracy with the duplicates known by heart", "0.5000") in summary_rows(figures)
    elsewhere = replace(train, images=200 - images)
    assert evaluate(predictions, "made@0", split="public", train=elsewhere).duplicates_by_heart is None


def test_accuracy_without_photos_that_are_cut_or_saved_a_little_differently() -> None:
    rng = np.random.default_rng(0)
    coarse = rng.integers(30, 220, (5, 7, 7)).astype(np.uint8)
    photos = np.stack([cv2.resize(c, (60, 60), interpolation=cv2.INTER_CUBIC) for c in coarse])
    cut, faces = photos[:, 7:55, 7:55], photos[:, 6:54, 6:54]
    brighter = np.clip(faces[2] * 0.8 + 20 + rng.normal(0, 3, (48, 48)), 0, 255)
    even = np.full((48, 48), 90)
    predictions = predictions_of([0, 1, 2, 3], [0, 1, 2, 4])
    split = replace(predictions.split, images=np.stack([faces[0], faces[1], faces[2], even]).astype(np.uint8))
    images = np.stack([faces[0], cut[1], brighter, faces[3], faces[4], even + 40]).astype(np.uint8)
    train = FerSplit(images, np.zeros(6, np.int64), tuple("abcdef"))
    assert near_copies(split, train).tolist() == [True, True, True, False]
    figures = evaluate(replace(predictions, split=split), "made@0", split="public", train=train)
    assert (figures.duplicates, figures.near_copies, figures.without_near_copies) == (1, 3, 0)
    assert ("accuracy without 3 duplicates and near copies", "0.0000") in summary_rows(figures)


def test_ferplus_accuracy_maps_by_name(tmp_path: Path) -> None:
    classifier = load_classifier(write_onnx(tmp_path / "linear.onnx"))
    names = tuple(SPLIT.names[6 * label] for label in (0, 1, 3))
    votes = write_votes(tmp_path / "votes.csv", names, ["anger", "contempt", "sadness"])
    found = ferplus_accuracy(classifier, SPLIT, votes)
    figures = evaluate(predict(classifier, SPLIT), "made@0", split="public", ferplus=found)
    assert (figures.ferplus_accuracy, figures.ferplus_images) == (0.5, 2)
    other = write_votes(tmp_path / "other.csv", ("x",), ["anger"])
    with pytest.raises(DataError, match="no image of this split has a clear majority"):
        ferplus_accuracy(classifier, SPLIT, other)


def test_ferplus_accuracy_is_over_the_majorities_whatever_the_labels(tmp_path: Path) -> None:
    """As training measures it: a face that FER-2013 calls afraid and people happy counts for a model without fear."""
    classifier = load_classifier(write_onnx(tmp_path / "three.onnx", ("sad", "happy", "neutral")))
    names = tuple(SPLIT.names[6 * label] for label in (2, 3, 4, 6))
    votes = write_votes(tmp_path / "votes.csv", names, ["happiness", "happiness", "anger", "neutral"])
    chosen = classifier.logits(SPLIT.images[[12]]).argmax(1)[0]
    expected = (2 + int(chosen == 1)) / 3
    assert ferplus_accuracy(classifier, SPLIT, votes) == (pytest.approx(expected), 3)


def test_interval_of_certainty_is_a_point() -> None:
    assert bootstrap_interval(np.ones(10, bool)) == (1.0, 1.0)
    low, high = bootstrap_interval(np.arange(3589) < 2513)
    assert (high - low) == pytest.approx(2 * 1.96 * np.sqrt(0.7 * 0.3 / 3589), rel=0.1)


def test_intervals_of_a_confusion_matrix_are_those_of_resampled_images() -> None:
    rng = np.random.default_rng(3)
    labels = rng.choice(3, 400, p=[0.6, 0.37, 0.03])
    chosen = np.where(rng.random(400) < 0.7, labels, rng.integers(0, 3, 400))
    found = confusion_intervals(metrics.confusion_matrix(labels, chosen, labels=range(4)))
    draws = []
    for _ in range(400):
        i = rng.integers(0, 400, 400)
        recall, f1 = metrics.precision_recall_fscore_support(labels[i], chosen[i], zero_division=0.0)[1:3]
        draws.append((recall.mean(), f1.mean(), recall[0]))
    expected = np.percentile(draws, [2.5, 97.5], axis=0).T
    for interval, low_high in zip((found.balanced_accuracy, found.macro_f1, found.recall[0]), expected, strict=True):
        assert interval == pytest.approx(low_high, abs=0.03)
    assert found.recall[3] is None


def test_figures_that_are_certain_have_points_for_intervals() -> None:
    figures = evaluate(predictions_of([0, 0, 3, 3], [0, 0, 3, 3]), "made@0", split="public")
    told = figures.to_dict()
    assert (told["balanced_accuracy_interval"], told["macro_f1_interval"]) == ((1.0, 1.0), (1.0, 1.0))
    assert [c["recall_interval"] for c in told["per_class"]] == [(1.0, 1.0) if c in (0, 3) else None for c in range(7)]
    assert class_rows(figures)[1][3:5] == ("1.000", "1.000 to 1.000")
    assert class_rows(figures)[2][4] == "-"
    assert ("95 % interval", "1.0000 to 1.0000") in summary_rows(figures)[5:]


def test_a_split_of_duplicates_alone_has_no_accuracy_without_them() -> None:
    predictions = predictions_of([0, 1], [0, 1])
    figures = evaluate(predictions, "made@0", split="train", train=predictions.split)
    assert (figures.duplicates, figures.without_duplicates) == (2, None)


@settings(max_examples=20, deadline=None)
@given(st.floats(0.4, 4.0))
def test_temperature_undoes_a_scaling(scale: float) -> None:
    rng = np.random.default_rng(0)
    honest = rng.normal(0, 1.5, (4000, 7)).astype(np.float32)
    shares = probabilities(honest)
    labels = np.array([rng.choice(7, p=p / p.sum()) for p in shares.astype(float)], np.int64)
    assert fit_temperature((honest * scale).astype(np.float32), labels) == pytest.approx(scale, rel=0.08)


def test_calibration_lowers_the_error_of_an_overconfident_model() -> None:
    rng = np.random.default_rng(1)
    honest = rng.normal(0, 1.5, (3000, 7)).astype(np.float32)
    labels = np.array([rng.choice(7, p=p / p.sum()) for p in probabilities(honest).astype(float)], np.int64)
    fitted = calibrate(honest * 3, labels)
    assert fitted.ece_before > 0.15
    assert fitted.ece_after < 0.05
    with pytest.raises(DataError, match="4 images: expected at least 5"):
        calibrate(honest[:4], labels[:4])


def test_calibration_error_by_hand() -> None:
    shares = np.array([[0.9, 0.1], [0.9, 0.1], [0.62, 0.38]], np.float32)
    error = expected_calibration_error(shares, np.array([0, 1, 0]))
    assert error == pytest.approx(2 / 3 * 0.4 + 1 / 3 * 0.38, abs=1e-6)


@pytest.mark.parametrize(
    ("this", "first", "expected"),
    [([], [], (0, 0, 1.0)), ([1] * 6, [0] * 6, (6, 0, 2 / 64)), ([1, 0], [0, 1], (1, 1, 1.0))],
)
def test_mcnemar(this: list[int], first: list[int], expected: tuple[int, int, float]) -> None:
    assert mcnemar(np.array(this, bool), np.array(first, bool)) == pytest.approx(expected)


def test_compare_pairs_with_the_first(tmp_path: Path) -> None:
    good = write_onnx(tmp_path / "good.onnx")
    rows = compare([good, good], SPLIT)
    assert [(r.accuracy, r.mcnemar_p) for r in rows] == [(1.0, None), (1.0, 1.0)]
    assert rows[0].megabytes == pytest.approx(good.stat().st_size / 1e6)
    assert rows[0].ms_per_face > 0


def test_compare_loads_all_before_it_measures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    good = write_onnx(tmp_path / "good.onnx")
    four = write_onnx(tmp_path / "four.onnx", ("happy", "sad", "neutral", "fear"))
    monkeypatch.setattr("emotion.compare.predict", lambda scorer, split: pytest.fail("measured"))
    with pytest.raises(DataError, match="expected the same classes"):
        compare([good, four], SPLIT)
    with pytest.raises(WeightsError, match="nosuch"):
        compare([good, "nosuch"], SPLIT)


def test_four_class_models_see_their_classes_only(tmp_path: Path) -> None:
    classifier = load_classifier(write_onnx(tmp_path / "four.onnx", ("sad", "happy", "neutral", "fear")))
    predictions = predict(classifier, SPLIT)
    assert len(predictions.split) == 24
    assert predictions.right.all()


def test_report_is_one_page_with_its_pictures(tmp_path: Path) -> None:
    predictions = predictions_of([0, 0, 1, 3, 3, 3], [0, 0, 0, 3, 3, 6])
    run = tmp_path / "run"
    run.mkdir()
    lines = [{"epoch": e, "train_loss": 2 / e, "train_accuracy": 0.1 * e, "public_accuracy": 0.1 * e} for e in (1, 2)]
    (run / "log.jsonl").write_text("\n".join(map(json.dumps, lines)))
    page = write_report(predictions, evaluate(predictions, "<made>", split="public"), tmp_path / "out", run=run)
    html = page.read_text()
    assert "&lt;made&gt; on public" in html
    assert "happy 0.90, label neutral" in html
    for name in ("confusion.png", "reliability.png", "balance.png", "curve.png"):
        assert f'src="{name}"' in html
        assert (page.parent / name).read_bytes().startswith(b"\x89PNG")
    assert len(list((page.parent / "mistakes").iterdir())) == 2
    assert json.loads((page.parent / "evaluation.json").read_text())["images"] == 6


def test_a_report_takes_the_place_of_an_earlier_one(tmp_path: Path) -> None:
    wrong = predictions_of([0, 1], [3, 3])
    (tmp_path / "mistakes").mkdir()
    for old in ("curve.png", "mistakes/00007.png"):
        (tmp_path / old).touch()
    write_report(wrong, evaluate(wrong, "made", split="public"), tmp_path)
    found = sorted(path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*.*"))
    pictures = ["balance.png", "confusion.png", "mistakes/00000.png", "mistakes/00001.png", "reliability.png"]
    assert found == sorted([*pictures, "evaluation.json", "index.html"])


def test_training_curves_are_of_the_run_that_the_weights_lie_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "log.jsonl").touch()
    monkeypatch.chdir(tmp_path)
    assert (run_of(tmp_path), run_of("last.pt")) == (tmp_path, Path())
    assert [run_of(other) for other in ("default", "a.onnx", "elsewhere/best.pt")] == [None] * 3


def test_robustness_has_a_row_per_change(tmp_path: Path) -> None:
    rows = robustness(load_classifier(write_onnx(tmp_path / "linear.onnx")), SPLIT)
    assert [row.change for row in rows] == ["none", *CHANGES]
    assert rows[0].accuracy == 1.0
    assert all(row.difference == pytest.approx(row.accuracy - 1.0) for row in rows)


@pytest.mark.parametrize("name", CHANGES)
def test_changes_keep_the_format_and_change_something(name: str) -> None:
    face = SPLIT.images[0].copy()
    changed = CHANGES[name](face, np.random.default_rng(0))
    assert changed.shape == (48, 48)
    assert changed.dtype == np.uint8
    assert not np.array_equal(changed, face)
    assert np.array_equal(face, SPLIT.images[0])


def test_a_larger_box_shows_a_smaller_face() -> None:
    face = np.zeros((48, 48), np.uint8)
    face[14:34, 14:34] = 255
    sizes = {(CHANGES["box scaled by 20 %"](face, np.random.default_rng(s)) > 127).sum() for s in range(8)}
    assert min(sizes) == pytest.approx(400 / 1.44, rel=0.1)
    assert max(sizes) == pytest.approx(400 / 0.64, rel=0.1)
