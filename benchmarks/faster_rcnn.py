"""Inference time of Faster R-CNN X101-FPN beside Detectron2's own, on one photo.

    python benchmarks/faster_rcnn.py PHOTO [--threads 1] [--rounds 3]

Needs Detectron2. Each model lives in a process of its own, and they take turns. Both get the same parameters
(tests/facedet/golden/rule.py) and the same 800 px input; the first round warms up and is not counted; the table ends
with how far their detections differ. Processor time is given beside wall time: on a busy machine only it says much.
"""

from __future__ import annotations

import argparse
import multiprocessing
import statistics
import time
from collections.abc import Callable
from multiprocessing.connection import Connection

import cv2
import numpy as np
import numpy.typing as npt
import torch

from facedet.boxes import iou_matrix
from facedet.detectors.faster_rcnn import native_bfloat16, network_size_wh, resized
from facedet.models.faster_rcnn import faster_rcnn_x101_fpn
from facedet.models.inference import prepare_for_inference
from tests.facedet.golden.rule import values_of

Array = npt.NDArray[np.float32]
Find = Callable[[torch.Tensor], tuple[Array, Array]]
CONFIG = "COCO-Detection/faster_rcnn_X_101_32x8d_FPN_3x.yaml"


def detectron2_model() -> Find:
    """Detectron2's model as it builds it."""
    from detectron2 import model_zoo
    from detectron2.modeling import build_model

    cfg = model_zoo.get_config(CONFIG)
    cfg.MODEL.DEVICE = "cpu"
    model = build_model(cfg).eval()
    model.load_state_dict({n: torch.from_numpy(values_of(n, tuple(t.shape))) for n, t in model.state_dict().items()})

    def find(pixels: torch.Tensor) -> tuple[Array, Array]:
        found = model([{"image": pixels}])[0]["instances"]
        return found.pred_boxes.tensor.numpy(), found.scores.numpy()

    return find


def twin_model() -> Find:
    """The twin as its detector runs it on this CPU: bfloat16 where the processor has it."""
    model = faster_rcnn_x101_fpn(preset="coco")
    model.load_state_dict({n: torch.from_numpy(values_of(n, tuple(t.shape))) for n, t in model.state_dict().items()})
    bfloat16 = native_bfloat16(torch.device("cpu"))
    model = prepare_for_inference(model, float32_cpu=not bfloat16)

    def find(pixels: torch.Tensor) -> tuple[Array, Array]:
        with torch.autocast("cpu", torch.bfloat16, enabled=bfloat16):
            found = model.detect([pixels])[0]
        return found.boxes.float().numpy(), found.scores.float().numpy()

    return find


MODELS = {"detectron2": detectron2_model, "twin": twin_model}


def work(name: str, threads: int, pixels: Array, pipe: Connection) -> None:
    """Answer every message with boxes, scores, wall and processor seconds of one pass."""
    torch.set_num_threads(threads)
    find = MODELS[name]()
    pipe.send("ready")
    with torch.inference_mode():
        while pipe.recv():
            wall, processor = time.perf_counter(), time.process_time()
            boxes, scores = find(torch.from_numpy(pixels))
            pipe.send((boxes, scores, time.perf_counter() - wall, time.process_time() - processor))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photo")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    image = cv2.imread(arguments.photo)
    size_wh = network_size_wh(image.shape[1], image.shape[0], short_px=800, long_px=1333)
    pixels = resized(image, size_wh).float().numpy()
    spawn = multiprocessing.get_context("spawn")
    pipes: dict[str, Connection] = {}
    for name in MODELS:
        pipes[name], other = spawn.Pipe()
        spawn.Process(target=work, args=(name, arguments.threads, pixels, other), daemon=True).start()
    for pipe in pipes.values():
        pipe.recv()
    turns: dict[str, list[tuple[Array, Array, float, float]]] = {name: [] for name in MODELS}
    for number in range(arguments.rounds + 1):
        for name, pipe in pipes.items():
            pipe.send(True)
            turns[name].append(pipe.recv())
            print(number, name, [round(seconds, 2) for seconds in turns[name][-1][2:]], flush=True)
    for pipe in pipes.values():
        pipe.send(False)
    report(turns, f"{size_wh[0]}x{size_wh[1]}, {arguments.threads} threads, median of {arguments.rounds} rounds")


def report(turns: dict[str, list[tuple[Array, Array, float, float]]], title: str) -> None:
    """Times without the first round, their ratio, and the largest difference between the detections."""
    for index, kind in ((2, "wall"), (3, "processor")):
        theirs, ours = (statistics.median(t[index] for t in turns[name][1:]) for name in ("detectron2", "twin"))
        print(f"{title}, {kind} time: detectron2 {theirs:.2f} s, twin {ours:.2f} s, ratio {ours / theirs:.2f}")
    expected, found = turns["detectron2"][-1], turns["twin"][-1]
    distance = np.abs(expected[0][:, None] - found[0][None]).max(axis=2).min(axis=1)
    overlap = iou_matrix(expected[0], found[0]).max(axis=1)
    print(
        f"{len(expected[1])} and {len(found[1])} detections; to the nearest one, each of Detectron2's has an IoU of at "
        f"least {overlap.min():.4f}, median {np.median(overlap):.4f}, and corners at most {distance.max():.4f} px away"
    )


if __name__ == "__main__":
    main()
