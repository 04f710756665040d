"""The training loop: resuming is exact, settings and data are checked, recipes do what they say."""

from __future__ import annotations

import dataclasses
import json
import math
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from typer.testing import CliRunner

from emotion import EMOTIONS, ConfigError, DataError
from emotion.baseline import fit_baseline
from emotion.checkpoint import load_checkpoint
from emotion.cli import app
from emotion.config import TrainConfig
from emotion.data import load_fer2013
from emotion.data.augment import Augmentation
from emotion.distributed import Team
from emotion.errors import TrainingDiverged
from emotion.presets import KERAS, PRESETS
from emotion.run import TrainState
from emotion.train import learning_rate, train
from tests.emotion.factories import FERPLUS, make_split, write_votes, write_zip
from tests.emotion.test_muon import stepped

TINY = dataclasses.replace(KERAS, model="mini_xception", epochs=3, batch_size=7, augmentation=Augmentation())
DEFAULT = TrainConfig(epochs=2, batch_size=7, size_schedule=((0.0, 24), (0.5, 28)), eval_size=28)
MUON = dataclasses.replace(TINY, model="fer_resnet", optimiser="muon", ema_decay=0.5, size_schedule=((0.0, 24),))


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    splits = {"train": make_split(3, 1), "public": make_split(2, 2)}
    return write_zip(tmp_path_factory.mktemp("data") / "archive.zip", splits)


@pytest.fixture(scope="module")
def votes(data: Path) -> Path:
    names: list[str] = []
    winners: list[str] = []
    for split in ("train", "public"):
        loaded = load_fer2013(data, split)
        names += loaded.names
        winners += [FERPLUS[k] for k in loaded.labels]
    return write_votes(data.parent / "votes.csv", tuple(names), winners)


def weights_of(run: Path) -> dict[str, torch.Tensor]:
    saved = torch.load(run / "last.pt", weights_only=True)
    return {**saved["model"], **{f"averaged.{k}": v for k, v in saved.get("averaged", {}).items()}}


