"""The seam is found: a detector whose boxes are off in a known way gets the rule that undoes it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import pytest
from typer.testing import CliRunner

import emotion
import facedet
from pipeline.calibrate import Calibration, Sample, calibrate, collect, geometric_rule
from pipeline.cli import app
from pipeline.crops import CropRule, crop_faces
from pipeline.errors import DataError
from pipeline.truth import Truth
from tests.pipeline.factories import grey_image, tiny_classifier
from tests.pipeline.truths import coco, make_truth, save_coco, true_photo

SIDE = 48
PATTERN = cv2.resize(np.random.default_rng(5).uniform(0, 255, (5, 5)), (SIDE, SIDE)).astype(np.uint8)
LEFTS, TOPS = (60, 180, 300), (70, 200)


class OffDetector:
    """Knows where the patterns are, and boxes them 0.8 sides wide, 1.2 sides high and 0.1 sides too far up."""

    name = "off"

    def detect(self, images: Sequence[npt.NDArray[np.uint8]]) -> list[facedet.Faces]:
        half = np.array([-0.4, -0.6, 0.4, 0.6]) * SIDE
        centres = [(x + SIDE / 2, y + 0.4 * SIDE) for x in LEFTS for y in TOPS]
        boxes = np.array([[x, y, x, y] for x, y in centres]) + half
        return [facedet.Faces.from_raw(boxes, np.full(len(boxes), 0.9), (i.shape[1], i.shape[0])) for i in images]


class PatternClassifier:
    """The nearer a crop is to the pattern, the surer it says happy; else fear."""

    identity = "pattern@0123456789ab"

    def classify(self, crops: Sequence[npt.NDArray[np.uint8]]) -> emotion.Expressions:
        rows = np.zeros((len(crops), 7), np.float32)
        for row, crop in zip(rows, crops, strict=True):
            row[3] = np.clip(1 - np.abs(crop.astype(float) - PATTERN).mean() / 30, 0.01, 0.99)
            row[2] = 1 - row[3]
        return emotion.Expressions(rows)


@pytest.fixture
def crowd(tmp_path: Path) -> tuple[Truth, list[Path]]:
    photo = grey_image(400, 300, 128)
    squares = [(float(x), float(y), float(x + SIDE), float(y + SIDE)) for x in LEFTS for y in TOPS]
    for x1, y1, x2, y2 in squares:
        photo[int(y1) : int(y2), int(x1) : int(x2)] = PATTERN[..., None]
    names = [f"{i}.png" for i in range(8)]
    for name in names:
        cv2.imwrite(str(tmp_path / name), photo)
    photos = [true_photo(name, *((s, "happy") for s in squares), width=400, height=300) for name in names]
    return make_truth(*photos), [tmp_path / name for name in names]


def test_the_rule_that_undoes_the_fault_is_found(crowd: tuple[Truth, list[Path]]) -> None:
    samples = collect(OffDetector(), *crowd)
    assert len(samples) == 48
    found = calibrate(samples, PatternClassifier(), "off")
    assert (found.fitted_on, found.validated_on) == (24, 24)
    assert found.rule == CropRule("mean", pytest.approx(1.0, abs=0.01), pytest.approx(0.1, abs=0.02))
    trials = {trial.name: trial for trial in found.trials}
    assert trials["box as it comes"].accuracy == 0
    assert trials["fitted"].accuracy == 1
    assert (trials["fitted"].gain.value, trials["fitted"].gain.low) == (1, 1)
    assert trials["true squares"].log_loss <= trials["fitted"].log_loss
    text = found.to_text()
    assert text.startswith("off, pattern@0123456789ab: fitted on 24 faces, checked on 24\n")
    assert text.endswith(f'"off": {found.rule!r},')


@pytest.mark.parametrize(
    ("side", "scale", "shift"), [("mean", 1.0, 0.1), ("width", 1.25, 0.1), ("height", 0.833, 0.1), ("min", 1.25, 0.1)]
)
def test_geometry_by_hand(crowd: tuple[Truth, list[Path]], side: str, scale: float, shift: float) -> None:
    rule, spread = geometric_rule(collect(OffDetector(), *crowd), side)  # type: ignore[arg-type]
    assert (rule.side, rule.scale, rule.shift_y) == (
        side,
        pytest.approx(scale, abs=0.002),
        pytest.approx(shift, abs=0.002),
    )
    assert spread == pytest.approx(0, abs=1e-5)


def test_a_sample_is_cut_as_the_photo_would_be(crowd: tuple[Truth, list[Path]], tmp_path: Path) -> None:
    """At the photo's border too: the patch ends where the photo ends."""
    photo = np.random.default_rng(0).integers(0, 255, (120, 160, 3)).astype(np.uint8)
    cv2.imwrite(str(tmp_path / "b.png"), photo)
    box = np.array([[2, 80, 42, 119]], np.float32)

    class Corner:
        name = "corner"

        def detect(self, images: Sequence[npt.NDArray[np.uint8]]) -> list[facedet.Faces]:
            return [facedet.Faces.from_raw(box, [0.9], (160, 120)) for _ in images]

    truth = make_truth(true_photo("b.png", ((2.0, 80.0, 42.0, 119.0), "sad"), width=160, height=120))
    (sample,) = collect(Corner(), truth, [tmp_path / "b.png"])
    assert isinstance(sample, Sample)
    for rule in (CropRule(), CropRule("max", 1.44, 0.16), CropRule("mean", 1.2, -0.1, "reflect")):
        (mine,) = crop_faces(sample.patch, sample.box_xyxy[None], rule=rule)
        (whole,) = crop_faces(photo, box, rule=rule)
        assert (mine == whole).all()


