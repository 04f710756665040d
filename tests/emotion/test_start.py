"""Runs that go on from another run's weights, sizes that change within a run, and settings from a file."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import pytest
import torch
from typer.testing import CliRunner

from emotion import ConfigError, WeightsError, load_classifier
from emotion.checkpoint import Checkpoint, load_checkpoint
from emotion.cli import app
from emotion.config import TrainConfig
from emotion.config_file import read_settings
from emotion.data import load_fer2013
from emotion.data.augment import Augmentation
from emotion.export import export
from emotion.learner import build_learner
from emotion.presets import KERAS, KERAS_GENERATOR
from emotion.run import TrainState
from emotion.train import load_splits, measure, train
from tests.emotion.factories import make_split, write_checkpoint, write_onnx, write_votes, write_zip

TINY = dataclasses.replace(KERAS, model="mini_xception", epochs=1, batch_size=7, keep_falls=False)
SMALL = TrainConfig(epochs=1, batch_size=7, size_schedule=((0.0, 24),))


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    splits = {"train": make_split(3, 1), "public": make_split(2, 2)}
    return write_zip(tmp_path_factory.mktemp("data") / "archive.zip", splits)


@pytest.fixture(scope="module")
def earlier(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of fer_resnet with a second head."""
    run = tmp_path_factory.mktemp("runs") / "earlier"
    votes = votes_for(data, run.parent / "votes.csv")
    train(SMALL, data, run, ferplus=votes)
    return run


def votes_for(data: Path, path: Path) -> Path:
    names = load_fer2013(data, "train").names
    return write_votes(path, names, ["anger"] * len(names))


def same(found: dict[str, torch.Tensor], expected: dict[str, torch.Tensor]) -> bool:
    return found.keys() == expected.keys() and all(torch.equal(found[key], expected[key]) for key in expected)


def test_a_run_goes_on_from_last_pt_with_both_heads(earlier: Path) -> None:
    saved = torch.load(earlier / "last.pt", weights_only=True)
    learner = build_learner(dataclasses.replace(SMALL, weights=str(earlier / "last.pt"), seed=5))
    assert same(learner.model.state_dict(), saved["model"])
    assert same(learner.averaged.module.state_dict(), saved["model"])
    assert learner.averaged.n_averaged == 0
    assert learner.optimiser.state_dict()["state"] == {}
    digest = hashlib.sha256((earlier / "last.pt").read_bytes()).hexdigest()[:12]
    assert learner.started_from == f"earlier/last.pt@{digest}"


def test_best_pt_and_a_run_folder_bring_the_network_alone(earlier: Path) -> None:
    saved = torch.load(earlier / "best.pt", weights_only=True)
    plain = build_learner(dataclasses.replace(SMALL, seed=5))
    for weights in (earlier, earlier / "best.pt"):
        learner = build_learner(dataclasses.replace(SMALL, weights=str(weights), seed=5))
        assert same(learner.model.network.state_dict(), saved["network"])
        assert same(learner.model.auxiliary.state_dict(), plain.model.auxiliary.state_dict())


def test_a_head_that_the_run_does_not_want_is_left_out(earlier: Path) -> None:
    saved = torch.load(earlier / "last.pt", weights_only=True)["model"]
    learner = build_learner(dataclasses.replace(SMALL, weights=str(earlier / "last.pt"), ferplus_weight=0))
    assert same(learner.model.state_dict(), {k: v for k, v in saved.items() if not k.startswith("auxiliary.")})


def test_checkpoints_say_what_a_run_started_from_also_after_a_resume(data: Path, tmp_path: Path) -> None:
    train(TINY, data, tmp_path / "first")
    first = tmp_path / "first" / "last.pt"
    config = dataclasses.replace(TINY, epochs=2, weights=str(first))
    identity = build_learner(config).started_from

    class Killed(Exception):
        pass

    def kill(line: dict[str, Any]) -> None:
        raise Killed

    with pytest.raises(Killed):
        train(config, data, tmp_path / "second", report=kill)
    first.unlink()
    train(config, data, tmp_path / "second", resume=True)
    for name in ("best.pt", "last.pt"):
        metadata = torch.load(tmp_path / "second" / name, weights_only=True)["metadata"]
        assert metadata["config"]["weights"] == identity
    assert json.loads((tmp_path / "second" / "config.json").read_text())["weights"] == str(first)


