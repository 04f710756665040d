"""The seam on real photographs: a detector's boxes beside those of a cascade, as FER-2013's faces were cut by one.

    python benchmarks/seam_on_photos.py PHOTOS --detector compact

`crowdmood calibrate` fits a crop rule on painted heads. Here no emotion is known, but the heads are real: for faces
that both detectors find, it prints the rule that makes of the detector's boxes the squares that the cascade's rule
cuts, for every way of measuring a box's side, and how much faces differ (a small spread: the rule suits them all).
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import get_args

import numpy as np

import facedet
from pipeline.calibrate import LOOSE_IOU, Sample, geometric_rule
from pipeline.crops import Side, rule_for, square_boxes
from pipeline.matching import match_boxes
from pipeline.sources import Source, find_photos

SURE = 0.9
"""Only boxes that the cascade is this sure of are taken for faces."""
NO_PATCH = np.zeros((0, 0, 3), np.uint8)


def pairs(sources: list[Source], detector: facedet.FaceDetector, cascade: facedet.FaceDetector) -> list[Sample]:
    """Faces that both found; the "true" square is the one that the cascade's rule cuts."""
    samples = []
    for number, source in enumerate(sources):
        pixels = source.load().pixels_bgr
        reference = cascade.detect([pixels])[0]
        sure = reference.boxes_xyxy[reference.scores >= SURE]
        squares = square_boxes(sure, rule=rule_for("haar")).astype(np.float32)
        boxes = detector.detect([pixels])[0].boxes_xyxy
        owners = match_boxes(boxes, squares, np.ones(len(squares), bool), LOOSE_IOU)
        for box, owner in zip(boxes, owners.tolist(), strict=True):
            if owner >= 0:
                samples.append(Sample(number, NO_PATCH, box, squares[owner], label=-1))
    return samples


def main(options: argparse.Namespace) -> None:
    """Print a line per side rule."""
    sources = find_photos([str(options.photos)])[: options.limit]
    detector = facedet.load_detector(options.detector, threads=options.threads)
    cascade = facedet.load_detector("haar", threads=options.threads)
    samples = pairs(sources, detector, cascade)
    print(f"{len(samples)} faces in {len(sources)} photos; {options.detector} now: {rule_for(detector.name)}")
    if not samples:
        return
    for side in get_args(Side):
        rule, spread = geometric_rule(samples, side)
        print(f"{side:<8} scale {rule.scale:.3f}  shift_y {rule.shift_y:+.3f}  spread {100 * spread:.1f} %")


def parse() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photos", type=Path)
    parser.add_argument("--detector", default="compact")
    parser.add_argument("--limit", type=int, default=300, help="photos at most")
    parser.add_argument("--threads", type=int, default=1)
    return parser.parse_args()


if __name__ == "__main__":
    main(parse())