def test_too_few_faces(crowd: tuple[Truth, list[Path]]) -> None:
    samples = collect(OffDetector(), *crowd, limit=30)
    assert len(samples) == 30
    with pytest.raises(DataError, match="off found 30 of the true faces: too few to fit and check a crop rule on"):
        calibrate(samples, PatternClassifier(), "off")


def test_the_command_says_so_too(tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "a.jpg"), grey_image(200, 100))
    save_coco(tmp_path / "t.json", coco([{"bbox": [0, 0, 40, 40], "attributes": {"emotion": "happy"}}]))
    weights = tiny_classifier(tmp_path / "tiny.onnx")
    options = ["--truth", str(tmp_path / "t.json"), "--detector", "haar", "--emotion", str(weights)]
    result = CliRunner().invoke(app, ["calibrate", *options])
    assert (result.exit_code, result.stderr) == (
        2,
        "error: haar found 0 of the true faces: too few to fit and check a crop rule on\n",
    )


def test_json_of_a_calibration(crowd: tuple[Truth, list[Path]]) -> None:
    found: Calibration = calibrate(collect(OffDetector(), *crowd), PatternClassifier(), "off")
    data = json.loads(json.dumps(found.to_dict()))
    assert data["rule"]["side"] == "mean"
    assert next(trial["name"] for trial in data["trials"]) == "box as it comes"


class CoinClassifier:
    """Answers by chance, whatever the crop."""

    identity = "coin@0123456789ab"

    def __init__(self) -> None:
        self._rng = np.random.default_rng(1)

    def classify(self, crops: Sequence[npt.NDArray[np.uint8]]) -> emotion.Expressions:
        return emotion.Expressions(self._rng.dirichlet(np.ones(7), len(crops)).astype(np.float32))


def test_chance_does_not_move_the_rule(crowd: tuple[Truth, list[Path]]) -> None:
    found = calibrate(collect(OffDetector(), *crowd), CoinClassifier(), "off")
    assert found.rule == CropRule("mean", pytest.approx(1.0, abs=0.002), pytest.approx(0.1, abs=0.002))
