"""The measure of the whole chain: cases small enough to count by eye, and sums that always hold."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from emotion import EMOTIONS
from pipeline.cli import app
from pipeline.errors import DataError, UsageError
from pipeline.evaluate import Evaluation, Row, Setting, evaluate
from pipeline.evaluate_run import check_same_classifier, read_setting, run_setting, say_on_true_boxes
from pipeline.matching import average_precision, match_boxes
from pipeline.reading import FaceReading
from pipeline.truth import TruePhoto
from tests.pipeline.factories import BrightnessClassifier, make_pipeline, make_reading, save_photo, tiny_classifier
from tests.pipeline.truths import coco, make_truth, one_hot, save_coco, true_photo

A, B, C, D = (0.0, 0.0, 40.0, 40.0), (50.0, 0.0, 90.0, 40.0), (100.0, 0.0, 120.0, 20.0), (150.0, 0.0, 160.0, 10.0)
runner = CliRunner()


def said(box: tuple[float, float, float, float], emotion: str | None, score: float = 0.9) -> FaceReading:
    return FaceReading(box, score, None if emotion is None else one_hot(emotion, 0.7))


def one(truth: TruePhoto, *faces: FaceReading, ideal: list[int] | None = None) -> Evaluation:
    true_said = None if ideal is None else np.array(ideal, np.int64)
    setting = Setting("s", "squares", "m", [make_reading(truth.source, faces)], true_said)
    return evaluate(make_truth(truth), [setting], resamples=20)[0]


def value(evaluation: Evaluation, name: str) -> float | None:
    return evaluation.figures[name].value


def test_nothing_found() -> None:
    result = one(true_photo("a.jpg", (A, "happy"), (B, "sad")))
    assert result.total == Row("all", faces=2, correct=0, wrong=0, missed=2, not_judged=0, false_alarms=0)
    assert (value(result, "detection_ap"), value(result, "joint_map"), value(result, "found")) == (0, 0, 0)
    assert (value(result, "precision"), value(result, "emotion_on_found")) == (None, None)


def test_one_of_each() -> None:
    """A right, B wrong, C missed, D found but too small, and a false alarm that claims anger."""
    truth = true_photo("a.jpg", (A, "happy"), (B, "sad"), (C, "fear"), (D, "neutral"))
    alarm = said((0, 50, 40, 90), "angry", 0.5)
    result = one(truth, said(A, "happy", 0.9), said(B, "happy", 0.8), said(D, None, 0.7), alarm, ideal=[3, 4, 2, 0])
    assert result.total == Row("all", faces=4, correct=1, wrong=1, missed=2, not_judged=1, false_alarms=1)
    by_size = {row.name: row for row in result.by_size}
    assert by_size["under 16 px"] == Row("under 16 px", 1, 0, 0, 1, 1, 0)
    assert by_size["16 to 24 px"] == Row("16 to 24 px", 1, 0, 0, 1, 0, 0)
    assert by_size["32 to 48 px"] == Row("32 to 48 px", 2, 1, 1, 0, 0, 1)
    by_emotion = {row.name: row for row in result.by_emotion}
    assert by_emotion["sad"] == Row("sad", 1, 0, 1, 0, 0, 0)
    assert by_emotion["angry"].false_alarms == 1
    happy, sad, fear, neutral = (EMOTIONS.index(e) for e in ("happy", "sad", "fear", "neutral"))
    cells = {(int(i), int(j)) for i, j in np.argwhere(result.confusion)}
    assert cells == {(happy, happy), (sad, happy), (fear, 7), (neutral, 7), (7, 0)}
    assert value(result, "found") == 0.75
    assert value(result, "precision") == 0.75
    assert value(result, "emotion_on_found") == 0.5
    assert value(result, "emotion_on_true_boxes") == 0.75  # all but D
    assert value(result, "lost_by_detector") == 0.25  # C
    assert value(result, "lost_by_crop") == 0.25  # B
    assert value(result, "lost_by_classifier") == 0.25  # D
    assert value(result, "detection_ap") == pytest.approx(76 / 101, abs=1e-4)  # recalls 0 to 0.75, all precise


def test_a_crop_can_also_win() -> None:
    result = one(true_photo("a.jpg", (A, "happy")), said(A, "happy"), ideal=[0])
    assert [value(result, f"lost_by_{part}") for part in ("detector", "crop", "classifier")] == [0, -1, 1]


def test_faces_that_are_not_judged_neither_reward_nor_cost() -> None:
    result = one(
        true_photo("a.jpg", (A, None), (B, "sad")), said(A, "happy", 0.9), said(A, "happy", 0.8), said(B, "sad", 0.7)
    )
    assert result.total == Row("all", faces=1, correct=1, wrong=0, missed=0, not_judged=0, false_alarms=0)
    assert value(result, "detection_ap") == 1


def test_a_second_box_on_a_face_is_a_false_alarm() -> None:
    result = one(true_photo("a.jpg", (A, "happy")), said(A, "happy", 0.9), said(A, "happy", 0.8))
    assert (result.total.correct, result.total.false_alarms) == (1, 1)


@pytest.mark.parametrize(
    ("detected", "judged", "owner"),
    [
        ([], [True], []),
        ([A], [True], [0]),
        ([(0, 0, 40, 20)], [True], [0]),  # IoU exactly 0.5
        ([(0, 0, 40, 19)], [True], [-1]),
        ([A, A], [True], [0, -1]),
        ([A, A], [False], [-2, -2]),
    ],
)
def test_who_found_the_face(detected: list[Any], judged: list[bool], owner: list[int]) -> None:
    boxes = np.array(detected, np.float32).reshape(-1, 4)
    assert match_boxes(boxes, np.array([A], np.float32), np.array(judged), 0.5).tolist() == owner


def test_the_better_overlap_is_taken_and_the_judged_face_goes_first() -> None:
    true_boxes = np.array([(0, 0, 40, 36), A, A], np.float32)
    assert match_boxes(np.array([A], np.float32), true_boxes, np.array([True, True, False]), 0.5).tolist() == [1]


def test_joint_map_by_hand() -> None:
    """A detection claims every emotion, each with its own score times that emotion's probability."""
    result = one(true_photo("a.jpg", (A, "happy"), (B, "sad")), said(A, "happy", 0.9), said(B, "sad", 0.8))
    assert value(result, "joint_map") == 1
    swapped = one(true_photo("a.jpg", (A, "happy"), (B, "sad")), said(A, "sad", 0.9), said(B, "happy", 0.8))
    assert value(swapped, "joint_map") == 0.5  # each face comes second in its class: precision 1/2 at every recall


