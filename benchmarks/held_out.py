"""AP over all photos of a small set, each part of them held out of training once.

    python -m benchmarks.held_out dataturks -o folds                       # writes folds/0, folds/1, folds/2
    facedet train --data folds/0 ... --eval-every STEPS --out runs/0       # and 1, 2; choose nothing on their val split
    python -m benchmarks.held_out dataturks -o folds --tuned runs/*/model_last.pth --beside haar compact --yunet FILE

Part K is what `int(sha256(file name), 16) % PARTS` puts there: the val split of folds/K, whose train split is the rest.
The k-th tuned detector reads the photos of part k, the others read all, from score 0.02 on; the parts are measured
together. Intervals are 95 %, by resampling photos.
"""

from __future__ import annotations

import argparse
import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.detectors import MIN_SCORE, SHOWN, YuNet, cell, less
from facedet import load_detector
from facedet.data.coco import FaceDataset
from facedet.data.load import load_data
from facedet.evaluate import Measured, measure
from facedet.intervals import differences, intervals

METRICS = SHOWN["coco"]


def write_folds(data: Path, out: Path, parts: int) -> list[FaceDataset]:
    """A prepared folder for each part, its photos linked; returns the parts."""
    content = json.loads((data / "annotations.json").read_text(encoding="utf-8"))
    names = [image["file_name"] for image in content["images"]]
    held_out = [int(hashlib.sha256(name.encode()).hexdigest(), 16) % parts for name in names]
    for part in range(parts):
        folder = out / str(part)
        folder.mkdir(parents=True, exist_ok=True)
        if not (folder / "images").exists():
            (folder / "images").symlink_to((data / "images").resolve(), target_is_directory=True)
        images = [
            {**image, "split": "val" if of == part else "train"}
            for image, of in zip(content["images"], held_out, strict=True)
        ]
        (folder / "annotations.json").write_text(json.dumps({**content, "images": images}), encoding="utf-8")
    return [load_data(out / str(part), split="val") for part in range(parts)]


def measured(parts: Sequence[FaceDataset], detectors: Sequence[Any]) -> Measured:
    """All parts together, each read by its own detector."""
    photos = [photo for part in parts for photo in part.photos]
    found = [
        detector.detect([photo.read()])[0]
        for part, detector in zip(parts, detectors, strict=True)
        for photo in part.photos
    ]
    return measure(FaceDataset("held out", parts[0].images_dir, tuple(photos)), found)


def table(rows: dict[str, Measured], photos: int) -> str:
    """Markdown: every row with its intervals, and the first less each of the others."""
    lines = ["| | " + " | ".join(METRICS) + " |", "|---" * (len(METRICS) + 1) + "|"]
    first, ours = next(iter(rows.items()))
    for label, row in rows.items():
        ends = intervals(row.resampled, photos)
        lines.append(_line(label, [cell(row.metrics[name], ends.get(name)) for name in METRICS]))
    for label, theirs in list(rows.items())[1:]:
        ends = differences(ours.resampled, theirs.resampled, photos)
        gains = {name: less(ours.metrics[name], theirs.metrics[name]) for name in METRICS}
        lines.append(_line(f"{first} less {label}", [cell(gains[name], ends.get(name), sign="+") for name in METRICS]))
    return "\n".join(lines) + "\n"


def _line(label: str, cells: Sequence[str]) -> str:
    return f"| {label} | " + " | ".join(cells) + " |"


def main(words: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="prepared folder")
    parser.add_argument("-o", "--out", type=Path, required=True)
    parser.add_argument("--parts", type=int, default=3)
    parser.add_argument("--tuned", nargs="+", default=[], help="a detector for each part")
    parser.add_argument("--beside", nargs="+", default=[], help="detectors that were not tuned")
    parser.add_argument("--yunet", type=Path, help="YuNet's ONNX file")
    given = parser.parse_args(words)
    if given.tuned and len(given.tuned) != given.parts:
        parser.error(f"--tuned: expected a detector for each of {given.parts} parts, got {len(given.tuned)}")
    parts = write_folds(given.data, given.out, given.parts)
    for part, photos in enumerate(parts):
        print(f"{given.out / str(part)}: {len(photos)} photos held out, {photos.face_count} faces")
    rows = {}
    if given.tuned:
        rows["tuned"] = measured(parts, [load_detector(name, min_score=MIN_SCORE) for name in given.tuned])
    if given.yunet:
        rows["YuNet"] = measured(parts, [YuNet(str(given.yunet), scale=None)] * given.parts)
    for name in given.beside:
        rows[name] = measured(parts, [load_detector(name, min_score=MIN_SCORE)] * given.parts)
    if rows:
        print(table(rows, sum(len(part) for part in parts)))


if __name__ == "__main__":
    main()
