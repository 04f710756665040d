"""The command `emotion`: output for people and machines, and errors without tracebacks."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from emotion.cli import app
from emotion.models import MODELS
from tests.emotion.factories import make_split, write_checkpoint, write_onnx, write_zip

RUNNER = CliRunner()


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    splits = {"train": make_split(2, 1), "public": make_split(3, 2)}
    return write_zip(tmp_path_factory.mktemp("data") / "archive.zip", splits)


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_onnx(tmp_path_factory.mktemp("weights") / "linear.onnx")


def test_evaluate_prints_json(data: Path, weights: Path, tmp_path: Path) -> None:
    arguments = ["evaluate", "--data", str(data), "--weights", str(weights), "--json", "--report", str(tmp_path / "r")]
    result = RUNNER.invoke(app, arguments)
    assert result.exit_code == 0, result.output
    figures = json.loads(result.stdout)
    assert (figures["accuracy"], figures["images"], figures["duplicates"]) == (1.0, 21, 0)
    assert "note: split 'public' has 21 images; the official FER-2013 has 3,589" in result.stderr
    assert (tmp_path / "r" / "index.html").exists()


def test_evaluate_prints_tables(data: Path, weights: Path) -> None:
    result = RUNNER.invoke(app, ["evaluate", "--data", str(data), "--weights", str(weights), "--test-time", "flip"])
    assert result.exit_code == 0, result.output
    for text in ("balanced accuracy", "surprise", "95 % interval", "predicted"):
        assert text in result.stdout


def test_compare_and_robustness(data: Path, weights: Path) -> None:
    result = RUNNER.invoke(app, ["compare", str(weights), str(weights), "--data", str(data), "--json"])
    assert [row["accuracy"] for row in json.loads(result.stdout)] == [1.0, 1.0]
    result = RUNNER.invoke(app, ["robustness", "--data", str(data), "--weights", str(weights)])
    assert "| none | 1.0000 | +0.0 points |" in result.stdout
    assert "| rotation by 15 degrees |" in result.stdout


def test_export_fits_the_temperature(data: Path, tmp_path: Path) -> None:
    run = write_checkpoint(tmp_path / "run").parent
    result = RUNNER.invoke(app, ["export", str(run), "-o", str(tmp_path / "net.onnx"), "--data", str(data)])
    assert result.exit_code == 0, result.output
    assert "temperature " in result.stdout
    assert "net.onnx: fer_resnet, " in result.stdout


def test_zoo_names_every_model() -> None:
    result = RUNNER.invoke(app, ["zoo"])
    assert [line.split()[0] for line in result.stdout.splitlines()] == list(MODELS)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["evaluate", "--data", "nowhere.zip", "--weights", "{weights}"], "error: nowhere.zip: no such file or folder"),
        (["evaluate", "--data", "{data}", "--weights", "nosuch"], "error: nosuch: no such classifier"),
        (["evaluate", "--data", "{data}", "--weights", "no/run.pt"], "error: no/run.pt: no such checkpoint"),
        (["evaluate", "--data", "{data}", "--weights", "{weights}", "--split", "private"], "no image of split"),
        (["evaluate", "--data", "{data}", "--weights", "{weights}", "--split", "test"], "error: unknown split 'test'"),
        (["evaluate", "--data", "{data}", "--weights", "{weights}", "--test-time", "all"], "expected one of none"),
        (["export", "nowhere", "-o", "x.onnx"], "error: nowhere: no such checkpoint"),
        (["evaluate"], "Missing option '--data'"),
        (["nosuchcommand"], "No such command"),
    ],
)
def test_user_errors_exit_with_two(data: Path, weights: Path, arguments: list[str], message: str) -> None:
    filled = [a.format(data=data, weights=weights) for a in arguments]
    result = RUNNER.invoke(app, filled)
    assert result.exit_code == 2
    assert message in " ".join(result.stderr.split())
    assert "Traceback" not in result.output
