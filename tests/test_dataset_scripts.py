"""The thin scripts beside the data cards run, say what they saw, and fail when it is not what the card says."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np

ROOT = Path(__file__).resolve().parent.parent


def run_script(name: str, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONWARNINGS": "error"}
    environment.pop("CROWDMOOD_DATASETS", None)
    command = [sys.executable, str(ROOT / "datasets" / name), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, env=environment, check=False)


def test_fer2013_counts_are_compared_with_the_card(tmp_path: Path) -> None:
    pixels = " ".join(["7"] * 48 * 48)
    rows = [f"3,{pixels},Training", f"4,{pixels},Training", f"3,{pixels},PublicTest"]
    (tmp_path / "fer2013.csv").write_text("\n".join(["emotion,pixels,Usage", *rows]) + "\n")
    done = run_script("fer2013/prepare_fer2013.py", tmp_path / "fer2013.csv")
    assert done.returncode == 1
    assert "train    2 images: angry 0  disgust 0  fear 0  happy 1  sad 1  surprise 0  neutral 0" in done.stdout
    assert "private  missing: " in done.stdout
    assert "2 images of train occur in a held-out split as well" in done.stdout
    assert "split 'public' has 1 images; the official FER-2013 has 3,589" in done.stdout


def test_fer2013_that_is_not_there(tmp_path: Path) -> None:
    done = run_script("fer2013/prepare_fer2013.py", tmp_path / "gone.zip")
    assert done.returncode == 2
    assert done.stderr.startswith(f"error: {tmp_path / 'gone.zip'}: no such file or folder")


def test_dataturks_takes_the_photos_beside_its_file(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    cv2.imwrite(str(tmp_path / "images" / "a.jpg"), np.full((40, 60, 3), 128, np.uint8))
    points = [{"x": 0.1, "y": 0.1}, {"x": 0.5, "y": 0.9}]
    box = {"label": ["Face"], "points": points, "imageWidth": 60, "imageHeight": 40}
    line = {"content": "http://example.invalid/x/a.jpg", "annotation": [box]}
    (tmp_path / "face_detection.json").write_text(json.dumps(line))
    done = run_script(
        "dataturks/prepare_dataturks.py", tmp_path / "face_detection.json", "-o", tmp_path / "out", "--no-download"
    )
    assert done.returncode == 0, done.stderr
    annotations = json.loads((tmp_path / "out" / "annotations.json").read_text())["annotations"]
    assert [annotation["bbox"] for annotation in annotations] == [[6.0, 4.0, 24.0, 32.0]]


def test_wider_face_takes_its_own_layout(tmp_path: Path) -> None:
    (tmp_path / "images" / "0--Parade").mkdir(parents=True)
    cv2.imwrite(str(tmp_path / "images" / "0--Parade" / "p.jpg"), np.full((40, 60, 3), 128, np.uint8))
    truth = "0--Parade/p.jpg\n2\n5 6 20 22 0 0 0 0 0 0\n30 6 20 22 0 0 0 1 0 0\n"
    (tmp_path / "wider_face_val_bbx_gt.txt").write_text(truth)
    done = run_script("wider_face/prepare_wider_face.py", tmp_path, "--out", tmp_path / "out")
    assert done.returncode == 0, done.stderr
    annotations = json.loads((tmp_path / "out" / "annotations.json").read_text())["annotations"]
    assert [(a["bbox"], a["iscrowd"]) for a in annotations] == [
        ([5.0, 6.0, 20.0, 22.0], 0),
        ([30.0, 6.0, 20.0, 22.0], 1),
    ]
