"""`crowdmood annotate` with a checkpoint that training really wrote, a broken one, and unreadable shipped weights."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from pipeline.cli import app
from pipeline.sinks import read_results
from tests.facedet.drawn_faces import drawn_dataset
from tests.pipeline.factories import tiny_classifier


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """images/, tiny.onnx for the emotions, and the run of one training step in run/."""
    from facedet.engines.config import FasterRCNNConfig
    from facedet.engines.torchvision_engine import train

    folder = tmp_path_factory.mktemp("trained")
    photos = drawn_dataset(folder, photos=2, cells=1)
    config = FasterRCNNConfig(
        model="faster_rcnn_r18_fpn", weights="none", norm="gn", steps=1, batch_size=1, lr=0.002, warmup_steps=0,
        short_px=(64,), long_px=64, test_short_px=64, test_long_px=64,
    )  # fmt: skip
    train(config, photos, None, folder / "run")
    tiny_classifier(folder / "tiny.onnx")
    return folder


def command(folder: Path, out: Path, detector: str | Path, *options: str) -> list[str]:
    words = ["annotate", str(folder / "images"), "-o", str(out), "--emotion", str(folder / "tiny.onnx")]
    return [*words, "--detector", str(detector), *options]


def test_a_trained_checkpoint_annotates(folder: Path, tmp_path: Path) -> None:
    arguments = command(
        folder, tmp_path / "out", folder / "run" / "model_best.pth", "--no-fallback", "--min-score", "0"
    )
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output
    readings = list(read_results(tmp_path / "out" / "results.jsonl"))
    assert [(r.detector, r.fallback_reason) for r in readings] == [("faster_rcnn_r18_fpn", None)] * 2
    assert all(reading.faces for reading in readings)


def test_a_damaged_checkpoint_falls_back_with_the_reason(folder: Path, tmp_path: Path) -> None:
    damaged = tmp_path / "damaged.pth"
    damaged.write_bytes((folder / "run" / "model_best.pth").read_bytes()[:5000])
    result = CliRunner().invoke(app, command(folder, tmp_path / "out", damaged))
    assert result.exit_code == 0, result.output
    for reading in read_results(tmp_path / "out" / "results.jsonl"):
        assert reading.detector == "haar"
        assert reading.fallback_reason is not None
        assert "damaged.pth: refused, not a checkpoint of plain tensors" in reading.fallback_reason
    strict = CliRunner().invoke(app, command(folder, tmp_path / "strict", damaged, "--no-fallback"))
    assert strict.exit_code == 2
    assert "error: " in strict.stderr
    assert "damaged.pth: refused" in strict.stderr


def test_without_the_shipped_weights_haar_steps_in(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("facedet.detectors.compact.resources.files", lambda package: tmp_path / "empty")
    result = CliRunner().invoke(app, command(folder, tmp_path / "out", "compact"))
    assert result.exit_code == 0, result.output
    for reading in read_results(tmp_path / "out" / "results.jsonl"):
        assert reading.detector == "haar"
        assert "compact.onnx: cannot be read" in str(reading.fallback_reason)
