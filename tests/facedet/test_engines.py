"""Training of Faster R-CNN: settings, samples, runs that are killed and resumed, and two processes."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torchvision.ops import FrozenBatchNorm2d
from typer.testing import CliRunner

from facedet.checkpoint import read_checkpoint, save_checkpoint
from facedet.cli import app
from facedet.compact_run import initial_weights
from facedet.data.coco import FaceDataset, Photo
from facedet.detectors import load_detector
from facedet.engines import detectron2_engine, torchvision_engine
from facedet.engines.config import FasterRCNNConfig
from facedet.engines.distributed import Team
from facedet.engines.learner import Learner, empty_model
from facedet.engines.samples import Samples, change_light, whole_photo
from facedet.engines.torchvision_engine import Progress, train
from facedet.errors import ConfigError, DataError, MissingExtra, TrainingDiverged, WeightsError
from facedet.models.faster_rcnn import FASTER_RCNNS
from facedet.run import Run, plain, read_log
from tests.facedet.drawn_faces import drawn_dataset

TINY = FasterRCNNConfig(
    model="faster_rcnn_r18_fpn", weights="none", norm="gn", steps=4, batch_size=2, lr=0.002, warmup_steps=2,
    short_px=(64, 80), long_px=96, test_short_px=64, test_long_px=64, eval_every=2, log_every=1,
)  # fmt: skip


NORM_TYPES = {"bn": torch.nn.BatchNorm2d, "gn": torch.nn.GroupNorm, "frozen_bn": FrozenBatchNorm2d}


def tiny(**changes: Any) -> FasterRCNNConfig:
    return dataclasses.replace(TINY, **changes)


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> FaceDataset:
    return drawn_dataset(tmp_path_factory.mktemp("data"), photos=3, cells=1)


def test_all_faults_are_reported_at_once(photos: FaceDataset, tmp_path: Path) -> None:
    config = tiny(model="yolo", weights="absent.pth", lr=-1, short_px=(), clip_norm=-1, precision="int8", lr_drops=(2,))
    with pytest.raises(ConfigError) as caught:
        train(config, FaceDataset("none", tmp_path, ()), None, tmp_path / "run")
    text = " | ".join(caught.value.faults)
    assert tiny(seed=-1).faults() == ["seed -1: expected 0 to below 2**63"]
    for part in ("'yolo'", "absent.pth: no such file", "lr -1", "short_px []", "clip_norm -1", "int8", "lr_drops [2]"):
        assert part in text
    assert "no photos" in text
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("model", "weights", "norm", "used"),
    [
        ("faster_rcnn_x101_fpn", "coco", None, "frozen_bn"),
        ("faster_rcnn_x101_fpn", "coco", "gn", "gn"),
        ("faster_rcnn_r50_fpn", "none", None, "bn"),
        ("faster_rcnn_r18_fpn", "none", None, "bn"),
        ("faster_rcnn_compact_fpn", "bundled", None, "bn"),
    ],
)
def test_the_norm_that_is_asked_for_is_used(model: str, weights: str, norm: str | None, used: str) -> None:
    config = tiny(model=model, weights=weights, norm=norm, freeze_at=0)
    assert config.faults() == []
    with torch.device("meta"):
        network = empty_model(config)
    stem = next(m for m in network.modules() if isinstance(m, tuple(NORM_TYPES.values())))
    assert isinstance(stem, NORM_TYPES[used])
    assert config.about()["norm"] == used


def test_norms_that_cannot_be() -> None:
    assert "cannot learn from scratch" in tiny(model="faster_rcnn_x101_fpn", norm="frozen_bn").faults()[0]
    of_compact = tiny(model="faster_rcnn_compact_fpn", norm="gn").faults()
    assert of_compact == ["norm 'gn': faster_rcnn_compact_fpn has bn"]
    assert tiny().faults() == FasterRCNNConfig().faults() == []


def test_rate_warms_up_and_drops() -> None:
    config = tiny(steps=1000, lr=1.0, warmup_steps=100)
    rates = [config.rate(step) for step in (0, 50, 100, 699, 700, 899, 900)]
    assert rates == pytest.approx([0.001, 0.5005, 1, 1, 0.1, 0.1, 0.01])


@pytest.mark.parametrize(
    ("model", "weights", "fault"),
    [
        ("faster_rcnn_r18_fpn", "coco", "expected none, or a file: .pth, .pkl"),
        ("faster_rcnn_r18_fpn", "imagenet", "expected none, or a file: .pth, .pkl"),
        ("faster_rcnn_r50_fpn", "bundled", "expected coco, imagenet, none, or a file: .pth, .pkl"),
        ("faster_rcnn_compact_fpn", "coco", "expected bundled, none, or a file: .pth, .pkl, .onnx"),
    ],
)
def test_weights_that_there_are_none_of_for_a_model(model: str, weights: str, fault: str) -> None:
    assert tiny(model=model, weights=weights, norm=None).faults() == [f"weights {weights!r} for {model}: {fault}"]


def test_every_model_has_a_default_start_that_can_work(tmp_path: Path) -> None:
    words = ["train", "--data", str(tmp_path), "--out", str(tmp_path / "run"), "--model"]
    for model in FASTER_RCNNS:
        assert "expected a folder with annotations.json" in CliRunner().invoke(app, [*words, model]).stderr
    given = ["--engine", "detectron2", "--patience", "2", "--crop-px", "64"]
    refused = CliRunner().invoke(app, [*words, "yolo", "--size", "64", "--lr", "inf", "--steps", "0"]).stderr
    for part in ("--size: has no meaning", "model 'yolo'", "or compact", "lr inf: expected a number", "steps 0"):
        assert part in refused
    refused = CliRunner().invoke(app, [*words, "faster_rcnn_r18_fpn", *given]).stderr
    assert "--crop-px: has no meaning for the detectron2 engine; --patience: has no meaning for" in refused


def test_compact_does_not_train_in_several_processes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    result = CliRunner().invoke(app, ["train", "--data", str(tmp_path), "--out", "x", "--model", "compact"])
    assert (result.exit_code, "error: compact trains in one process" in result.stderr) == (2, True)


@pytest.mark.parametrize(("weights", "freeze_at", "expected"), [("coco", None, 2), ("none", None, 0), ("none", 3, 3)])
def test_frozen_stages(weights: str, freeze_at: int | None, expected: int) -> None:
    assert tiny(weights=weights, freeze_at=freeze_at).frozen_stages() == expected


def test_every_photo_once_per_epoch_and_equal_for_any_team(photos: FaceDataset) -> None:
    config = tiny(batch_size=6, short_px=(64,), flip=0, light=0)
    alone = Samples(photos.photos, config).of_step(5)
    shares = [Samples(photos.photos, config).of_step(5, rank=r, team_size=3) for r in range(3)]
    assert [len(s) for s in shares] == [2, 2, 2]
    for one, other in zip(alone, [sample for share in shares for sample in share], strict=True):
        assert torch.equal(one.image, other.image)
    assert len({s.image.numpy().tobytes() for s in alone[:3]}) == 3


def test_flip_moves_boxes_with_the_faces() -> None:
    image = np.zeros((64, 100, 3), np.uint8)
    image[10:30, 5:25] = 255
    photo = Photo(Path("x"), "x", 100, 64, np.array([[5, 10, 25, 30]], np.float32), np.zeros(1, np.bool_))
    for flip in (0.0, 1.0):
        config = tiny(short_px=(128,), long_px=400, flip=flip, light=0)
        sample = whole_photo(photo, image, config, np.random.default_rng(0))
        x1, y1, x2, y2 = sample.target["boxes"][0].round().int().tolist()
        inside = sample.image[0, y1 + 2 : y2 - 2, x1 + 2 : x2 - 2]
        assert (x2 - x1, y2 - y1) == (40, 40)
        assert (inside > 250).all()
        assert int((sample.image[0] > 127).sum()) == pytest.approx(1600, rel=0.05)


def test_tiny_and_marked_faces_are_ignored() -> None:
    boxes = np.array([[5, 10, 25, 30], [40, 40, 42, 42], [50, 10, 80, 40]], np.float32)
    photo = Photo(Path("x"), "x", 100, 64, boxes, np.array([False, False, True]))
    sample = whole_photo(photo, np.zeros((64, 100, 3), np.uint8), tiny(short_px=(64,)), np.random.default_rng(0))
    assert sample.target["ignore"].tolist() == [False, True, True]


def test_light() -> None:
    image = np.random.default_rng(0).integers(0, 256, (8, 8, 3), np.uint8)
    assert change_light(image, 0, np.random.default_rng(1)) is image
    changed = change_light(image, 0.5, np.random.default_rng(1))
    assert changed.shape == image.shape
    assert 3 < np.abs(changed.astype(int) - image).mean() < 100


def test_norms_have_no_weight_decay() -> None:
    model = empty_model(tiny(freeze_at=1))
    decayed, spared = Learner(model, tiny(freeze_at=1), Team()).optimiser.param_groups
    assert decayed["weight_decay"] > 0 == spared["weight_decay"]
    named = {id(p): n for n, p in model.named_parameters()}
    assert all(".norm." in named[id(p)] for p in spared["params"])
    assert not any(".norm." in named[id(p)] or ".stem." in named[id(p)] for p in decayed["params"])


def test_a_killed_run_resumes_exactly(photos: FaceDataset, tmp_path: Path) -> None:
    train(TINY, photos, photos, tmp_path / "whole")

    def kill(line: dict[str, Any]) -> None:
        if line["step"] == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(TINY, photos, photos, tmp_path / "cut", report=kill)
    assert read_checkpoint(tmp_path / "cut" / "model_last.pth").rest["progress"]["step"] == 2
    best = train(TINY, photos, photos, tmp_path / "cut", resume=True)
    whole, cut = (read_checkpoint(tmp_path / name / "model_last.pth") for name in ("whole", "cut"))
    for name, tensor in whole.tensors.items():
        assert torch.equal(tensor, cut.tensors[name]), name
    logs = [read_log(tmp_path / name / "log.jsonl") for name in ("whole", "cut")]
    whole_log, cut_log = ([(line["step"], line.get("loss"), line.get("AP")) for line in log] for log in logs)
    assert whole_log == cut_log
    assert {p.name for p in best.parent.iterdir()} == {
        "config.json", "curves.png", "log.jsonl", "model_best.pth", "model_last.pth", "tensorboard",
    }  # fmt: skip
    about = read_checkpoint(best).about
    assert about["config"]["steps"] == 4
    assert "AP" in about["metrics"]
    assert load_detector(best).name == "faster_rcnn_r18_fpn"
    with pytest.raises(ConfigError, match="holds a run already: resume it"):
        train(TINY, photos, photos, tmp_path / "cut")
    with pytest.raises(ConfigError, match=r"lr 0.1: the run in .* has 0.002"):
        train(tiny(lr=0.1), photos, photos, tmp_path / "cut", resume=True)


def test_a_photo_that_cannot_be_read_costs_no_step(photos: FaceDataset, tmp_path: Path) -> None:
    val = drawn_dataset(tmp_path / "val", photos=2, cells=1)
    whole = val.photos[1].path.read_bytes()
    val.photos[1].path.write_bytes(b"no image")
    with pytest.raises(DataError, match=r"1\.png: expected an image"):
        train(TINY, photos, val, tmp_path / "run")
    assert read_checkpoint(tmp_path / "run" / "model_last.pth").rest["progress"]["step"] == 2
    val.photos[1].path.write_bytes(whole)
    train(TINY, photos, val, tmp_path / "run", resume=True)
    log = read_log(tmp_path / "run" / "log.jsonl")
    assert [(line["step"], "AP" in line) for line in log] == [
        (1, False), (2, False), (2, True), (3, False), (4, False), (4, True)
    ]  # fmt: skip


def test_a_run_resumes_on_its_photos_only(photos: FaceDataset, tmp_path: Path) -> None:
    start = tmp_path / "start.pth"  # not needed to resume
    save_checkpoint(start, empty_model(TINY), about={})
    config, others = tiny(steps=1, weights=str(start)), dataclasses.replace(photos, photos=photos.photos[1:])
    train(config, photos, None, tmp_path / "run")
    start.unlink()
    with pytest.raises(ConfigError, match=r"^data '2 photos.*has '3 photos[^;]*; val '3 photos.*has '0 photos"):
        train(config, others, photos, tmp_path / "run", resume=True)
    moved = [dataclasses.replace(photo, path=tmp_path / photo.name) for photo in photos.photos]
    absent = dataclasses.replace(photos, photos=tuple(moved))
    with pytest.raises(ConfigError, match=r"3 of 6 photos are missing, the first: .*0\.png; weights .*: no such file"):
        train(config, photos, absent, tmp_path / "other")


@pytest.mark.parametrize("last", ["model_last.pth", "last_checkpoint", "last.pt"])
def test_a_folder_is_not_shared_with_a_run_of_another_kind(tmp_path: Path, last: str) -> None:
    run = Run(tmp_path, TINY, last=last, best="model_best.pth")
    (tmp_path / "config.json").touch()  # of a run that was stopped before its first checkpoint
    assert run.faults(resume=False) == run.faults(resume=True) == []
    others = [name for name in ("best.pt", "model_last.pth", "last_checkpoint") if name != last]
    for name in others:
        (tmp_path / name).touch()
    faults = [f"{tmp_path} holds another run's {', '.join(others)}: choose another folder"]
    assert run.faults(resume=False) == run.faults(resume=True) == faults


def test_on_the_stages_of_compact_training_starts_from_the_shipped_detector(
    photos: FaceDataset, tmp_path: Path
) -> None:
    config = tiny(model="faster_rcnn_compact_fpn", weights="bundled", norm="bn", steps=1, warmup_steps=0)
    notices: list[str] = []
    best = train(config, photos, None, tmp_path / "run", notice=notices.append)
    assert len(notices) == 2
    assert "tensors missing in the file: backbone.fpn_lateral2" in notices[0]
    assert "unexpected tensors in the file: lateral.0" in notices[1]
    start, trained = initial_weights("bundled"), read_checkpoint(best).tensors
    assert start is not None
    for name in ("stem.1.0.weight", "stem.1.1.running_mean"):
        assert torch.equal(trained[f"backbone.bottom_up.{name}"], start[name])
    moved = (trained["backbone.bottom_up.stage32.0.0.weight"] - start["stage32.0.0.weight"]).abs().max()
    assert 0 < moved < 0.1
    detector = load_detector(best, min_score=0)
    assert detector.name == "faster_rcnn_compact_fpn"
    assert len(detector.detect([np.zeros((64, 64, 3), np.uint8)])[0])
    with pytest.raises(ConfigError, match="'coco' for faster_rcnn_compact_fpn: expected bundled, none, or a file"):
        train(dataclasses.replace(config, weights="coco"), photos, None, tmp_path / "other")


def test_early_stopping_and_the_best_checkpoint(
    photos: FaceDataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scores = iter([0.1, 0.3, 0.2, 0.3, 0.9])

    class Measured:
        def __init__(self) -> None:
            self.metrics = {"AP": next(scores)}

    monkeypatch.setattr(torchvision_engine, "evaluate", lambda detector, data: Measured())
    best = train(tiny(steps=9, eval_every=1, patience=2), photos, photos, tmp_path / "run")
    assert read_checkpoint(best).about["step"] == 2
    last = tmp_path / "run" / "model_last.pth"
    assert read_checkpoint(last).about["step"] == 4
    stopped = tiny(steps=9, eval_every=1, patience=2)
    assert train(stopped, photos, photos, tmp_path / "run", resume=True) == best
    assert read_checkpoint(last).about["step"] == 4

    (tmp_path / "run" / "config.json").write_text("[]")
    with pytest.raises(ConfigError, match=r"config\.json: expected a run's settings"):
        train(stopped, photos, photos, tmp_path / "run", resume=True)
    (tmp_path / "run" / "config.json").unlink()
    with pytest.raises(ConfigError, match=r"config\.json: cannot read: .* the run cannot be resumed without"):
        train(stopped, photos, photos, tmp_path / "run", resume=True)
    (tmp_path / "run" / "config.json").write_text(json.dumps(plain(stopped)))
    last.write_bytes(best.read_bytes())
    with pytest.raises(WeightsError, match=r"model_last\.pth: expected a run's last checkpoint.*KeyError 'optimizer'"):
        train(stopped, photos, photos, tmp_path / "run", resume=True)
    last.write_bytes(best.read_bytes()[:1000])
    with pytest.raises(WeightsError, match=r"model_last\.pth: refused"):
        train(stopped, photos, photos, tmp_path / "run", resume=True)


@pytest.mark.parametrize(
    ("best", "score", "expected"), [(-1.0, 0.0, (0.0, 0)), (0.5, 0.5, (0.5, 3)), (0.5, 0.6, (0.6, 0))]
)
def test_progress(best: float, score: float, expected: tuple[float, int]) -> None:
    after = Progress(7, best, 2).after(score)
    assert (after.step, after.best, after.without_gain) == (7, *expected)


def test_divergence_names_the_parts(photos: FaceDataset, tmp_path: Path) -> None:
    model = empty_model(TINY)
    with torch.no_grad():
        model.roi_heads.box_predictor.cls_score.bias.fill_(float("nan"))
    save_checkpoint(tmp_path / "nan.pth", model, about={})
    with pytest.raises(TrainingDiverged, match=r"step 0: loss nan \(.*loss_cls nan"):
        train(tiny(weights=str(tmp_path / "nan.pth")), photos, None, tmp_path / "run")


def test_without_detectron2_the_error_names_the_command(
    photos: FaceDataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "detectron2", None)
    monkeypatch.setitem(sys.modules, "detectron2.engine", None)
    with pytest.raises(MissingExtra, match="pip install --no-build-isolation git"):
        detectron2_engine.train(TINY, photos, None, tmp_path)


@pytest.mark.slow
def test_two_processes_train_one_model(tmp_path: Path) -> None:
    drawn_dataset(tmp_path / "data", photos=3, cells=1, splits=("train", "train", "val"))
    arguments = [
        "-m", "facedet", "train", "--data", str(tmp_path / "data"), "--out", str(tmp_path / "run"),
        "--model", "faster_rcnn_r18_fpn", "--weights", "none", "--norm", "gn", "--steps", "2", "--short-px", "64",
        "--long-px", "64", "--test-short-px", "64", "--test-long-px", "64", "--log-every", "1", "--lr", "0.002",
    ]  # fmt: skip
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", *arguments]
    done = subprocess.run(
        command, capture_output=True, text=True, env=os.environ | {"OMP_NUM_THREADS": "1"}, timeout=600, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    lines = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [1, 2, 2]
    assert all(np.isfinite(line["loss"]) for line in lines[:2])
    assert load_detector(tmp_path / "run" / "model_best.pth").name == "faster_rcnn_r18_fpn"


@pytest.mark.filterwarnings("ignore")  # Detectron2's own
def test_detectron2_resumes_with_its_best_and_its_checkpoints_are_detectors(
    photos: FaceDataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trainer = pytest.importorskip("detectron2.engine").DefaultTrainer
    percents = iter([30.0, 40.0, 35.0, 50.0])
    monkeypatch.setattr(trainer, "test", lambda self, cfg, model: {"bbox": {"AP": next(percents), "APl": float("nan")}})
    start = tmp_path / "start.pth"
    save_checkpoint(start, empty_model(TINY), about={})
    config, run = tiny(weights=str(start), steps=6, eval_every=2), tmp_path / "run"
    kept: list[dict[str, Any]] = []

    def kill(line: dict[str, Any]) -> None:
        kept.append(line)
        if line["step"] == 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        detectron2_engine.train(config, photos, photos, run, report=kill)
    start.unlink()
    with pytest.raises(ConfigError, match=r"lr 0.1: the run in .* has 0.002"):
        detectron2_engine.train(dataclasses.replace(config, lr=0.1), photos, photos, run, resume=True)
    best = detectron2_engine.train(config, photos, photos, run, resume=True, report=kept.append)
    assert kept == [{"step": 2, "AP": 0.3}, {"step": 4, "AP": 0.4}, {"step": 6, "AP": 0.35}]
    for path, metrics in ((best, {"AP": 0.4}), (run / "model_final.pth", {"AP": 0.35})):
        assert read_checkpoint(path).about["metrics"] == metrics
    for name in ("model_best.pth", "model_final.pth", "model_0000003.pth"):
        assert load_detector(run / name).name == "faster_rcnn_r18_fpn"
    with pytest.raises(ConfigError, match=r"holds another run's model_best.pth, model_final.pth, last_checkpoint"):
        train(TINY, photos, None, run)
