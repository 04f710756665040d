"""`emotion reproduce`: stopped runs, the page that keeps its figures, and what is refused before hours of training."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any, NoReturn

import pytest
import torch
from typer.testing import CliRunner

from emotion import EMOTIONS, ConfigError
from emotion.cli import app
from emotion.curve import read_log
from emotion.presets import PRESETS
from emotion.reproduce import BEGIN, END, Reproduction, check, markdown_table, read_results, reproduce, write_page
from emotion.train import train
from tests.emotion.factories import make_split, write_checkpoint, write_zip

RUNNER = CliRunner()
CONFIG = dataclasses.replace(PRESETS["simple_cnn"], epochs=3)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    splits = {"train": make_split(10, 1), "public": make_split(2, 2)}
    return write_zip(tmp_path_factory.mktemp("data") / "archive.zip", splits)


def stop(*told: Any) -> NoReturn:
    raise KeyboardInterrupt


def test_a_run_that_was_stopped_in_its_first_epoch_is_no_row(data: Path, tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        train(CONFIG, data, tmp_path / "simple_cnn", progress=stop)
    assert (tmp_path / "simple_cnn" / "log.jsonl").read_text() == ""
    assert read_results(tmp_path) == []


def test_a_stopped_run_tells_its_best_checkpoint_and_goes_on(data: Path, tmp_path: Path) -> None:
    def stop_after_two(line: dict[str, Any]) -> None:
        if line["epoch"] == 2:
            stop()

    run = tmp_path / "simple_cnn"
    with pytest.raises(KeyboardInterrupt):
        train(CONFIG, data, run, report=stop_after_two)
    kept = min(read_log(run), key=lambda line: float(line["public_loss"]))["public_accuracy"]
    (result,) = read_results(tmp_path)
    assert result == Reproduction("simple_cnn", kept, None, None, 2, stopped_of=3)
    assert "| - | stopped after 2 of 3 epochs |" in markdown_table([result])
    (result,) = reproduce(["simple_cnn"], data, tmp_path, epochs=3)
    assert (result.epochs, result.stopped_of) == (3, None)
    assert result.binary is not None
    assert read_results(tmp_path) == [result]


def test_a_finished_run_is_only_read(data: Path, tmp_path: Path) -> None:
    (first,) = reproduce(["simple_cnn"], data, tmp_path, epochs=1)
    run = tmp_path / "simple_cnn"
    (run / "last.pt").unlink()

    def trained(*told: Any) -> NoReturn:
        pytest.fail("trained again")

    before = {path.name: path.read_bytes() for path in run.iterdir()}
    assert reproduce(["simple_cnn"], data, tmp_path, epochs=1, report=trained) == [first]
    assert {path.name: path.read_bytes() for path in run.iterdir()} == before
    (run / "evaluation.json").unlink()
    with pytest.raises(ConfigError, match=r"last\.pt is missing: cannot resume"):
        reproduce(["simple_cnn"], data, tmp_path, epochs=1, report=trained)


@pytest.mark.parametrize(
    ("name", "changes", "told"),
    [
        ("simple_cnn", {"epochs": 2, "seed": 1, "device": "cpu", "precision": "float32"}, ""),
        ("simple_cnn", {"model": "cnn1"}, "model"),
        ("simple_cnn", {"batch_size": 7, "classes": EMOTIONS[2:]}, "batch_size, classes"),
        ("cnn1", {"model": "cnn1"}, "classes"),
        ("simple_cnn", {"weights": "earlier/last.pt"}, "weights"),
        ("resnet18", {"model": "resnet18", "weights": "none"}, ""),
    ],
)
def test_a_run_of_other_settings_is_no_row(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, name: str, changes: dict[str, Any], told: str
) -> None:
    run = write_checkpoint(tmp_path / name).parent
    settings = {**dataclasses.asdict(CONFIG), **changes}
    del settings["mixup"], settings["augmentation"]["blur"]  # as an early run has them
    (run / "config.json").write_text(json.dumps(settings))
    (run / "log.jsonl").write_text(json.dumps({"epoch": 1, "public_accuracy": 0.5, "public_loss": 1.0}) + "\n")
    saved = torch.load(run / "best.pt", weights_only=True)
    saved["metadata"]["metrics"]["public_accuracy"] = 0.5
    torch.save(saved, run / "best.pt")
    check(["knn"], tmp_path, tmp_path / "page.md")
    assert [result.model for result in read_results(tmp_path)] == ([] if told else [name])
    notes = [f"note: {run} is no row of the table: the recipe has another {told}"] if told else []
    assert [record.getMessage() for record in caplog.records] == notes


def test_a_damaged_log_is_told_before_training_and_none_of_a_foreign_run(data: Path, tmp_path: Path) -> None:
    run, page = tmp_path / "runs" / "mlp", tmp_path / "page.md"
    run.mkdir(parents=True)
    words = ["reproduce", "--data", str(data), "--runs", str(run.parent), "--page", str(page), "--models", "knn"]
    (run / "config.json").write_text(json.dumps(dataclasses.asdict(PRESETS["mlp"])))
    for line, fault in [("{", "damaged line: Expecting"), ("{}", "damaged line: expected epoch and public_accuracy")]:
        (run / "log.jsonl").write_text(line)
        result = RUNNER.invoke(app, words)
        assert (result.exit_code, f"log.jsonl:1: {fault}" in result.stderr) == (2, True), result.output
        assert not (run.parent / "knn").exists()
    (run / "config.json").write_text(json.dumps(dataclasses.asdict(CONFIG)))
    result = RUNNER.invoke(app, words)
    assert result.exit_code == 0, result.output
    assert "| `mlp` | 22.8 % | not trained yet |" in page.read_text()


def test_a_page_keeps_figures_that_no_run_is_there_for(tmp_path: Path) -> None:
    page = tmp_path / "docs" / "page.md"
    measured = Reproduction("cnn1", 0.695, 0.854, 0.608, 41)
    write_page(page, [measured, Reproduction("cnn2", 0.5, None, None, 2, stopped_of=50)])
    before = page.read_text()
    write_page(page, [])
    assert page.read_text() == before
    write_page(page, [dataclasses.replace(measured, accuracy=0.3, epochs=1, stopped_of=50)])
    assert page.read_text() == before
    write_page(page, [dataclasses.replace(measured, accuracy=0.7), Reproduction("cnn2", 0.6, 0.9, 0.5, 50)])
    assert "| `cnn1` | 64 % (another set, 4 classes) | 70.0 % |" in page.read_text()
    assert "| `cnn2` | 72 % (another set, 4 classes) | 60.0 % |" in page.read_text()
    assert "stopped after" not in page.read_text()
    assert [path.name for path in page.parent.iterdir()] == ["page.md"]


def test_a_difference_between_two_splits_is_told() -> None:
    table = markdown_table(
        [Reproduction("inception_v3", 0.65, 0.9, 0.5, 12), Reproduction("vgg16", 0.45, 0.9, 0.5, 12)]
    )
    assert "| 65.0 % | -1.3 points, of another split |" in table
    assert "| 45.0 % | +1.2 points |" in table


def test_a_random_start_instead_of_imagenet_is_told_in_the_row(data: Path, tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        reproduce(["resnet18"], data, tmp_path, epochs=2, weights="none", report=stop)
    table = markdown_table(read_results(tmp_path))
    assert "| stopped after 1 of 2 epochs | Ours began at random, theirs with ImageNet's weights." in table


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--models", "knn,typo"], "model 'typo': expected one of knn, mlp"),
        (["--models", "knn", "--page", "{page}"], f"expected the lines {BEGIN} and {END} around the table"),
        (["--models", "knn", "--page", "{folder}"], "expected a Markdown file"),
        (["--models", "knn,cnn1", "--epochs", "0"], "cnn1: epochs 0: expected at least 1"),
        (["--models", "knn,resnet18", "--weights", "imagnet"], "weights 'imagnet': expected imagenet or none"),
    ],
)
def test_nothing_is_trained_before_all_is_checked(data: Path, tmp_path: Path, words: list[str], message: str) -> None:
    (tmp_path / "page.md").write_text(f"{END}\n{BEGIN}\n")
    filled = [word.format(page=tmp_path / "page.md", folder=tmp_path) for word in words]
    words = ["reproduce", "--data", str(data), "--runs", str(tmp_path / "runs"), "--page", str(tmp_path / "new.md")]
    result = RUNNER.invoke(app, [*words, *filled])
    assert result.exit_code == 2, result.output
    assert message in result.stderr
    assert not (tmp_path / "runs").exists()


def test_a_run_of_other_settings_is_told_before_the_first_one_trains(data: Path, tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        train(CONFIG, data, tmp_path / "simple_cnn", report=stop)
    with pytest.raises(ConfigError, match=r"simple_cnn: epochs 5: the run in .* has 3, and resumes"):
        reproduce(["knn", "simple_cnn"], data, tmp_path, epochs=5)
    assert not (tmp_path / "knn").exists()


def test_a_partly_frozen_network_is_freed_in_time_with_other_epochs(data: Path, tmp_path: Path) -> None:
    words = ["train", "--data", str(data), "-o", str(tmp_path / "run"), "--model", "resnet50_partial", "--epochs", "20"]
    result = RUNNER.invoke(app, words)
    assert result.exit_code == 2
    assert "free_upper_at 20: expected 0 or more, below epochs 20, or the upper part never learns" in result.stderr
