"""Prepare Dataturks' faces for training: checked photos and boxes in COCO form, split by photo.

    python datasets/dataturks/prepare_dataturks.py [face_detection.json] [options of `facedet prepare dataturks`]

The annotation file is $CROWDMOOD_DATASETS/dataturks/face_detection.json, or data/face_detection.json beside this
script, unless named; photos in images/ beside it are used as they are; the result goes to data/prepared beside this
script unless `-o` says otherwise.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent


def main(arguments: list[str]) -> int:
    """Call `facedet prepare dataturks` with the usual places filled in; returns its exit code."""
    root = os.environ.get("CROWDMOOD_DATASETS")
    annotations = (Path(root) / "dataturks" if root else HERE / "data") / "face_detection.json"
    if arguments and not arguments[0].startswith("-"):
        annotations, arguments = Path(arguments[0]), arguments[1:]
    command = [sys.executable, "-m", "facedet", "prepare", "dataturks", str(annotations), *arguments]
    if "--images" not in arguments and (annotations.parent / "images").is_dir():
        command += ["--images", str(annotations.parent / "images")]
    if not {"-o", "--out"} & set(arguments):
        command += ["--out", str(HERE / "data" / "prepared")]
    return subprocess.run(command, check=False).returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
