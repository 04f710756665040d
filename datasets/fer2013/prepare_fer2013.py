"""Check a copy of FER-2013 against the card beside this file: counts per split and emotion, duplicates across splits.

    python datasets/fer2013/prepare_fer2013.py [PATH]

PATH is fer2013.csv, Kaggle's archive.zip or its unpacked folder; default $CROWDMOOD_DATASETS/fer2013/archive.zip.
Nothing is written: `emotion train` and `emotion evaluate` read PATH as it is.
Exit code 1 when a count differs or a split is missing.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import numpy as np

from emotion import EMOTIONS
from emotion.data import FerSplit, count_report, drop_duplicates, load_fer2013
from emotion.errors import DataError

HERE = Path(__file__).resolve().parent


def default_path() -> Path:
    """Where the data lies when nobody says."""
    root = os.environ.get("CROWDMOOD_DATASETS")
    return (Path(root) / "fer2013" if root else HERE / "data") / "archive.zip"


def load_present(path: Path) -> dict[str, FerSplit]:
    """The splits that `path` holds; says which it does not. Raises DataError when it holds none."""
    found, missing = {}, {}
    for split in ("train", "public", "private"):
        try:
            found[split] = load_fer2013(path, split)
        except DataError as error:
            missing[split] = error
    if not found:
        raise missing["train"]
    for split, error in missing.items():
        print(f"{split:8} missing: {error}")
    return found


def main(path: Path) -> int:
    """Print the counts; 0 when all are the official ones."""
    try:
        splits = load_present(path)
    except DataError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    differences = []
    for name, split in splits.items():
        per_class = np.bincount(split.labels, minlength=len(EMOTIONS))
        counts = "  ".join(f"{emotion} {count:,}" for emotion, count in zip(EMOTIONS, per_class, strict=True))
        print(f"{name:8} {len(split):,} images: {counts}")
        differences += [report for report in [count_report(name, split)] if report]
    held_out = [splits[name] for name in ("public", "private") if name in splits]
    if "train" in splits and held_out:
        print(f"{drop_duplicates(splits['train'], *held_out)[1]:,} images of train occur in a held-out split as well")
    print(*(differences or ["the counts of the splits above are the official ones"]), sep="\n")
    return 1 if differences or len(splits) < 3 else 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]) if len(sys.argv) > 1 else default_path()))
