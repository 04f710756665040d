"""How small a face may be and still be read: emotion accuracy by face size, and the limit for `too_small`.

    python benchmarks/face_size.py [FER] [--emotion default] [--split public] [--resampling cubic linear lanczos]

FER is fer2013.csv, Kaggle's archive.zip or its unpacked folder; default $CROWDMOOD_DATASETS/fer2013/archive.zip.
Every face is made smaller by averaging, as if the photo had shown it so small, and goes through `pipeline/crops.py` to
the classifier. The limit: the smallest size at which the classifier still keeps half of what it is better, at 48 px,
than always naming the commonest emotion. Prints a Markdown table and the line for pipeline/crowd_pipeline.py.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import get_args

import cv2
import numpy as np
import numpy.typing as npt

from emotion import load_classifier
from emotion.data import load_fer2013
from emotion.errors import EmotionError
from pipeline.crops import CROP_SIDE_PX, CropRule, Resampling, crop_faces
from pipeline.crowd_pipeline import Classifier

SIZES_PX = (6, 8, 10, 12, 14, 16, 20, 24, 32, CROP_SIDE_PX)
KEPT = 0.5
"""Part of the gain over the commonest emotion that a legible face keeps."""

Faces = npt.NDArray[np.uint8]


def accuracy_at(
    faces: Faces, labels: npt.NDArray[np.int64], classifier: Classifier, *, side: int, how: CropRule
) -> float:
    """Seven-way accuracy on FER-2013's faces, uint8 [N, 48, 48], seen `side` pixels large."""
    box = np.array([[0, 0, side, side]], np.float32)
    crops = []
    for face in faces:
        small = cv2.resize(face, (side, side), interpolation=cv2.INTER_AREA).astype(np.uint8, copy=False)
        crops += crop_faces(small, box, rule=how)
    return float(np.mean(classifier.classify(crops).indices == labels))


def legible_px(accuracies: Sequence[float], guessing: float) -> int:
    """The limit by the rule above. accuracies: in the order of SIZES_PX. guessing: share of the commonest emotion."""
    floor = guessing + KEPT * (accuracies[-1] - guessing)
    limit = SIZES_PX[-1]
    for side, accuracy in zip(reversed(SIZES_PX), reversed(accuracies), strict=True):
        if accuracy < floor:
            break
        limit = side
    return limit


def main(options: argparse.Namespace) -> int:
    """Measure and print; 0 when all went well."""
    try:
        split = load_fer2013(options.fer, options.split)
        classifier = load_classifier(options.emotion, threads=options.threads)
    except EmotionError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    chosen = np.random.default_rng(0).permutation(len(split))[: options.faces]
    faces, labels = split.images[chosen], split.labels[chosen].astype(np.int64)
    guessing = float(np.bincount(labels).max() / len(labels))
    hows = {name: replace(CropRule(), resampling=name) for name in options.resampling}
    print(f"{classifier.identity}, {len(faces):,} faces of `{options.split}`; always naming the commonest emotion is "
          f"right on {100 * guessing:.1f} %.\n")  # fmt: skip
    print("| face, px |" + "".join(f" {name} |" for name in hows) + "\n|---:|" + "---:|" * len(hows))
    table: list[list[float]] = []
    for side in SIZES_PX:
        table.append([accuracy_at(faces, labels, classifier, side=side, how=how) for how in hows.values()])
        print(f"| {side} |" + "".join(f" {100 * value:.1f} % |" for value in table[-1]), flush=True)
    print(f"\nMIN_LEGIBLE_PX = {legible_px([row[0] for row in table], guessing)}")
    return 0


def parse(argv: list[str]) -> argparse.Namespace:
    """The command line."""
    root = os.environ.get("CROWDMOOD_DATASETS")
    fer = Path(root, "fer2013", "archive.zip") if root else Path("datasets/fer2013/data/archive.zip")
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("fer", nargs="?", type=Path, default=fer, metavar="FER")
    parser.add_argument("--emotion", default="default")
    parser.add_argument("--split", choices=("train", "public", "private"), default="public")
    parser.add_argument("--resampling", nargs="+", choices=get_args(Resampling), default=[CropRule().resampling],
                        help="ways of enlarging small faces; the limit is that of the first")  # fmt: skip
    parser.add_argument("--faces", type=int, help="only so many, drawn at random")
    parser.add_argument("--threads", type=int, default=1)
    return parser.parse_args(argv)


if __name__ == "__main__":
    sys.exit(main(parse(sys.argv[1:])))