def test_average_precision_is_cocos() -> None:
    """Against pycocotools: 40 detections on 25 of 30 faces and beside them, one category."""
    coco_module = pytest.importorskip("pycocotools.coco")
    from pycocotools.cocoeval import COCOeval

    rng = np.random.default_rng(3)
    hits = rng.permutation([True] * 25 + [False] * 15)
    scores = rng.permutation(np.linspace(0.1, 0.9, 40))
    boxes = [[100.0 * i, 0.0, 10.0, 10.0] for i in range(30)]
    spots = iter(range(30))
    found = [boxes[next(spots)] if hit else [100.0 * i, 50.0, 10.0, 10.0] for i, hit in enumerate(hits)]

    def index(rows: list[list[float]], extra: list[dict[str, float]]) -> Any:
        made = coco_module.COCO()
        base = {"image_id": 1, "category_id": 1, "iscrowd": 0, "area": 100.0}
        rows_ = [{**base, **more, "id": i, "bbox": b} for i, (b, more) in enumerate(zip(rows, extra, strict=True), 1)]
        made.dataset = {"images": [{"id": 1}], "categories": [{"id": 1}], "annotations": rows_}
        made.createIndex()
        return made

    run = COCOeval(index(boxes, [{}] * 30), index(found, [{"score": s} for s in scores]), "bbox")
    run.params.iouThrs = np.array([0.5])
    run.evaluate()
    run.accumulate()
    expected = run.eval["precision"][0, :, 0, 0, -1].mean()
    mine = average_precision(scores, hits, np.ones((1, 40)), np.array([30.0]))[0]
    assert mine == pytest.approx(expected, abs=1e-9)


def test_a_weight_of_two_is_the_photo_twice() -> None:
    truth = [true_photo("a.jpg", (A, "happy"), (B, "sad")), true_photo("b.jpg", (A, "fear"))]
    answers = [
        make_reading("a.jpg", [said(A, "happy", 0.6)]),
        make_reading("b.jpg", [said(A, "sad", 0.9), said(C, "sad", 0.7)]),
    ]
    scores, hits = np.array([0.6, 0.9, 0.7]), np.array([True, True, False])
    doubled = average_precision(np.repeat(scores, 2), np.repeat(hits, 2), np.ones((1, 6)), np.array([6.0]))
    weighted = average_precision(scores, hits, np.full((1, 3), 2.0), np.array([6.0]))
    assert weighted == pytest.approx(doubled, abs=0.02)
    result = evaluate(make_truth(*truth), [Setting("s", "d", "m", answers)], resamples=300)[0]
    correct = result.figures["correct"]
    assert correct.value == pytest.approx(1 / 3, abs=1e-4)
    assert (correct.low, correct.high) == (0, 0.5)  # photo b alone, photo a alone


