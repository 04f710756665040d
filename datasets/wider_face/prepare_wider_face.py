"""Prepare WIDER FACE for training or measuring: checked photos and boxes in COCO form.

    python datasets/wider_face/prepare_wider_face.py [FOLDER] [options of `facedet prepare wider`]

FOLDER holds images/ and wider_face_*_bbx_gt.txt; default $CROWDMOOD_DATASETS/wider_face/dev, or data/dev beside this
script. The result goes to data/prepared beside this script unless `-o` says otherwise. To measure only, nothing needs
to be prepared: `facedet evaluate --data FOLDER --protocol wider` reads FOLDER as it is.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent


def main(arguments: list[str]) -> int:
    """Call `facedet prepare wider` with the usual places filled in; returns its exit code."""
    root = os.environ.get("CROWDMOOD_DATASETS")
    folder = (Path(root) / "wider_face" if root else HERE / "data") / "dev"
    if arguments and not arguments[0].startswith("-"):
        folder, arguments = Path(arguments[0]), arguments[1:]
    command = [sys.executable, "-m", "facedet", "prepare", "wider", str(folder), *arguments]
    if not {"-o", "--out"} & set(arguments):
        command += ["--out", str(HERE / "data" / "prepared")]
    return subprocess.run(command, check=False).returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
