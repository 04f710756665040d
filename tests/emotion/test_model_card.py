"""`emotion card`: every split, shipped names, new folders, and sections that people wrote."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from emotion import load_classifier, robustness
from emotion.cli import app
from emotion.data import load_fer2013
from emotion.evaluate import evaluate, predict
from emotion.model_card import BY_HAND, model_card, write_card
from tests.emotion.factories import make_split, write_onnx, write_zip

RUNNER = CliRunner()


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    splits = {"train": make_split(2, 1), "public": make_split(3, 2), "private": make_split(2, 3)}
    return write_zip(tmp_path_factory.mktemp("data") / "archive.zip", splits)


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(robustness, "robustness", lambda classifier, split: [])


def card(*words: Any) -> str:
    result = RUNNER.invoke(app, ["card", *map(str, words)])
    assert result.exit_code == 0, result.output
    return Path(words[-1]).read_text()


def test_a_shipped_name_and_a_new_folder(data: Path, tmp_path: Path) -> None:
    text = card("default", "--data", data, "-o", tmp_path / "new" / "folder" / "card.md")
    assert text.startswith("# default@")
    assert re.search(r"^- architecture: fer_resnet\w*, \d+\.\d MB, ", text, re.MULTILINE)


def test_a_folder_as_output_is_refused(data: Path, tmp_path: Path) -> None:
    result = RUNNER.invoke(app, ["card", "default", "--data", str(data), "-o", str(tmp_path)])
    assert result.exit_code == 2
    assert "directory" in result.stderr


def test_the_text_is_of_the_model_and_the_split(data: Path, tmp_path: Path) -> None:
    four = write_onnx(tmp_path / "four.onnx", ("happy", "sad", "neutral", "fear"), temperature=2.0)
    text = card(four, "--data", data, "--split", "private", "-o", tmp_path / "card.md")
    assert "Four expressions of a face: happy, sad, neutral, fear." in text
    figures = evaluate(predict(load_classifier(four), load_fer2013(data, "private")), "any", split="private")
    calibration = f"calibration error on PrivateTest {figures.ece_before:.4f} before, {figures.ece_after:.4f} after\n"
    assert f"- temperature 2.000, fitted on PublicTest; {calibration}" in text
    plain = write_onnx(tmp_path / "plain.onnx")
    text = card(plain, "--data", data, "--split", "train", "-o", tmp_path / "train.md")
    assert "- temperature 1, not fitted; calibration error on Training " in text
    assert "duplicates |" not in text
    assert "nan" not in text


def test_on_the_split_of_its_fit_the_calibration_is_cross_fitted(data: Path, tmp_path: Path) -> None:
    classifier = load_classifier(write_onnx(tmp_path / "linear.onnx", temperature=2.0))
    figures = evaluate(predict(classifier, load_fer2013(data, "public")), "any", split="public")
    figures = dataclasses.replace(figures, ece_before=0.25)
    text = model_card(classifier, figures, [], megabytes=1, ms=1, ece_crossed=0.125)
    assert "fitted on PublicTest; calibration error on PublicTest 0.2500 before, 0.1250 after (5-fold)" in text


@pytest.mark.parametrize(
    ("earlier", "kept"),
    [
        (None, ""),
        ("# old\n\nfigures\n", ""),
        ("# old\n\n## Recipe and state\n\nthree runs\n", "\n## Recipe and state\n\nthree runs\n"),
        (f"# old\n{BY_HAND}\n\nmirrored\n\n## Recipe and state\n", "\nmirrored\n\n## Recipe and state\n"),
    ],
)
def test_sections_that_people_wrote_stay(tmp_path: Path, earlier: str | None, kept: str) -> None:
    path = tmp_path / "card.md"
    if earlier is not None:
        path.write_text(earlier)
    for _ in range(2):
        write_card(path, "# new\n")
        assert path.read_text() == f"# new\n\n{BY_HAND}\n{kept}"
    assert [p.name for p in tmp_path.iterdir()] == ["card.md"]
