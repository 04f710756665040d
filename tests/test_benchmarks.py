"""Benchmarks that decide something: what they decide follows from the figures by the rule that they state."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import cv2
import numpy as np
import pytest

from pipeline.crops import CropRule
from tests.pipeline.factories import BrightnessClassifier, tiny_classifier

BENCHMARKS = Path(__file__).resolve().parents[1] / "benchmarks"


@pytest.fixture(scope="module")
def face_size() -> ModuleType:
    spec = importlib.util.spec_from_file_location("face_size", BENCHMARKS / "face_size.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    ("accuracies", "limit"),
    [
        ([0.6] * 10, 6),
        ([0.2] * 9 + [0.6], 48),
        ([0.2, 0.3, 0.3, 0.3, 0.41, 0.45, 0.5, 0.55, 0.6, 0.6], 14),
        ([0.6, 0.6, 0.6, 0.39, 0.41, 0.45, 0.5, 0.55, 0.6, 0.6], 14),
    ],
)
def test_the_limit_keeps_half_of_the_gain_from_there_on(
    face_size: ModuleType, accuracies: list[float], limit: int
) -> None:
    assert face_size.legible_px(accuracies, 0.2) == limit


def test_faces_are_seen_as_small_as_asked(face_size: ModuleType) -> None:
    faces = np.zeros((4, 48, 48), np.uint8)
    faces[:, ::2] = 250  # stripes: their average is the middle grey, which the classifier calls happy, column 3
    classifier = BrightnessClassifier()
    labels = np.array([3, 3, 3, 0])
    assert face_size.accuracy_at(faces, labels, classifier, side=12, how=CropRule()) == 0.75
    crop = classifier.calls[0][0]
    assert (crop.shape, int(crop.min()), int(crop.max())) == ((48, 48), 125, 125)


def test_the_command(face_size: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rng = np.random.default_rng(0)
    images = [cv2.resize(rng.integers(0, 256, (4, 4), dtype=np.uint8), (48, 48)) for _ in range(10)]
    rows = [f"{i % 5},{' '.join(map(str, image.ravel()))},PublicTest" for i, image in enumerate(images)]
    (tmp_path / "fer2013.csv").write_text("\n".join(["emotion,pixels,Usage", *rows]) + "\n")
    weights = tiny_classifier(tmp_path / "tiny.onnx")
    words = [str(tmp_path / "fer2013.csv"), "--emotion", str(weights), "--resampling", "linear", "nearest"]
    assert face_size.main(face_size.parse(words)) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("tiny@")
    assert "10 faces of `public`; always naming the commonest emotion is right on 20.0 %." in lines[0]
    assert lines[2] == "| face, px | linear | nearest |"
    assert len([line for line in lines if line.endswith(" % |")]) == len(face_size.SIZES_PX)
    assert lines[-1].startswith("MIN_LEGIBLE_PX = ")
    assert face_size.main(face_size.parse([str(tmp_path / "missing.csv")])) == 2
    assert capsys.readouterr().err.startswith("error: ")
