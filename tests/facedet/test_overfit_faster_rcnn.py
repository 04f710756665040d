"""The narrow Faster R-CNN learns four photos from nothing: everything from sampling to AP has to work for that."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from facedet.detectors import load_detector
from facedet.engines.config import FasterRCNNConfig
from facedet.engines.torchvision_engine import train
from facedet.evaluate import evaluate
from tests.facedet.drawn_faces import drawn_dataset

SIDE_PX = 64


@pytest.mark.slow
def test_four_photos_are_learnt(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.set_num_threads(2)
    photos = drawn_dataset(tmp_path / "data", photos=4, cells=1)
    config = FasterRCNNConfig(
        model="faster_rcnn_r18_fpn", weights="none", steps=80, batch_size=4, lr=0.02, warmup_steps=20,
        short_px=(SIDE_PX,), long_px=SIDE_PX, test_short_px=SIDE_PX, test_long_px=SIDE_PX,
        flip=0, light=0, precision="float32", eval_every=80, log_every=25,
    )  # fmt: skip
    lines: list[dict[str, float]] = []
    best = train(config, photos, photos, tmp_path / "run", report=lines.append)
    losses = [line["loss"] for line in lines if "loss" in line]
    assert losses[-1] < 0.5 * losses[0]
    measured = evaluate(load_detector(best, min_score=0.02), photos).metrics
    assert measured["AP50"] is not None
    assert measured["AP50"] >= 0.9
    # Processors that multiply bfloat16 natively use it, and must find the same.
    monkeypatch.setattr("facedet.detectors.faster_rcnn.native_bfloat16", lambda device: True)
    again = evaluate(load_detector(best, min_score=0.02), photos).metrics
    assert again["AP50"] == pytest.approx(measured["AP50"], abs=0.05)
