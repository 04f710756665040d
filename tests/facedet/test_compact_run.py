"""`facedet train --model compact`: from the command line to a file that detects."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

import facedet
from facedet.cli import app
from facedet.compact_run import initial_weights
from facedet.data.augment import AUGMENTATIONS
from facedet.data.coco import write_coco
from facedet.export import export_compact, load_compact_checkpoint
from facedet.models.compact import compact
from tests.facedet.drawn_faces import drawn_dataset
from tests.facedet.test_compact import make_photo


@pytest.fixture
def prepared(tmp_path: Path) -> Path:
    """A prepared folder: four photos to train on, two to measure on."""
    folder = tmp_path / "data"
    (folder / "images").mkdir(parents=True)
    images, annotations = [], []
    for i in range(6):
        photo = make_photo(folder / "images", f"{i}.png", faces=2)
        split = "train" if i < 4 else "val"
        images.append({"id": i, "file_name": photo.name, "width": photo.width, "height": photo.height, "split": split})
        for x1, y1, x2, y2 in photo.boxes_xyxy.tolist():
            box = {"bbox": [x1, y1, x2 - x1, y2 - y1], "area": (x2 - x1) * (y2 - y1), "iscrowd": 0}
            annotations.append({"id": len(annotations), "image_id": i, "category_id": 1, **box})
    coco = {"images": images, "annotations": annotations, "categories": [{"id": 1, "name": "face"}]}
    (folder / "annotations.json").write_text(json.dumps(coco))
    return folder


def test_a_run_is_measured_drawn_and_exported(prepared: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    arguments = ["--model", "compact", "--weights", "none", "--epochs", "2", "--size", "96", "--batch-size", "2"]
    result = CliRunner().invoke(app, ["train", *arguments, "--data", str(prepared), "--out", str(run)])
    assert result.exit_code == 0, result.output
    lines = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    assert [line["epoch"] for line in lines] == [1, 2]
    assert all(0 <= line["AP50"] <= 1 for line in lines)
    assert (run / "curves.png").stat().st_size > 0
    assert any((run / "tensorboard").iterdir())
    faces = facedet.load_detector(run / "best.onnx").detect([np.zeros((40, 50, 3), np.uint8)])[0]
    assert faces.image_size_wh == (50, 40)

    again = CliRunner().invoke(app, ["train", *arguments, "--data", str(prepared), "--out", str(run)])
    assert again.exit_code == 2
    assert "holds a run already" in again.output


def test_a_photo_to_measure_on_that_is_missing_is_told_before_training(prepared: Path, tmp_path: Path) -> None:
    (prepared / "images" / "5.png").unlink()
    arguments = ["--model", "compact", "--weights", "none", "--epochs", "1", "--size", "96"]
    result = CliRunner().invoke(app, ["train", *arguments, "--data", str(prepared), "--out", str(tmp_path / "run")])
    assert result.exit_code == 2
    assert "error: 1 of 6 photos are missing, the first: " in result.stderr
    assert not (tmp_path / "run").exists()


def test_a_run_resumes_only_with_its_own_validation_photos(prepared: Path, tmp_path: Path) -> None:
    words = ["train", "--model", "compact", "--weights", "none", "--epochs", "1", "--size", "96", "--batch-size", "2"]
    words += ["--data", str(prepared), "--out", str(tmp_path / "run")]
    assert CliRunner().invoke(app, words).exit_code == 0
    write_coco(drawn_dataset(tmp_path / "other", photos=2), tmp_path / "other" / "annotations.json")
    refused = CliRunner().invoke(app, [*words, "--resume", "--val", str(tmp_path / "other")])
    assert refused.exit_code == 2
    assert "error: val '2 photos, " in refused.stderr
    assert "and resumes only with the same" in refused.stderr
    assert CliRunner().invoke(app, [*words, "--resume"]).exit_code == 0


def test_photos_without_a_face_measure_nothing(prepared: Path, tmp_path: Path) -> None:
    document = json.loads((prepared / "annotations.json").read_text())
    of_val = {image["id"] for image in document["images"] if image["split"] == "val"}
    document["annotations"] = [a for a in document["annotations"] if a["image_id"] not in of_val]
    (prepared / "annotations.json").write_text(json.dumps(document))
    arguments = ["--model", "compact", "--weights", "none", "--epochs", "2", "--size", "96", "--batch-size", "2"]
    result = CliRunner().invoke(app, ["train", *arguments, "--data", str(prepared), "--out", str(tmp_path / "run")])
    assert result.exit_code == 0, result.output
    assert "0 faces to measure on: the best checkpoint is chosen by chance" in result.output
    metrics = load_compact_checkpoint(tmp_path / "run" / "best.pt")[1]["metrics"]
    assert metrics["epoch"] == 2
    assert "AP50" not in metrics


def test_fine_tuning_remembers_and_fits_boxes_unless_it_is_told_otherwise(prepared: Path, tmp_path: Path) -> None:
    words = ["train", "--model", "compact", "--data", str(prepared), "--size", "64", "--epochs", "1"]
    for more, expected in (([], [True, True]), (["--no-remember", "--no-fit-boxes"], [False, False])):
        out = tmp_path / str(len(more))
        result = CliRunner().invoke(app, [*words, "--out", str(out), *more])
        assert result.exit_code == 0, result.output
        config = json.loads((out / "config.json").read_text())
        assert [config["remember"], config["fit_boxes"]] == expected


@pytest.mark.parametrize(("freeze", "still"), [("stem", ("stem.",)), ("backbone", ("stem.", "stage"))])
def test_every_part_of_the_recipe_is_an_option_and_what_is_frozen_is_exported_as_it_was(
    prepared: Path, tmp_path: Path, freeze: str, still: tuple[str, ...]
) -> None:
    torch.manual_seed(1)
    start = compact()
    for norm in (start.stem[0][1], start.stem[1][1]):  # type: ignore[index]
        norm.running_mean.fill_(0.25)
    torch.save({"network": start.state_dict(), "metadata": {}}, tmp_path / "start.pt")
    write_coco(drawn_dataset(tmp_path / "more", photos=2), tmp_path / "more" / "annotations.json")
    words = [
        "train", "--model", "compact", "--weights", str(tmp_path / "start.pt"), "--out", str(tmp_path / "run"),
        "--data", str(tmp_path / "more"), "--data", str(prepared), "--freeze", freeze, "--ema-decay", "0.5",
        "--lr", "0.0015", "--weight-decay", "0.01", "--warmup-steps", "2", "--face-px", "8", "60", "--mosaic", "0.5",
        "--size", "96", "--epochs", "3", "--batch-size", "3", "--eval-every", "2",
        "--start-share", "0", "--augmentation", "strong",
    ]  # fmt: skip
    result = CliRunner().invoke(app, words)
    assert result.exit_code == 0, result.output
    lines = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    assert [(line["epoch"], line["photos"], "AP50" in line) for line in lines] == [
        (1, 6, False), (2, 6, True), (3, 6, True)
    ]  # fmt: skip
    config = json.loads((tmp_path / "run" / "config.json").read_text())
    assert {"face_px": [8, 60], "mosaic": 0.5, **AUGMENTATIONS["strong"]}.items() <= config["crop"].items()
    assert {
        "lr": 0.0015,
        "freeze": freeze,
        "start_share": 0,
        "ema_decay": 0.5,
        "weight_decay": 0.01,
    }.items() <= config.items()

    trained = load_compact_checkpoint(tmp_path / "run" / "best.onnx")[0].state_dict()
    for name, value in start.state_dict().items():
        if "num_batches" not in name:
            frozen = name.startswith(still) or (freeze == "backbone" and "running_" in name)
            assert torch.equal(trained[name], value) == frozen, name


@pytest.mark.parametrize(
    ("model", "words", "message"),
    [
        ("compact", ["--steps", "5", "--norm", "gn"], "--norm: has no meaning for compact; --steps: has no meaning"),
        ("faster_rcnn_r18_fpn", ["--freeze", "stem"], "--freeze: has no meaning for faster_rcnn_r18_fpn"),
        ("compct", [], "model 'compct': expected one of faster_rcnn_x101_fpn, "),
        (
            "compact",
            ["--steps", "5", "--augmentation", "wild", "--lr", "-1"],
            "--steps: has no meaning for compact; "
            "augmentation 'wild': expected one of plain, strong; lr -1.0: expected a finite number above 0",
        ),
        (
            "compact",
            ["--weights", "none", "--freeze", "stem", "--lr", "0"],
            "lr 0.0: expected a finite number above 0; freeze:",
        ),
        ("compact", ["--augmentation", "wild"], "augmentation 'wild': expected one of plain, strong"),
    ],
)
def test_options_without_effect_are_refused(
    prepared: Path, tmp_path: Path, model: str, words: list[str], message: str
) -> None:
    arguments = ["train", "--model", model, "--data", str(prepared), "--out", str(tmp_path / "run"), *words]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 2
    assert result.stderr.splitlines()[-1].startswith(f"error: {message}")
    assert not (tmp_path / "run").exists()


def test_an_earlier_run_is_a_start(tmp_path: Path) -> None:
    torch.manual_seed(1)
    network = compact()
    torch.save({"network": network.state_dict(), "metadata": {}}, tmp_path / "best.pt")
    state = initial_weights(str(tmp_path))
    assert state is not None
    assert torch.equal(state["stem.0.0.weight"], network.state_dict()["stem.0.0.weight"])
    assert initial_weights("none") is None
    with pytest.raises(facedet.WeightsError, match="nowhere"):
        initial_weights(str(tmp_path / "nowhere.pt"))


def test_a_shallower_network_of_an_earlier_version_serves_and_grows(tmp_path: Path) -> None:
    torch.manual_seed(1)
    earlier = compact((1, 2, 2), (0, 0, 0)).eval()
    torch.save({"network": earlier.state_dict(), "metadata": {}}, tmp_path / "best.pt")
    export_compact(tmp_path, tmp_path / "best.onnx")
    photo = np.full((64, 64, 3), 90, np.uint8)
    assert facedet.load_detector(tmp_path / "best.onnx", min_score=0).detect([photo])[0].scores.size
    start = initial_weights(str(tmp_path / "best.onnx"))
    assert start is not None
    assert start.keys() == compact().state_dict().keys()
    again = initial_weights(str(tmp_path / "best.pt"))
    assert all(torch.equal(start[name], value) for name, value in (again or {}).items())
    grown = compact().eval()
    grown.load_state_dict(start)
    pixels = torch.randint(0, 256, (1, 3, 64, 96)).float()
    with torch.inference_mode():
        before, now = earlier(pixels), grown(pixels)
    assert 0 < (now - before).abs().max() < 0.1
