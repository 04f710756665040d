"""The twin beside Detectron2's recorded outputs: same parameters by rule, same input (golden/README.md)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from facedet.models.faster_rcnn import FasterRCNN, faster_rcnn_x101_fpn
from facedet.models.inference import prepare_for_inference
from facedet.models.resnet import STAGES
from tests.facedet.golden.rule import INPUT_SIZE_HW, image, norms, values_of

Golden = dict[str, Any]


@pytest.fixture(scope="module")
def golden() -> Golden:
    path = Path(__file__).parent / "golden" / "faster_rcnn_x101_fpn.json"
    loaded: Golden = json.loads(path.read_text(encoding="utf-8"))
    return loaded


@pytest.fixture(scope="module")
def twin() -> FasterRCNN:
    model = faster_rcnn_x101_fpn(preset="coco")
    model.load_state_dict({n: torch.from_numpy(values_of(n, tuple(t.shape))) for n, t in model.state_dict().items()})
    return model.eval()


def assert_same_detections(twin: FasterRCNN, golden: Golden) -> None:
    """Every recorded box within 0.5 px and 1e-3 of score, in the recorded order up to ties in score."""
    with torch.inference_mode():
        found = twin.detect([torch.from_numpy(image())])[0]
    boxes, scores = np.array(golden["boxes_xyxy"]), np.array(golden["scores"])
    assert len(found.boxes) == golden["detections"]
    assert np.abs(found.scores[: len(scores)].numpy() - scores).max() < 1e-3
    distance = np.abs(found.boxes.numpy()[None] - boxes[:, None]).max(axis=2)
    same_score = np.abs(found.scores.numpy()[None] - scores[:, None]) < 1e-3
    same_label = found.labels.numpy()[None] == np.array(golden["labels"])[:, None]
    assert np.where(same_score & same_label, distance, np.inf).min(axis=1).max() < 0.5


def test_intermediate_values(twin: FasterRCNN, golden: Golden) -> None:
    with torch.inference_mode():
        batch = twin.normalised_batch([torch.from_numpy(image())])
        bottom_up = twin.backbone.bottom_up(batch)
        pyramid = twin.backbone(batch)
        logits, deltas = twin.proposal_generator.rpn_head(pyramid)
        proposals, _ = twin.proposal_generator(pyramid, [INPUT_SIZE_HW], None)
    assert norms(bottom_up[s].numpy() for s in STAGES) == pytest.approx(golden["bottom_up_rms"], rel=1e-4)
    assert norms(f.numpy() for f in pyramid) == pytest.approx(golden["pyramid_rms"], rel=1e-4)
    assert norms(x.numpy() for x in logits) == pytest.approx(golden["objectness_rms"], rel=1e-4)
    assert norms(x.numpy() for x in deltas) == pytest.approx(golden["deltas_rms"], rel=1e-4)
    assert len(proposals[0]) == golden["proposals"]
    np.testing.assert_allclose(proposals[0][:10].numpy(), golden["best_proposals_xyxy"], atol=0.01)


def test_detections(twin: FasterRCNN, golden: Golden) -> None:
    assert_same_detections(twin, golden)


def test_losses_of_one_seed(twin: FasterRCNN, golden: Golden) -> None:
    """Equal only if matching, sampling and every random draw are equal."""
    target = {"boxes": torch.tensor(golden["truth_xyxy"]), "labels": torch.tensor(golden["truth_labels"])}
    twin.train()
    torch.manual_seed(0)
    losses = twin([torch.from_numpy(image())], [target])
    twin.eval()
    assert {n: float(v.detach()) for n, v in losses.items()} == pytest.approx(golden["losses_of_seed_0"], rel=1e-3)


def test_detections_of_the_model_made_fast(twin: FasterRCNN, golden: Golden) -> None:
    """Last on purpose: it changes the shared model."""
    assert_same_detections(prepare_for_inference(twin, float32_cpu=True), golden)