def test_a_run_of_a_time_with_fewer_settings_resumes(data: Path, tmp_path: Path) -> None:
    train(TINY, data, tmp_path / "run")
    path = tmp_path / "run" / "config.json"
    config = json.loads(path.read_text())
    del config["mixup"], config["augmentation"]["blur"]
    path.write_text(json.dumps(config))
    train(TINY, data, tmp_path / "run", resume=True)
    other = dataclasses.replace(TINY, augmentation=Augmentation())
    with pytest.raises(ConfigError, match=r"augmentation .* resumes only with the same"):
        train(other, data, tmp_path / "run", resume=True)


def test_weights_that_do_not_fit_say_what_differs(data: Path, earlier: Path, tmp_path: Path) -> None:
    four = ("happy", "sad", "surprise", "neutral")

    def message(weights: Path, **changes: Any) -> str:
        with pytest.raises(WeightsError) as raised:
            train(dataclasses.replace(TINY, weights=str(weights), **changes), data, tmp_path / "run")
        assert not (tmp_path / "run").exists()
        return str(raised.value)

    text = message(earlier / "last.pt", model="fer_resnet", classes=four)
    assert f"{earlier / 'last.pt'}: does not fit this run: classes ['angry', 'disgust'" in text
    assert (
        "expected ['happy', 'sad', 'surprise', 'neutral']; network.head.weight is [7, 256]: expected [4, 256]" in text
    )
    text = message(earlier / "best.pt")
    assert "model fer_resnet: expected mini_xception; another architecture, without network.0.mean" in text
    assert "and with network.mean" in text
    text = message(earlier / "best.pt", model="fer_resnet_plain")
    assert "model fer_resnet: expected fer_resnet_plain; another architecture, with network.blocks.0.residual.5" in text
    wide = write_checkpoint(tmp_path / "wide", model="fer_resnet_wide")
    text = message(wide, model="fer_resnet")
    assert "model fer_resnet_wide: expected fer_resnet; network.stem.0.weight is [20, 1, 3, 3]: expected [16" in text
    swapped = ("disgust", "angry", "fear", "happy", "sad", "surprise", "neutral")
    assert "classes ['angry', 'disgust'" in message(write_checkpoint(tmp_path / "made"), classes=swapped)


def test_a_wider_network_starts_as_the_narrower_one(earlier: Path) -> None:
    torch.manual_seed(1)
    narrow = build_learner(dataclasses.replace(SMALL, weights=str(earlier / "last.pt"))).model
    saved = torch.load(earlier / "last.pt", weights_only=True)
    for name, value in narrow.named_parameters():  # as after a training: no norm that gives zero
        torch.nn.init.uniform_(value, 0.5, 1.5) if value.ndim == 1 else None
        saved["model"][name] = value.detach()
    path = earlier.parent / "varied.pt"
    torch.save(saved, path)
    settings = dataclasses.replace(SMALL, model="fer_resnet_wide", weights=str(path))
    faces = torch.rand(3, 1, 40, 40)
    with torch.inference_mode():
        expected = narrow.eval()(faces)
        for model in ("fer_resnet_wide", "fer_resnet_large"):
            wide = build_learner(dataclasses.replace(settings, model=model)).model.eval()
            for found, wanted in zip(wide(faces), expected, strict=True):
                torch.testing.assert_close(found, wanted, rtol=1e-3, atol=1e-4)
    weight = wide.network.head.weight
    assert len(torch.unique(weight, dim=1).T) == weight.shape[1], "copies are told apart, so that each learns its own"
    again = build_learner(dataclasses.replace(settings, model="fer_resnet_large")).model
    assert same(again.state_dict(), wide.state_dict())


def test_files_that_no_run_can_start_from(tmp_path: Path) -> None:
    def message(weights: Path | str) -> str:
        with pytest.raises(WeightsError) as raised:
            build_learner(dataclasses.replace(TINY, weights=str(weights)))
        return str(raised.value)

    assert "nothing: expected none, bundled, imagenet, a run folder or a .pt file of `emotion train`" in message(
        "nothing"
    )
    (tmp_path / "text.pt").write_text("text")
    assert "text.pt: damaged or no checkpoint" in message(tmp_path / "text.pt")
    (tmp_path / "text.onnx").write_text("text")
    assert "text.onnx: damaged or no ONNX file" in message(tmp_path / "text.onnx")
    assert "a.onnx: does not fit this run: model " in message(write_onnx(tmp_path / "a.onnx"))
    torch.save([1], tmp_path / "list.pt")
    assert "list.pt: expected a checkpoint of `emotion train`, got a list" in message(tmp_path / "list.pt")
    torch.save({"other": {}}, tmp_path / "other.pt")
    assert "with the entry network or model" in message(tmp_path / "other.pt")


