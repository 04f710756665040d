"""One contender in a process of its own: answers requests on standard input with lines of JSON on standard output.

    python benchmarks/contender.py fer-haar|fer-mtcnn|<crowdmood detector> THREADS [EMOTION]

{"photo": path} -> {"boxes": [[x1, y1, x2, y2], ...], "ms": decoding, detection and emotions of that photo}
{"faces": file.npy, uint8 [N, 48, 48]} -> {"labels": [name, ...]}
Imports nothing of the other contender, so that each can run in its own virtual environment.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from typing import Any

import cv2
import numpy as np

Read = Callable[[str], list[list[float]]]
Classify = Callable[[Any], list[str]]


def fer(mode: str, threads: int) -> tuple[Read, Classify]:
    """The package `fer` with its own settings. Its classifier gets faces as they are, without the margin it adds."""
    if mode == "fer-mtcnn":
        import torch

        torch.set_num_threads(threads)
    import tensorflow as tf
    from fer.fer import FER

    tf.config.threading.set_intra_op_parallelism_threads(threads)
    chain = FER(mtcnn=mode == "fer-mtcnn")

    def read(path: str) -> list[list[float]]:
        found = chain.detect_emotions(cv2.imread(path))
        boxes = [[float(value) for value in face["box"]] for face in found]
        return [[x, y, x + width, y + height] for x, y, width, height in boxes]

    def classify(faces: Any) -> list[str]:
        resized = np.stack([cv2.resize(face, (64, 64)) for face in faces]).astype("float32")
        names = chain._get_labels()
        return [names[int(i)] for i in np.argmax(chain._classify_emotions((resized / 255 - 0.5) * 2), axis=1)]

    return read, classify


def crowdmood(detector: str, threads: int, emotion_model: str) -> tuple[Read, Classify]:
    """This project with its own settings; no other detector may step in."""
    from pipeline import CrowdPipeline

    chain = CrowdPipeline.default(detector, emotion_model, threads=threads, fallback=False)

    def read(path: str) -> list[list[float]]:
        return [list(face.box_xyxy) for face in chain.read(path).faces]

    def classify(faces: Any) -> list[str]:
        return chain.classifier.classify(list(faces)).labels

    return read, classify


def main(kind: str, threads: int, emotion_model: str = "default") -> None:
    """Answer until standard input ends."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what libraries print must not get between the answers
    cv2.setNumThreads(threads)
    read, classify = fer(kind, threads) if kind.startswith("fer-") else crowdmood(kind, threads, emotion_model)
    for line in sys.stdin:
        request = json.loads(line)
        started = time.perf_counter()
        if "photo" in request:
            boxes = read(request["photo"])
            answer: dict[str, Any] = {"boxes": boxes, "ms": 1000 * (time.perf_counter() - started)}
        else:
            answer = {"labels": classify(np.load(request["faces"]))}
        print(json.dumps(answer), file=answers, flush=True)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), *sys.argv[3:4])