def test_settings_are_compared_on_the_same_photos() -> None:
    truth = make_truth(*(true_photo(f"{i}.jpg", (A, "happy")) for i in range(8)))
    good = [make_reading(photo.source, [said(A, "happy")]) for photo in truth.photos]
    bad = [make_reading(photo.source) for photo in truth.photos]
    first, second, same = evaluate(truth, [Setting(n, "d", "m", r) for n, r in (("a", bad), ("b", good), ("c", bad))])
    assert first.gain is None
    assert second.gain is not None
    assert (second.gain.value, second.gain.low, second.gain.high) == (1, 1, 1)
    assert same.gain is not None
    assert same.gain.value == 0


BOXES = st.tuples(st.integers(0, 150), st.integers(0, 60), st.integers(2, 50), st.integers(2, 40)).map(
    lambda b: (float(b[0]), float(b[1]), float(b[0] + b[2]), float(b[1] + b[3]))
)
NAMES = st.sampled_from([*EMOTIONS, None])
TRUE_FACES = st.lists(st.tuples(BOXES, NAMES), max_size=6)
SAID_FACES = st.lists(st.builds(said, BOXES, NAMES, st.floats(0, 1)), max_size=8)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(TRUE_FACES, SAID_FACES), min_size=1, max_size=3), st.randoms(use_true_random=False))
def test_everything_adds_up(photos: list[tuple[Any, list[FaceReading]]], random: Any) -> None:
    truth = make_truth(*(true_photo(f"{i}.jpg", *faces) for i, (faces, _) in enumerate(photos)))
    readings = [make_reading(f"{i}.jpg", found) for i, (_, found) in enumerate(photos)]
    # Some detections sit exactly on a face, so that matches happen.
    readings[0] = make_reading("0.jpg", [*readings[0].faces, *(said(b, e) for b, e in photos[0][0])])
    ideal = np.array([random.randrange(7) for _ in range(truth.face_count)], np.int64)
    result = evaluate(truth, [Setting("s", "d", "m", readings, ideal)], resamples=5)[0]
    total = result.total
    for row in (total, *result.by_size, *result.by_emotion):
        assert row.faces == row.correct + row.wrong + row.missed
        assert 0 <= row.not_judged <= row.missed
    for rows in (result.by_size, result.by_emotion):
        for column in ("faces", "correct", "wrong", "missed", "not_judged"):
            assert sum(getattr(row, column) for row in rows) == getattr(total, column)
    assert total.faces == truth.face_count
    assert sum(row.false_alarms for row in result.by_size) == total.false_alarms
    unnamed = int(result.confusion[7, 7])  # false alarms too small for an emotion
    assert sum(row.false_alarms for row in result.by_emotion) + unnamed == total.false_alarms
    assert result.confusion.sum() == total.faces + total.false_alarms
    assert np.trace(result.confusion[:7, :7]) == total.correct
    if total.faces:
        shares = [value(result, n) for n in ("correct", "lost_by_detector", "lost_by_crop", "lost_by_classifier")]
        assert sum(share or 0 for share in shares) == pytest.approx(1, abs=4e-4)


def brightness_truth(folder: Path) -> TruePhoto:
    """A 90 x 50 photo of grey 200: SquareDetector finds two faces, BrightnessClassifier says surprise of each."""
    save_photo(folder / "a.jpg", 90, 50, 200)
    return true_photo(
        "a.jpg", (A, "surprise"), ((40, 0, 80, 40), "happy"), ((0, 42, 8, 50), "surprise"), width=90, height=50
    )


def test_the_chain_is_run_on_photos(tmp_path: Path) -> None:
    truth = make_truth(brightness_truth(tmp_path))
    setting = run_setting("squares", make_pipeline(), truth, [tmp_path / "a.jpg"])
    ideal = say_on_true_boxes(BrightnessClassifier(), truth, [tmp_path / "a.jpg"])
    assert (setting.detector, setting.emotion_model, ideal.tolist()) == (
        "squares",
        BrightnessClassifier.identity,
        [5, 5, 5],
    )
    result = evaluate(truth, [Setting("s", "d", "m", setting.readings, ideal)], resamples=5)[0]
    assert (result.total.correct, result.total.wrong, result.total.missed) == (1, 1, 1)
    losses = [value(result, f"lost_by_{part}") for part in ("detector", "crop", "classifier")]
    assert losses == pytest.approx([1 / 3, 0, 1 / 3], abs=1e-4)