def in_two_processes(*words: str | Path) -> subprocess.CompletedProcess[str]:
    """torchrun with a script or -m and a module, and what they are told."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2", *map(str, words)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(__file__).resolve().parents[2])}
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


class Killed(Exception):
    """Stands for the end of the process."""


@pytest.mark.parametrize(("config", "kill_at"), [(TINY, (2, 3)), (TINY, (2, 1)), (DEFAULT, (2, 2)), (MUON, (2, 2))])
def test_a_killed_run_resumes_to_the_same_weights(
    data: Path, votes: Path, tmp_path: Path, config: TrainConfig, kill_at: tuple[int, int]
) -> None:
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    train(config, data, whole, ferplus=votes)
    epochs: list[int] = [1]

    def stop(step: int, steps: int) -> None:
        if (epochs[-1], step) == kill_at:
            raise Killed
        if step == steps:
            epochs.append(epochs[-1] + 1)

    with pytest.raises(Killed):
        train(config, data, killed, ferplus=votes, progress=stop)
    # A line of an epoch whose state was not saved, as a kill between the two writes leaves it.
    with (killed / "log.jsonl").open("a") as log:
        log.write('{"epoch": 2}\n')
    train(config, data, killed, ferplus=votes, resume=True)
    expected, found = weights_of(whole), weights_of(killed)
    assert expected.keys() == found.keys()
    assert all(torch.equal(expected[key], found[key]) for key in expected)
    logs = [[json.loads(t) for t in (run / "log.jsonl").read_text().splitlines()] for run in (whole, killed)]
    for lines in logs:
        for line in lines:
            assert line.pop("seconds") > 0
    assert logs[0] == logs[1]
    best = [torch.load(run / "best.pt", weights_only=True) for run in (whole, killed)]
    assert all(torch.equal(best[0]["network"][key], best[1]["network"][key]) for key in best[0]["network"])
    assert best[0]["metadata"]["metrics"]["epoch"] == best[1]["metadata"]["metrics"]["epoch"]


def test_a_run_learns_and_its_best_checkpoint_loads(data: Path, tmp_path: Path) -> None:
    config = dataclasses.replace(KERAS, model="cnn1", epochs=12, batch_size=7, select="accuracy", schedule="constant")
    lines: list[dict[str, Any]] = []
    best = train(dataclasses.replace(config, early_stopping=0), data, tmp_path / "run", report=lines.append)
    assert lines[-1]["best"] > 0.8
    checkpoint = load_checkpoint(best)
    assert checkpoint.card.labels == EMOTIONS
    assert (checkpoint.card.input_size, checkpoint.card.view) == (48, 1.0)
    public = load_fer2013(data, "public")
    accuracy = float((checkpoint.logits(public.images).argmax(1) == public.labels).mean())
    assert accuracy == pytest.approx(lines[-1]["best"])


def test_a_checkpoint_for_every_fall_of_the_loss(data: Path, tmp_path: Path) -> None:
    config = dataclasses.replace(KERAS, model="cnn1", epochs=4, batch_size=7)
    lines: list[dict[str, Any]] = []
    train(config, data, tmp_path / "run", report=lines.append)
    lowest, expected = math.inf, []
    for line in lines:
        if line["public_loss"] < lowest:
            lowest = line["public_loss"]
            expected.append(f"epoch-{line['epoch']:03d}-accuracy-{line['public_accuracy']:.4f}.pt")
    assert sorted(p.name for p in (tmp_path / "run").glob("epoch-*.pt")) == expected
    assert torch.load(tmp_path / "run" / "best.pt", weights_only=True)["metadata"]["metrics"]["public_loss"] == lowest


def test_four_classes(data: Path, tmp_path: Path) -> None:
    classes = ("happy", "sad", "surprise", "neutral")
    best = train(dataclasses.replace(TINY, epochs=1, batch_size=4, classes=classes), data, tmp_path / "run")
    assert load_checkpoint(best).card.labels == classes


@pytest.mark.parametrize("labels", ["ferplus", "ferplus-majority", "ferplus-both"])
def test_ferplus_labels_report_ferplus_accuracy(data: Path, votes: Path, tmp_path: Path, labels: str) -> None:
    lines: list[dict[str, Any]] = []
    config = dataclasses.replace(TINY, epochs=1, labels=labels)
    train(config, data, tmp_path / "run", ferplus=votes, report=lines.append)
    assert 0 <= lines[0]["ferplus_accuracy"] <= 1
    assert lines[0]["best"] == lines[0]["ferplus_accuracy"]


def test_ferplus_runs_name_and_print_the_accuracy_that_chooses(data: Path, tmp_path: Path) -> None:
    names = (*load_fer2013(data, "train").names, *load_fer2013(data, "public").names)
    votes = write_votes(tmp_path / "votes.csv", names, ["anger"] * len(names))
    words = ["train", "--data", str(data), "--ferplus", str(votes), "-o", str(tmp_path / "run"), "--labels", "ferplus"]
    result = CliRunner().invoke(app, [*words, "--model", "cnn1", "--epochs", "1", "--batch-size", "7", "--lr", "0.01"])
    assert result.exit_code == 0, result.output
    assert "PublicTest by FER+ 1.0000, best 1.0000" in result.stderr
    assert (tmp_path / "run" / "epoch-001-accuracy-1.0000.pt").is_file()


FAULTS: list[tuple[dict[str, Any], str]] = [
    ({"model": "resnet"}, "model 'resnet': expected one of knn, mlp"),
    ({"epochs": 0}, "epochs 0: expected at least 1"),
    ({"batch_size": 1}, "batch_size 1: expected at least 2"),
    ({"lr": 0.0}, "lr 0.0: expected more than 0"),
    ({"label_smoothing": 1.0}, "label_smoothing 1.0: expected 0 to below 1"),
    ({"ema_decay": 1.0}, "ema_decay 1.0: expected 0 to below 1"),
    ({"precision": "half"}, "precision 'half': expected one of auto, float32, bfloat16"),
    ({"size_schedule": ((0.5, 32),)}, "expected (0.0, size) first and sizes of 24 px or more"),
    ({"size_schedule": ()}, "size_schedule (): expected (0.0, size) first and sizes of 24 px or more"),
    ({"augmentation": Augmentation(blur=math.nan)}, "'blur': nan, 'gamma': 0.0, 'jpeg': 0.0}: expected ranges of 0 or"),
    ({"augmentation": Augmentation(flip=1.5)}, "expected shares of the images, 0 to 1, as flip, low_resolution, erase"),
    ({"plateau_patience": 0}, "plateau_patience 0: expected 1 or more epochs"),
    ({"classes": ("happy", "glad")}, "classes happy, glad: expected two or more different names"),
    ({"labels": "votes"}, "labels 'votes': expected one of fer2013, ferplus"),
    ({"labels": "ferplus"}, "need the FER+ votes file"),
    ({"model": "knn"}, "model 'knn' is fitted in one go"),
    ({"ferplus_weight": -1.0}, "ferplus_weight -1.0: expected 0 or more"),
    ({"optimiser": "rmsprop"}, "optimiser 'rmsprop': expected one of adamw, sgd, adam, muon"),
    ({"model": "vgg16", "optimiser": "muon"}, "optimiser muon: vgg16 has no convolution with a norm after it"),
    ({"free_upper_at": 1}, "free_upper_at 1: mini_xception has no frozen part"),
    ({"free_upper_at": 3}, "free_upper_at 3: expected 0 or more, below epochs 3, or the upper part never learns"),
    ({"free_upper_at": -1}, "free_upper_at -1: expected 0 or more"),
    ({"weight_decay": -0.1}, "weight_decay -0.1: expected 0 (none) or more"),
    ({"warmup_epochs": -1.0}, "warmup_epochs -1.0: expected 0 (none) or more"),
    ({"clip_norm": -5.0}, "clip_norm -5.0: expected 0 (no clipping) or more"),
    ({"seed": -1}, "seed -1: expected 0 to 4294967295"),
    ({"model": "cnn1", "size_schedule": ((0.0, 32),)}, "size 32: cnn1 does not take faces of 32 px: expected 48 px"),
    ({"model": "simple_cnn", "eval_size": 40}, "size 40: simple_cnn does not take faces of 40 px: expected 48 px"),
]


@pytest.mark.parametrize(("change", "message"), FAULTS)
def test_settings_that_cannot_work(data: Path, tmp_path: Path, change: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as raised:
        train(dataclasses.replace(TINY, **change), data, tmp_path / "run")
    assert message in str(raised.value)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("batch_size", [2, 4, 7])
def test_every_process_has_two_images_of_a_batch(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, batch_size: int
) -> None:
    """Of one image, batch norms after pooling have no deviation."""
    monkeypatch.setattr("emotion.train.join_team", lambda: Team(size=3 if batch_size == 4 else 2))
    message = f"^batch_size {batch_size}: expected a multiple of . processes, of two images each or more$"
    with pytest.raises(ConfigError, match=message):
        train(dataclasses.replace(TINY, batch_size=batch_size), data, tmp_path / "run")


def test_all_faults_come_together(data: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as raised:
        train(dataclasses.replace(TINY, lr=-1, epochs=0), data, tmp_path / "run")
    assert len(raised.value.faults) == 2


def test_a_second_head_needs_features(data: Path, votes: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="mini_xception has no features for a second head: expected 0"):
        train(dataclasses.replace(TINY, ferplus_weight=0.5), data, tmp_path / "run", ferplus=votes)


def test_other_counts_than_the_official_ones_are_told(
    data: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    train(dataclasses.replace(TINY, epochs=1), data, tmp_path / "run")
    assert [record.getMessage() for record in caplog.records] == [
        "note: split 'train' has 21 images; the official FER-2013 has 28,709",
        "note: split 'public' has 14 images; the official FER-2013 has 3,589",
        f"note: {data} has no PrivateTest: what Training shares with it, some 280 images of the whole set, is learnt",
    ]


def test_too_few_images_and_no_images_of_a_class(data: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="21 images to train on, fewer than one batch of 64"):
        train(dataclasses.replace(TINY, batch_size=64), data, tmp_path / "run")


def test_a_loss_that_is_not_finite_stops_the_run(data: Path, tmp_path: Path) -> None:
    with pytest.raises(TrainingDiverged, match=r"epoch 1, step \d: loss (nan|inf): try a lower rate"):
        train(dataclasses.replace(TINY, lr=1e30), data, tmp_path / "run")


def test_plateau_and_early_stopping() -> None:
    config = dataclasses.replace(KERAS, early_stopping=5)
    state = TrainState()
    factors, stops = [], []
    for loss in [2.0, 1.0, 1.1, 1.1, 1.1, 1.1, 1.1]:
        state = state.after(config, score=0.5, loss=loss)
        factors.append(state.lr_factor)
        stops.append(state.finished(config))
    assert factors == pytest.approx([1, 1, 1, 1, 0.1, 0.1, 0.1])
    assert stops == [False] * 6 + [True]


def test_a_new_phase_begins_with_new_patience() -> None:
    config = dataclasses.replace(PRESETS["resnet50_partial"], epochs=12, free_upper_at=6)
    state = TrainState()
    states = []
    for _ in range(12):
        state = state.after(config, score=0.5, loss=1.0)
        states.append(state)
    assert not states[5].finished(config)
    assert (states[5].epochs_without_fall, states[5].lr_factor) == (5, pytest.approx(0.1))
    assert (states[6].epochs_without_fall, states[6].lr_factor) == (1, 1.0)
    assert next(s.epoch for s in states if s.finished(config)) == 11


def test_learning_rates() -> None:
    config = TrainConfig(epochs=10, warmup_epochs=1, lr=1.0)
    rates = [learning_rate(config, epoch) for epoch in (0, 1, 5.5, 10)]
    assert rates == pytest.approx([0.01 / 1.01, 1.0, 0.5, 0.0], abs=1e-6)
    assert learning_rate(dataclasses.replace(config, schedule="plateau"), 9) == 1.0


def test_the_upper_part_is_freed_in_time(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    freed: list[int] = []
    from emotion.models.imagenet import ImageNetClassifier

    original = ImageNetClassifier.free_upper

    def note(self: ImageNetClassifier) -> None:
        freed.append(1)
        original(self)

    monkeypatch.setattr(ImageNetClassifier, "free_upper", note)
    config = dataclasses.replace(
        PRESETS["resnet50_partial"], epochs=3, free_upper_at=2, weights="none", batch_size=21, keep_falls=False
    )
    train(config, data, tmp_path / "run")
    assert len(freed) == 1


def test_baseline(data: Path, tmp_path: Path) -> None:
    result = fit_baseline(PRESETS["knn"], data, tmp_path / "run")
    assert result.accuracy > 0.6
    assert json.loads((tmp_path / "run" / "log.jsonl").read_text())["public_accuracy"] == result.accuracy
    with pytest.raises(ConfigError, match="model 'cnn1': expected one of knn, mlp"):
        fit_baseline(PRESETS["cnn1"], data)


def test_a_baseline_takes_no_settings_that_it_does_not_have_and_no_folder_of_a_run(data: Path, tmp_path: Path) -> None:
    given = dataclasses.replace(PRESETS["knn"], classes=("happy", "glad"), labels="ferplus", epochs=0)
    with pytest.raises(ConfigError) as raised:
        fit_baseline(given, data, tmp_path / "run")
    for text in ("classes happy, glad: expected two", "epochs 0: expected", "labels 'ferplus': knn has no such"):
        assert text in str(raised.value)
    train(dataclasses.replace(TINY, epochs=1), data, tmp_path / "run")
    with pytest.raises(ConfigError, match="holds a run already: choose another folder"):
        fit_baseline(PRESETS["knn"], data, tmp_path / "run")
    fit_baseline(PRESETS["knn"], data, tmp_path / "knn")
    for resume, message in [(False, "holds a run already"), (True, "model 'mini_xception': the run in .* has 'knn'")]:
        with pytest.raises(ConfigError, match=message):
            train(TINY, data, tmp_path / "knn", resume=resume)


def test_mixed_precision_trains_and_keeps_float32_weights(data: Path, tmp_path: Path) -> None:
    config = dataclasses.replace(TINY, epochs=1, precision="bfloat16")
    train(config, data, tmp_path / "half")
    train(dataclasses.replace(config, precision="float32"), data, tmp_path / "full")
    half, full = weights_of(tmp_path / "half"), weights_of(tmp_path / "full")
    floats = {value.dtype for value in half.values() if value.is_floating_point()}
    assert floats == {torch.float32}
    assert any(not torch.equal(half[key], full[key]) for key in half)
    assert all(torch.isfinite(value).all() for value in half.values())


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a CUDA device")
def test_a_device_that_is_not_there(data: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="device cuda: this machine has none; expected auto or cpu"):
        train(dataclasses.replace(TINY, device="cuda"), data, tmp_path / "run")


@pytest.mark.slow
def test_two_processes_share_muons_work_and_take_its_steps(tmp_path: Path) -> None:
    """The team's weights after two steps are those of one process with the same gradients."""
    program = (
        "import sys, torch; from pathlib import Path; from emotion.distributed import join_team; "
        "from tests.emotion.test_muon import stepped; team = join_team(); "
        "torch.save(stepped(team), Path(sys.argv[1]) / f'{team.rank}.pt')"
    )
    (tmp_path / "steps.py").write_text(program)
    done = in_two_processes(tmp_path / "steps.py", tmp_path)
    assert done.returncode == 0, done.stderr
    alone, first, second = (stepped(Team()), *(torch.load(tmp_path / f"{rank}.pt") for rank in (0, 1)))
    for found in zip(alone, first, second, strict=True):
        assert torch.equal(found[1], found[2])
        assert torch.allclose(found[0], found[1], atol=1e-6)


