"""Distillation: soft targets of trained networks; and mixup."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from emotion import EMOTIONS, ConfigError, WeightsError, load_classifier
from emotion.batches import Batch, draw_batch, mixup
from emotion.checkpoint import load_checkpoint
from emotion.cli import app
from emotion.data import FerSplit
from emotion.presets import KERAS, PLAIN
from emotion.targets import training_set
from emotion.train import train
from emotion.views import probabilities
from tests.emotion.factories import make_split, write_checkpoint, write_onnx, write_votes, write_zip

TINY = dataclasses.replace(KERAS, model="mini_xception", epochs=1, batch_size=7, keep_falls=False)
SPLIT = make_split(2)


@pytest.fixture(scope="module")
def teacher(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_onnx(tmp_path_factory.mktemp("teacher") / "linear.onnx", temperature=2.0)


def test_targets_are_the_labels_and_the_mean_of_the_teachers(teacher: Path, tmp_path: Path) -> None:
    second = write_onnx(tmp_path / "second.onnx", tuple(reversed(EMOTIONS)), temperature=5.0)
    config = dataclasses.replace(TINY, teacher=(str(teacher), str(second)), distill_weight=0.25)
    learned = training_set(SPLIT, config, None)
    shares = []
    for path, temperature, order in ((teacher, 2.0, slice(None)), (second, 5.0, slice(None, None, -1))):
        logits = load_classifier(path).logits(SPLIT.images, test_time="flip")[:, order]
        shares.append(probabilities(logits, temperature=temperature))
    expected = 0.75 * np.eye(7, dtype=np.float32)[SPLIT.labels] + 0.25 * np.mean(shares, axis=0)
    assert np.abs(learned.targets.numpy() - expected).max() < 1e-6
    assert learned.teachers == (load_classifier(teacher).identity, load_classifier(second).identity)
    assert torch.equal(learned.labels, torch.from_numpy(SPLIT.labels))


def test_four_classes_take_their_share_of_a_teacher_of_seven(teacher: Path) -> None:
    classes = ("sad", "happy")
    config = dataclasses.replace(TINY, classes=classes, teacher=(str(teacher),), distill_weight=1.0)
    learned = training_set(SPLIT, config, None)
    assert learned.targets.shape == (4, 2)
    assert torch.allclose(learned.targets.sum(1), torch.ones(4))
    assert torch.equal(learned.targets.argmax(1), learned.labels)


def test_a_teacher_that_does_not_know_a_class(tmp_path: Path) -> None:
    four = write_onnx(tmp_path / "four.onnx", ("happy", "sad", "neutral", "surprise"))
    with pytest.raises(WeightsError, match=r"four\.onnx: knows happy, sad, .*: expected also angry, disgust, fear"):
        training_set(SPLIT, dataclasses.replace(TINY, teacher=(str(four),)), None)
    with pytest.raises(WeightsError, match="nosuch: no such classifier"):
        training_set(SPLIT, dataclasses.replace(TINY, teacher=("nosuch",)), None)


def test_votes_teach_which_label_such_images_have(tmp_path: Path) -> None:
    """Nine of ten voters say fear; FER-2013 calls two of three such images fear and the third sad."""
    names = tuple(f"{i}.png" for i in range(60))
    labels = np.array([EMOTIONS.index(("fear", "fear", "sad")[i % 3] if i < 30 else "happy") for i in range(60)])
    split = FerSplit(np.zeros((60, 48, 48), np.uint8), labels, names)
    votes = write_votes(tmp_path / "votes.csv", names[:-1], ["fear"] * 30 + ["happiness"] * 29)
    config = dataclasses.replace(TINY, teacher=("ferplus",), distill_weight=1.0)
    learned = training_set(split, config, votes)
    assert learned.teachers == ("ferplus",)
    assert torch.allclose(learned.targets.sum(1), torch.ones(60))
    assert learned.targets[0, EMOTIONS.index("fear")] == pytest.approx(2 / 3, abs=0.03)
    assert learned.targets[0, EMOTIONS.index("sad")] == pytest.approx(1 / 3, abs=0.03)
    assert learned.targets[-2, EMOTIONS.index("happy")] > 0.95
    assert learned.targets[-1, EMOTIONS.index("happy")] == 1  # without votes


def test_votes_of_one_label_teach_that_label(tmp_path: Path) -> None:
    split = make_split(1).subset(np.arange(7) == 3)
    votes = write_votes(tmp_path / "votes.csv", split.names, ["fear"])
    learned = training_set(split, dataclasses.replace(TINY, teacher=("ferplus",), distill_weight=1.0), votes)
    assert learned.targets.argmax(1).tolist() == split.labels.tolist()


def test_the_votes_teach_only_where_they_are(tmp_path: Path) -> None:
    data = write_zip(tmp_path / "archive.zip", {"train": make_split(2, 1), "public": make_split(1, 2)})
    with pytest.raises(ConfigError, match=r"the teacher ferplus need the FER\+ votes file"):
        train(dataclasses.replace(TINY, teacher=("ferplus",)), data, tmp_path / "run")


def test_a_run_learns_from_an_onnx_file_and_a_checkpoint(teacher: Path, tmp_path: Path) -> None:
    data = write_zip(tmp_path / "archive.zip", {"train": make_split(2, 1), "public": make_split(1, 2)})
    network = write_checkpoint(tmp_path / "run", "mini_xception").parent
    words = ["train", "--data", str(data), "-o", str(tmp_path / "out"), "--model", "mini_xception", "--epochs", "1"]
    words += ["--batch-size", "7", "--teacher", str(teacher), "--teacher", str(network), "--distill-weight", "0.9"]
    result = CliRunner().invoke(app, words)
    assert result.exit_code == 0, result.output
    config = json.loads((tmp_path / "out" / "config.json").read_text())
    assert (config["teacher"], config["distill_weight"]) == ([str(teacher), str(network)], 0.9)
    told = load_checkpoint(tmp_path / "out").card.training["config"]["teacher"]
    assert told == [load_classifier(teacher).identity, load_checkpoint(network).identity]
    assert CliRunner().invoke(app, [*words, "--resume"]).exit_code == 0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"distill_weight": 0.0}, "distill_weight 0.0: expected a share in (0, 1]"),
        ({"mixup": -0.1}, "mixup -0.1: expected 0 (none) or more"),
        ({"augmentation": dataclasses.replace(PLAIN, shift=-1)}, "expected ranges of 0 or more"),
        ({"eval_size": 8}, "eval_size 8: expected 24 px or more, or None"),
        ({"size_schedule": ((0.0, 40), (1.0, 48))}, "each from a later fraction below 1"),
    ],
)
def test_settings_that_cannot_work(tmp_path: Path, change: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError) as raised:
        train(dataclasses.replace(TINY, **change), tmp_path, tmp_path / "run")  # type: ignore[arg-type]
    assert message in str(raised.value)


def batch_of(n: int) -> Batch:
    labels = torch.arange(n) % 7
    return Batch(torch.rand(n, 1, 4, 4), labels, torch.eye(8)[labels], labels)


def test_mixup_blends_images_targets_and_votes_alike() -> None:
    batch = batch_of(50)
    config = dataclasses.replace(TINY, mixup=1.0)
    mixed = mixup(batch, config, torch.Generator().manual_seed(0))
    share = mixed.targets.gather(1, mixed.labels[:, None])[:, 0]
    assert torch.equal(mixed.labels, batch.labels)
    assert share.min() >= 0.5 - 1e-6
    assert ((share > 0.55) & (share < 0.95)).sum() > 10
    assert torch.allclose(mixed.targets.sum(1), torch.ones(50))
    assert torch.allclose(mixed.votes[:, :7], mixed.targets)
    for i in (share < 0.9).nonzero()[:, 0]:
        partner = [
            j
            for j in range(50)
            if torch.allclose(mixed.images[i], share[i] * batch.images[i] + (1 - share[i]) * batch.images[j])
        ]
        assert [int(batch.labels[j]) for j in partner] == [int(mixed.targets[i].argsort()[-2])]
    again = mixup(batch, config, torch.Generator().manual_seed(0))
    assert torch.equal(mixed.images, again.images)


def test_without_mixup_a_batch_is_what_was_drawn() -> None:
    learned = training_set(SPLIT, TINY, None)
    chosen = torch.tensor([3, 0, 5])
    batch = draw_batch(learned, chosen, 48, config=TINY, rng=torch.Generator().manual_seed(0))
    assert torch.allclose(batch.images, learned.images[chosen].float() / 255, atol=1e-5)
    assert torch.equal(batch.targets, learned.targets[chosen])
    assert torch.equal(batch.labels, learned.labels[chosen])


def test_a_run_with_mixup_class_weights_and_a_second_head(tmp_path: Path) -> None:
    data = write_zip(tmp_path / "archive.zip", {"train": make_split(2, 1), "public": make_split(1, 2)})
    lines: list[dict[str, float]] = []
    train(dataclasses.replace(TINY, mixup=0.2, balance="weights"), data, tmp_path / "run", report=lines.append)
    assert 0 < lines[0]["train_loss"] < 10