def test_a_photo_of_another_size_or_no_photo(tmp_path: Path) -> None:
    truth = make_truth(brightness_truth(tmp_path))
    save_photo(tmp_path / "b.jpg", 45, 25)
    with pytest.raises(DataError, match=r"b\.jpg: 45 x 25 pixels, but the truth was made on 90 x 50"):
        run_setting("s", make_pipeline(), truth, [tmp_path / "b.jpg"])
    (tmp_path / "c.jpg").write_bytes(b"\xff\xd8\xff no")
    with pytest.raises(DataError, match=r"c\.jpg: damaged"):
        run_setting("s", make_pipeline(), truth, [tmp_path / "c.jpg"])


def test_results_of_an_earlier_run(tmp_path: Path) -> None:
    truth = make_truth(true_photo("a.jpg", (A, "happy")), true_photo("b.jpg", (A, "happy")))
    rows = [make_reading("b.jpg", [said(A, "happy")]), make_reading("a.jpg", width=None, height=None, error="damaged")]
    (tmp_path / "results.jsonl").write_text(
        "".join(json.dumps(r.to_dict()) + "\n" for r in [*rows, make_reading("c.jpg")])
    )
    setting = read_setting(tmp_path, truth)
    assert [reading.source for reading in setting.readings] == ["a.jpg", "b.jpg"]
    assert evaluate(truth, [setting], resamples=5)[0].total.correct == 1
    check_same_classifier(setting, BrightnessClassifier())
    with pytest.raises(UsageError, match="was made with m, not with brightness@"):
        check_same_classifier(Setting("s", "d", "m", []), BrightnessClassifier())


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([], r"1 of 1 photos of truth.json are not in it: a.jpg"),
        ([make_reading("a.jpg", width=100)], "a.jpg: 100 x 100 pixels, but the truth was made on 200 x 100"),
        ([make_reading("a.jpg", [FaceReading(A, 0.5, {"joy": 1.0})])], "line 1: expected a face of schema"),
    ],
)
def test_results_that_do_not_fit_the_truth(tmp_path: Path, rows: list[Any], message: str) -> None:
    (tmp_path / "results.jsonl").write_text("".join(json.dumps(row.to_dict()) + "\n" for row in rows))
    with pytest.raises(DataError) as caught:
        read_setting(tmp_path, make_truth(true_photo("a.jpg", (A, "happy"))))
    assert message in str(caught.value)


@pytest.fixture
def mosaic(tmp_path: Path) -> Path:
    save_photo(tmp_path / "truth" / "images" / "a.jpg", 200, 100)
    save_coco(
        tmp_path / "truth" / "annotations.json", coco([{"bbox": [0, 0, 40, 40], "attributes": {"emotion": "happy"}}])
    )
    return tmp_path / "truth"


def test_the_command(mosaic: Path, tmp_path: Path) -> None:
    weights = tiny_classifier(tmp_path / "tiny.onnx")
    options = ["evaluate", "--truth", str(mosaic), "--emotion", str(weights)]
    found = make_reading("a.jpg", [said(A, "happy")])
    (tmp_path / "results.jsonl").write_text(json.dumps(found.to_dict()))
    both = [*options, "--detector", "haar", "--predictions", str(tmp_path / "results.jsonl"), "--json"]
    result = runner.invoke(app, both)
    assert result.exit_code == 0, result.output
    figures = json.loads(result.stdout)
    assert [s["total"]["correct"] for s in figures["settings"]] == [1, 0]
    assert figures["settings"][1]["gain"]["value"] == -1
    named = runner.invoke(app, [*options, "--detector", "haar", "haar", "--json"])
    assert [s["setting"] for s in json.loads(named.stdout)["settings"]] == ["haar", "haar"]
    text = runner.invoke(app, [*options, "--detector", "haar", "--report", str(tmp_path / "report")])
    assert text.exit_code == 0, text.output
    assert text.stdout.startswith("1 photos, 1 faces\n\nhaar (haar, tiny@")
    names = {"evaluation.json", "evaluation.txt", "by_size.png", "losses.png", "confusion.png", "curves.png"}
    assert {path.name for path in (tmp_path / "report").iterdir()} == names
    assert (tmp_path / "report" / "evaluation.txt").read_text() == text.stdout


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--truth", "gone.json"], "error: gone.json: cannot be read: No such file or directory\n"),
        (["--truth-crop", "square"], "error: --truth-crop square: expected one of haar"),
        (["--photos", "elsewhere"], "1 of 1 photos are not in elsewhere: a.jpg"),
        (["--predictions", "gone"], "error: gone: cannot be read"),
    ],
)
def test_errors_of_the_command(mosaic: Path, tmp_path: Path, options: list[str], message: str) -> None:
    weights = tiny_classifier(tmp_path / "tiny.onnx")
    result = runner.invoke(
        app, ["evaluate", "--truth", str(mosaic), "--emotion", str(weights), "--detector", "haar", *options]
    )
    assert result.exit_code == 2
    assert message in result.stderr
    assert "Traceback" not in result.stderr