def test_a_run_goes_on_from_an_exported_file(earlier: Path, tmp_path: Path) -> None:
    """float16 is what the file keeps: what it gives is exactly what is taken up."""
    for half in (True, False):
        export(earlier, tmp_path / "a.onnx", half=half)
        learner = build_learner(dataclasses.replace(SMALL, weights=str(tmp_path / "a.onnx"), ferplus_weight=0))
        faces = random_faces()
        taken = Checkpoint(learner.judged.eval(), load_checkpoint(earlier).card, "").logits(faces)
        np.testing.assert_allclose(taken, load_classifier(tmp_path / "a.onnx").logits(faces), atol=1e-4)
    assert same(learner.judged.state_dict(), load_checkpoint(earlier).network.state_dict() | counters(learner.judged))
    assert learner.started_from.startswith(f"{tmp_path.name}/a.onnx@")


def test_a_run_goes_on_from_what_is_shipped() -> None:
    learner = build_learner(TrainConfig(model="fer_resnet_wide", weights="bundled", ferplus_weight=0))
    faces = random_faces()
    shipped = load_classifier("default")
    found = Checkpoint(learner.judged.eval(), shipped.card, "").logits(faces)
    np.testing.assert_allclose(found, shipped.logits(faces), atol=1e-4)


def test_a_file_whose_norms_are_folded_away_is_refused(earlier: Path, tmp_path: Path) -> None:
    export(earlier, tmp_path / "a.onnx")
    model = onnx.load(tmp_path / "a.onnx")
    model.graph.initializer[0].name = "onnx::Conv_1"
    onnx.save(model, tmp_path / "folded.onnx")
    with pytest.raises(WeightsError, match=r"folded\.onnx: its norms are folded away"):
        build_learner(dataclasses.replace(SMALL, weights=str(tmp_path / "folded.onnx")))


def random_faces() -> npt.NDArray[np.uint8]:
    return np.random.default_rng(0).integers(0, 256, (5, 48, 48), np.uint8)


def counters(network: torch.nn.Module) -> dict[str, torch.Tensor]:
    """Of the batches that norms have seen; an exported file does not hold them."""
    return {name: value for name, value in network.state_dict().items() if name.endswith("num_batches_tracked")}


def test_every_epoch_is_measured_at_its_size_and_the_best_is_of_the_last(data: Path, tmp_path: Path) -> None:
    config = dataclasses.replace(
        TINY, epochs=4, size_schedule=((0.0, 40), (0.5, 48)), select="accuracy", lr=1e-6, schedule="constant"
    )
    lines: list[dict[str, Any]] = []
    best = train(config, data, tmp_path / "run", report=lines.append)
    assert [(line["size"], line["eval_size"]) for line in lines] == [(40, 40), (40, 40), (48, 48), (48, 48)]
    assert lines[1]["best"] == max(line["public_accuracy"] for line in lines[:2])
    assert lines[3]["best"] == max(line["public_accuracy"] for line in lines[2:])
    checkpoint = load_checkpoint(best)
    assert checkpoint.card.input_size == 48
    assert checkpoint.card.training["metrics"]["epoch"] >= 3
    assert checkpoint.card.training["metrics"]["public_accuracy"] == lines[3]["best"]
    again = measure(checkpoint.network, load_splits(config, data, None), config, epoch=3)
    assert again["public_accuracy"] == lines[3]["best"]


def test_the_best_of_another_size_is_forgotten() -> None:
    config = dataclasses.replace(TINY, epochs=4, size_schedule=((0.0, 40), (0.5, 48)), early_stopping=2)
    state = TrainState(started_from="x")
    seen = []
    for score, loss in [(0.9, 0.5), (0.8, 0.6), (0.3, 2.0), (0.2, 2.1)]:
        state = state.after(config, score=score, loss=loss)
        seen.append((state.best, state.best_loss, state.epochs_without_fall))
    assert seen == [(0.9, 0.5, 0), (0.9, 0.5, 1), (0.3, 2.0, 0), (0.3, 2.0, 1)]
    assert state.started_from == "x"
    fixed = dataclasses.replace(config, eval_size=48)
    assert TrainState(epoch=2, best=0.9, best_loss=0.5).after(fixed, score=0.3, loss=2.0).best == 0.9


