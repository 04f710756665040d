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
from facedet.models.compact import compact
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
    faces = facedet.load_detector(run / "best.onnx").detect([np.zeros((40, 50, 3), np.uint8)])[0]
    assert faces.image_size_wh == (50, 40)

    again = CliRunner().invoke(app, ["train", *arguments, "--data", str(prepared), "--out", str(run)])
    assert again.exit_code == 2
    assert "holds a run already" in again.output


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
