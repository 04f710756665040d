"""The command `emotion`: output for people and machines, and errors without tracebacks."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from emotion.cli import app
from emotion.models import MODELS
from emotion.reproduce import BEGIN, END, Reproduction, markdown_table
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
    hot = RUNNER.invoke(
        app, ["evaluate", "--data", str(data), "--weights", str(weights), "--temperature", "9", "--json"]
    )
    assert json.loads(hot.stdout)["temperature"] == 9
    assert json.loads(hot.stdout)["accuracy"] == 1
    assert result.exit_code == 0, result.output
    for text in ("balanced accuracy", "surprise", "95 % interval", "predicted"):
        assert text in result.stdout


def test_evaluate_tells_the_views_that_were_averaged(data: Path, weights: Path, tmp_path: Path) -> None:
    """Five crops of a network that sees the whole face would all be the same."""
    whole = write_onnx(tmp_path / "whole.onnx", size=48)
    for path, views in ((weights, "ten"), (whole, "flip")):
        words = ["evaluate", "--data", str(data), "--weights", str(path), "--test-time", "ten", "--json"]
        assert json.loads(RUNNER.invoke(app, words).stdout)["test_time"] == views


def test_compare_and_robustness(data: Path, weights: Path) -> None:
    result = RUNNER.invoke(app, ["compare", str(weights), str(weights), "--data", str(data), "--json"])
    assert [row["accuracy"] for row in json.loads(result.stdout)] == [1.0, 1.0]
    narrow = RUNNER.invoke(app, ["compare", str(weights), "--data", str(data)], env={"COLUMNS": "80"})
    assert "│ 1.0000-1.0000 │" in narrow.stdout
    result = RUNNER.invoke(app, ["robustness", "--data", str(data), "--weights", str(weights)])
    assert "| none | 1.0000 | +0.0 points |" in result.stdout
    assert "| rotation by 15 degrees |" in result.stdout


def test_export_fits_the_temperature(data: Path, tmp_path: Path) -> None:
    run = write_checkpoint(tmp_path / "run").parent
    result = RUNNER.invoke(app, ["export", str(run), "-o", str(tmp_path / "net.onnx"), "--data", str(data)])
    assert result.exit_code == 0, result.output
    assert "temperature " in result.stdout
    assert "net.onnx: fer_resnet, " in result.stdout
    assert "not fitted" not in result.stdout
    result = RUNNER.invoke(app, ["export", str(run), "-o", str(tmp_path / "raw.onnx")])
    assert "MB; temperature 1, not fitted: --data fits it" in result.stdout


def test_export_tells_of_a_size_before_it_measures(data: Path, tmp_path: Path) -> None:
    run = write_checkpoint(tmp_path / "run", "cnn1").parent
    words = ["export", str(run), "-o", str(tmp_path / "net.onnx"), "--data", str(data), "--input-size", "24"]
    result = RUNNER.invoke(app, words)
    assert (result.exit_code, "error: size 24: cnn1 does not take faces of 24 px" in result.stderr) == (2, True)


def test_files_that_cannot_be_had_are_one_line(data: Path, weights: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    words = ["evaluate", "--data", str(data), "--weights", str(weights), "--report", str(tmp_path / "file" / "r")]
    result = RUNNER.invoke(app, words)
    assert result.exit_code == 2
    assert f"error: {tmp_path / 'file' / 'r'}" in result.stderr
    assert result.stderr.rstrip().endswith("Not a directory")


def test_help_needs_no_torch() -> None:
    program = "import sys, emotion.cli; print([m for m in ('torch', 'sklearn', 'matplotlib') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_zoo_names_every_model() -> None:
    result = RUNNER.invoke(app, ["zoo"])
    assert [line.split()[0] for line in result.stdout.splitlines()] == list(MODELS)


def test_summary_counts_parameters() -> None:
    result = RUNNER.invoke(app, ["summary", "cnn1", "--classes", "4"])
    assert "605,060 parameters, 605,060 of them trainable" in result.stdout
    assert "64x48x48" in result.stdout
    assert "231,207 parameters, 231,207 of them trainable" in RUNNER.invoke(app, ["summary", "mlp"]).stdout
    assert "0 parameters, 0 of them trainable" in RUNNER.invoke(app, ["summary", "knn"]).stdout
    result = RUNNER.invoke(app, ["summary", "typo"])
    assert result.exit_code == 2
    assert "model 'typo': expected one of knn, mlp, simple_cnn" in result.stderr


def test_train_evaluate_and_resume(data: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    arguments = ["train", "--data", str(data), "-o", str(run), "--model", "mini_xception", "--epochs", "1"]
    arguments += ["--batch-size", "7", "--classes", "happy,sad, surprise,neutral"]
    result = RUNNER.invoke(app, arguments)
    assert result.exit_code == 0, result.output
    assert f"best checkpoint: {run / 'best.pt'}" in result.stdout
    assert "epoch 1 of 1: loss" in result.stderr
    assert (run / "curve.png").read_bytes().startswith(b"\x89PNG")
    assert json.loads((run / "config.json").read_text())["classes"] == ["happy", "sad", "surprise", "neutral"]
    result = RUNNER.invoke(app, ["evaluate", "--data", str(data), "--weights", str(run), "--json"])
    assert json.loads(result.stdout)["images"] == 12
    result = RUNNER.invoke(app, arguments)
    assert result.exit_code == 2
    assert "holds a run already" in result.stderr
    assert RUNNER.invoke(app, [*arguments, "--resume"]).exit_code == 0


def test_train_names_faults_and_leaves_out_the_second_head(data: Path, tmp_path: Path) -> None:
    common = ["train", "--data", str(data), "-o", str(tmp_path / "run")]
    result = RUNNER.invoke(app, [*common, "--model", "resnet"])
    assert (result.exit_code, "model 'resnet': expected one of" in result.stderr) == (2, True)
    result = RUNNER.invoke(app, [*common, "--epochs", "0"])
    assert result.exit_code == 2
    assert "the recipe's second head, which learns the FER+ votes, is left out" in result.stderr
    assert "error: epochs 0: expected at least 1" in result.stderr
    result = RUNNER.invoke(app, [*common, "--model", "knn"])
    assert result.exit_code == 0, result.output
    assert "knn: PublicTest accuracy" in result.stdout


def test_reproduce_writes_the_table(data: Path, tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(f"before\n{BEGIN}\nstale\n{END}\nafter\n")
    common = ["reproduce", "--data", str(data), "--runs", str(tmp_path / "runs"), "--page", str(page)]
    result = RUNNER.invoke(app, [*common, "--models", "knn"])
    assert result.exit_code == 0, result.output
    text = page.read_text()
    assert text.startswith("before\n")
    assert text.endswith("after\n")
    assert "stale" not in text
    assert re.search(r"\| `knn` \| 31.5 % \| \d+\.\d % \| [+-]\d+\.\d points \|", text)
    assert "| `vgg16` | 43.8 % | not trained yet |" in text
    result = RUNNER.invoke(app, [*common, "--models", "fer_resnet"])
    assert (result.exit_code, "model 'fer_resnet': expected one of knn" in result.stderr) == (2, True)


def test_card_tells_what_was_measured(data: Path, tmp_path: Path) -> None:
    config = {"lr": 0.1, "weights": "earlier/last.pt@0a1b", "teacher": [], "distill_weight": 0.5, "mixup": 0.0}
    told = {"config": config, "metrics": {"train_images": 14}, "averaged": ["a/best.pt@12", "b.pt@34"], "share": 0.3}
    weights = write_onnx(tmp_path / "linear.onnx", training=told)
    out = tmp_path / "card.md"
    result = RUNNER.invoke(app, ["card", str(weights), "--data", str(data), "-o", str(out)])
    assert result.exit_code == 0, result.output
    text = out.read_text()
    mean = "mean of a/best.pt@12 and, with the share 0.3, b.pt@34; the first: "
    assert f"the run: {mean}lr 0.1, weights earlier/last.pt@0a1b\n" in text
    for part in ("# linear@", "| accuracy | 1.0000 |", "| JPEG quality 30 |", "ms per face on one thread"):
        assert part in text


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
        (
            ["train", "--data", "{data}", "-o", "nowhere", "--model", "knn", "--ferplus", "no.csv"],
            "error: --ferplus no.csv: knn learns no FER+ votes",
        ),
        (["summary", "cnn2", "--classes", "-1"], "Invalid value for '--classes'"),
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


def test_a_four_class_figure_compares_with_nothing() -> None:
    table = markdown_table([Reproduction("cnn1", 0.5, 0.9, 0.4, 12), Reproduction("simple_cnn", 0.5, None, None, 3)])
    assert "| `cnn1` | 64 % (another set, 4 classes) | 50.0 % | not comparable | 90.0 % (0.400) | 12 |" in table
    assert "| `simple_cnn` | 54.8 % | 50.0 % | -4.8 points | - | 3 |" in table