def test_patience_ends_no_run_before_its_last_size() -> None:
    config = dataclasses.replace(TINY, epochs=10, size_schedule=((0.0, 40), (0.8, 48)), early_stopping=2)
    assert not TrainState(epoch=4, epochs_without_fall=4).finished(config)
    assert not TrainState(epoch=8, epochs_without_fall=8).finished(config)
    assert TrainState(epoch=10 - 1, epochs_without_fall=2).finished(config)
    assert (config.final_size, config.last_phase) == (48, 8)


def test_settings_of_a_file(tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    path.write_text(json.dumps(dataclasses.asdict(SMALL)))
    assert TrainConfig(**read_settings(path)) == SMALL
    path.write_text('{"lr": 1, "size_schedule": [[0, 40]], "augmentation": {"erase": 0.5}, "free_upper_at": null}')
    assert read_settings(path) == {
        "lr": 1, "size_schedule": ((0, 40),), "augmentation": Augmentation(erase=0.5), "free_upper_at": None
    }  # fmt: skip
    expected = dataclasses.replace(KERAS_GENERATOR, erase=0.5)
    assert read_settings(path, model="mini_xception")["augmentation"] == expected
    path.write_text('{"model": "mini_xception", "augmentation": {"erase": 0.5}}')
    assert read_settings(path)["augmentation"] == expected


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "cannot be read as JSON: [Errno 2]"),
        ("{", "cannot be read as JSON: Expecting property name"),
        ("[1]", "expected an object of settings, got list"),
        ('{"learning_rate": 1}', "unknown setting 'learning_rate': expected some of model, epochs,"),
        ('{"lr": "fast"}', "lr 'fast': expected float"),
        ('{"epochs": 1.5}', "epochs 1.5: expected int"),
        ('{"epochs": true}', "epochs True: expected int"),
        ('{"keep_falls": 1}', "keep_falls 1: expected bool"),
        ('{"size_schedule": [40]}', "size_schedule [40]: expected tuple[tuple[float, int], ...]"),
        ('{"size_schedule": [[0, "40"]]}', "expected tuple[tuple[float, int], ...]"),
        ('{"classes": "happy,sad"}', "classes 'happy,sad': expected tuple[str, ...]"),
        ('{"augmentation": {"turn": 1}}', "augmentation: unknown setting 'turn': expected some of rotation_degrees"),
        ('{"augmentation": "mild"}', "augmentation 'mild': expected Augmentation"),
    ],
)
def test_faults_of_a_settings_file(tmp_path: Path, content: str | None, message: str) -> None:
    path = tmp_path / "config.json"
    if content is not None:
        path.write_text(content)
    with pytest.raises(ConfigError) as raised:
        read_settings(path)
    assert str(raised.value).startswith(f"{path}: ")
    assert message in str(raised.value)


def test_one_command_names_the_whole_recipe(data: Path, earlier: Path, tmp_path: Path) -> None:
    votes = votes_for(data, tmp_path / "votes.csv")
    words = ["train", "--data", str(data), "--ferplus", str(votes), "--weights", str(earlier / "last.pt")]
    words += ["--epochs", "1", "--batch-size", "7", "--lr", "1.5e-3", "--size", "40", "--augmentation", "mild"]
    result = CliRunner().invoke(app, [*words, "-o", str(tmp_path / "a")])
    assert result.exit_code == 0, result.output
    config = json.loads((tmp_path / "a" / "config.json").read_text())
    assert (config["lr"], config["size_schedule"], config["eval_size"]) == (1.5e-3, [[0.0, 40]], None)
    assert config["augmentation"] == {
        "rotation_degrees": 6, "scale": 0.08, "shift": 0.05, "flip": 0.5, "contrast": 0.15, "brightness": 0.1,
        "low_resolution": 0.03, "erase": 0, "blur": 0, "gamma": 0, "jpeg": 0,
    }  # fmt: skip
    assert load_checkpoint(tmp_path / "a").card.input_size == 40
    words = ["train", "--data", str(data), "--ferplus", str(votes), "--config", str(tmp_path / "a" / "config.json")]
    result = CliRunner().invoke(app, [*words, "--seed", "1", "-o", str(tmp_path / "b")])
    assert result.exit_code == 0, result.output
    assert json.loads((tmp_path / "b" / "config.json").read_text()) == {**config, "seed": 1}
    result = CliRunner().invoke(app, [*words, "--augmentation", "wild", "-o", str(tmp_path / "c")])
    assert result.exit_code == 2
    assert "error: augmentation 'wild': expected one of none, mild, strong, seam" in result.stderr
