"""Inference time of Faster R-CNN X101-FPN beside Detectron2's own, on one photo, taking turns in one process.

    python benchmarks/faster_rcnn.py PHOTO [--threads 1] [--rounds 3]

Needs Detectron2. Both get the same parameters (tests/facedet/golden/rule.py) and the same 800 px input, and the table
ends with how far their detections differ. Processor time is given beside wall time: on a busy machine only the former
says something.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from typing import Any

import cv2
import torch

from facedet.detectors.faster_rcnn import network_size_wh, resized
from facedet.models.faster_rcnn import FasterRCNN, faster_rcnn_x101_fpn
from facedet.models.inference import prepare_for_inference
from tests.facedet.golden.rule import values_of


def models() -> tuple[Any, FasterRCNN]:
    """Detectron2's model and the twin, with the same parameters."""
    from detectron2 import model_zoo
    from detectron2.modeling import build_model

    cfg = model_zoo.get_config("COCO-Detection/faster_rcnn_X_101_32x8d_FPN_3x.yaml")
    cfg.MODEL.DEVICE = "cpu"
    reference, twin = build_model(cfg).eval(), faster_rcnn_x101_fpn(preset="coco")
    values = {n: torch.from_numpy(values_of(n, tuple(t.shape))) for n, t in twin.state_dict().items()}
    reference.load_state_dict(values)
    twin.load_state_dict(values)
    return reference, prepare_for_inference(twin, float32_cpu=True)


def timed(call: Callable[[], Any]) -> tuple[Any, float, float]:
    """The result, and the seconds of wall and of processor time it took."""
    wall, processor = time.perf_counter(), time.process_time()
    result = call()
    return result, time.perf_counter() - wall, time.process_time() - processor


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("photo")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    image = cv2.imread(arguments.photo)
    pixels = resized(image, network_size_wh(image.shape[1], image.shape[0], short_px=800, long_px=1333)).float()
    reference, twin = models()
    times: dict[str, list[tuple[float, float]]] = {"detectron2": [], "twin": []}
    with torch.inference_mode():
        for _ in range(arguments.rounds):
            expected, *seconds = timed(lambda: reference([{"image": pixels}])[0]["instances"])
            times["detectron2"].append((seconds[0], seconds[1]))
            found, *seconds = timed(lambda: twin.detect([pixels])[0])
            times["twin"].append((seconds[0], seconds[1]))
            print({name: [round(s, 2) for s in turns[-1]] for name, turns in times.items()}, flush=True)
    wall, processor = ([statistics.median(turn[i] for turn in turns) for turns in times.values()] for i in (0, 1))
    size = f"{pixels.shape[2]}x{pixels.shape[1]}, {arguments.threads} threads, median of {arguments.rounds} rounds"
    for name, (ours, theirs) in {"wall": wall[::-1], "processor": processor[::-1]}.items():
        print(f"{size}, {name} time: detectron2 {theirs:.2f} s, twin {ours:.2f} s, ratio {ours / theirs:.2f}")
    distance = (expected.pred_boxes.tensor[:, None] - found.boxes[None]).abs().amax(dim=2)
    distance[(expected.scores[:, None] - found.scores[None]).abs() > 1e-3] = torch.inf
    print(f"{len(expected)} and {len(found.boxes)} detections; farthest box {distance.amin(dim=1).max():.4f} px")


if __name__ == "__main__":
    main()