@pytest.mark.slow
def test_two_processes_train_one_run_and_resume_it(data: Path, tmp_path: Path) -> None:
    program = (
        "import dataclasses, sys; from pathlib import Path; from emotion.presets import PRESETS; "
        "from emotion.train import train; "
        "c = dataclasses.replace(PRESETS['mini_xception'], epochs=2, batch_size=6); "
        "train(c, *map(Path, sys.argv[1:3]), report=lambda line: sys.exit(3))"
    )
    script = tmp_path / "one_epoch.py"
    script.write_text(program)
    training = ["-m", "emotion", "train", "--model", "mini_xception", "--epochs", "2", "--batch-size", "6", "--resume"]
    whole, stopped = tmp_path / "whole", tmp_path / "stopped"
    done = in_two_processes(*training, "--data", data, "--out", whole)
    assert done.returncode == 0, done.stderr
    assert in_two_processes(script, data, stopped).returncode != 0
    assert len((stopped / "log.jsonl").read_text().splitlines()) == 1
    done = in_two_processes(*training, "--data", data, "--out", stopped)
    assert done.returncode == 0, done.stderr
    assert len((stopped / "log.jsonl").read_text().splitlines()) == 2
    expected, found = weights_of(whole), weights_of(stopped)
    assert all(torch.equal(expected[key], found[key]) for key in expected)
    assert load_checkpoint(stopped).card.name == "mini_xception"
