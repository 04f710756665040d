"""Write faster_rcnn_x101_fpn.json with Detectron2 itself (needs the extra `detectron2`; see README.md here)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from detectron2 import model_zoo
from detectron2.checkpoint import DetectionCheckpointer  # noqa: F401  (proves a complete installation)
from detectron2.modeling import build_model
from detectron2.structures import Boxes, Instances
from detectron2.utils.events import EventStorage

from tests.facedet.golden.rule import image, norms, values_of

CONFIG = "COCO-Detection/faster_rcnn_X_101_32x8d_FPN_3x.yaml"
KEPT = 40
TRUTH = [[20.0, 30.0, 90.0, 120.0], [150.0, 60.0, 260.0, 200.0]]
TRUTH_LABELS = [0, 17]


def build() -> Any:
    cfg = model_zoo.get_config(CONFIG)
    cfg.MODEL.DEVICE = "cpu"
    model = build_model(cfg)
    model.load_state_dict({n: torch.from_numpy(values_of(n, tuple(t.shape))) for n, t in model.state_dict().items()})
    return model


def record_detections(model: Any) -> dict[str, Any]:
    model.eval()
    inputs = [{"image": torch.from_numpy(image())}]
    with torch.inference_mode():
        batch = model.preprocess_image(inputs)
        bottom_up = model.backbone.bottom_up(batch.tensor)
        pyramid = model.backbone(batch.tensor)
        logits, deltas = model.proposal_generator.rpn_head(list(pyramid.values()))
        proposals, _ = model.proposal_generator(batch, pyramid, None)
        found = model(inputs)[0]["instances"]
    return {
        "bottom_up_rms": norms(f.numpy() for f in bottom_up.values()),
        "pyramid_rms": norms(f.numpy() for f in pyramid.values()),
        "objectness_rms": norms(x.numpy() for x in logits),
        "deltas_rms": norms(x.numpy() for x in deltas),
        "proposals": len(proposals[0]),
        "best_proposals_xyxy": proposals[0].proposal_boxes.tensor[:10].tolist(),
        "detections": len(found),
        "boxes_xyxy": found.pred_boxes.tensor[:KEPT].tolist(),
        "scores": found.scores[:KEPT].tolist(),
        "labels": found.pred_classes[:KEPT].tolist(),
    }


def record_losses(model: Any) -> dict[str, float]:
    """Losses of one training step from seed 0: equal only if matching and sampling are equal, draw by draw."""
    model.train()
    values = torch.from_numpy(image())
    truth = Instances((values.shape[1], values.shape[2]))
    truth.gt_boxes = Boxes(torch.tensor(TRUTH))
    truth.gt_classes = torch.tensor(TRUTH_LABELS)
    torch.manual_seed(0)
    with EventStorage():
        losses = model([{"image": values, "instances": truth}])
    return {name: float(loss) for name, loss in losses.items()}


def main() -> None:
    torch.set_num_threads(1)
    model = build()
    golden = record_detections(model) | {
        "truth_xyxy": TRUTH,
        "truth_labels": TRUTH_LABELS,
        "losses_of_seed_0": record_losses(model),
    }
    text = json.dumps(rounded(golden), indent=1)
    Path(__file__).with_name("faster_rcnn_x101_fpn.json").write_text(text + "\n", encoding="utf-8")


def rounded(value: Any) -> Any:
    """Floats to six significant digits, so that the file stays small."""
    if isinstance(value, dict):
        return {k: rounded(v) for k, v in value.items()}
    if isinstance(value, list):
        return [rounded(v) for v in value]
    return float(f"{value:.6g}") if isinstance(value, float) else value


if __name__ == "__main__":
    main()
