"""benchmarks/detectors.py on one made photo: it runs as people run it, and its table and files are complete."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from benchmarks.compact_curve import CARD, draw, rows_of
from benchmarks.detectors import Entry, Result, differences_from_yunet
from benchmarks.held_out import measured, table, write_folds
from facedet.data.coco import FaceDataset, Photo
from facedet.data.images import read_photo
from facedet.data.load import load_data
from facedet.faces import Faces
from tests.facedet.test_evaluate import wider_folder

ROOT = Path(__file__).parents[2]


def run(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(ROOT / "benchmarks" / "detectors.py"), *words],
        capture_output=True, text=True, check=False, env=os.environ | {"PYTHONPATH": str(ROOT)},
    )  # fmt: skip


@pytest.mark.slow
def test_table_json_and_plot(tmp_path: Path) -> None:
    done = run("--photos", str(wider_folder(tmp_path / "dev")), "--only", "haar", "--out", str(tmp_path / "out"))
    assert done.returncode == 0, done.stderr
    head, _, row = done.stdout.splitlines()[:3]
    assert head == "| detector | easy | medium | hard | ms, 1 thread | ms, 2 threads | peak MB |"
    assert row.startswith("| haar | 0.000 | 0.000 | 0.000 |")
    report = json.loads((tmp_path / "out" / "detectors.json").read_text())
    assert report["about"]["photos"] == "1"
    assert report["results"][0]["ms"]["1"] > 0
    assert report["results"][0]["peak_mb"]["2"] > 10
    assert (tmp_path / "out" / "detectors.png").stat().st_size > 0
    assert "processor" in (tmp_path / "out" / "detectors.md").read_text()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--yunet", "absent.onnx"], "absent.onnx: no such file"),
        (["--only", "YuNet 640"], "--only YuNet 640: expected one of haar, compact native, compact 640"),
    ],
)
def test_what_cannot_be_measured_is_said_first(words: list[str], message: str) -> None:
    done = run("--photos", "nowhere", *words)
    assert done.returncode == 2
    assert message in done.stderr


def test_compact_is_held_against_yunet_of_the_same_scale() -> None:
    def result(label: str, kind: str, scale: int | None, easy: list[float]) -> Result:
        metrics = {"easy": float(np.mean(easy)), "medium": 0.5, "hard": None}
        per_photo = np.array(easy)
        return Result(Entry(label, kind, scale=scale), metrics, {"easy": lambda draws: draws @ per_photo / 2})

    ours = [result("compact native", "compact", None, [0.9, 0.7]), result("compact 640", "compact", 640, [0.6, 0.6])]
    yunet = result("YuNet native", "yunet", None, [0.6, 0.6])
    assert differences_from_yunet([*ours, yunet], "wider", 2) == (
        "\n| difference, 95 % interval | easy | medium | hard |\n|---|---|---|---|\n"
        "| compact native less YuNet native | +0.200 [+0.100, +0.300] | - | - |\n"
    )
    assert differences_from_yunet(ours, "wider", 2) == ""


def test_every_photo_is_held_out_once(tmp_path: Path) -> None:
    (tmp_path / "data" / "images").mkdir(parents=True)
    images = [{"id": i, "file_name": f"{i}.jpg", "width": 64, "height": 48, "split": "train"} for i in range(30)]
    faces = [{"id": i, "image_id": i, "category_id": 1, "bbox": [4, 4, 20, 20], "area": 400} for i in range(30)]
    content = {"images": images, "annotations": faces, "categories": [{"id": 1, "name": "face"}]}
    (tmp_path / "data" / "annotations.json").write_text(json.dumps(content))
    parts = [{photo.name for photo in part.photos} for part in write_folds(tmp_path / "data", tmp_path / "folds", 3)]
    assert set.union(*parts) == {f"{i}.jpg" for i in range(30)}
    assert sum(len(part) for part in parts) == 30
    learned = load_data(tmp_path / "folds" / "1", split="train")
    assert {photo.name for photo in learned.photos} == parts[0] | parts[2]


def test_held_out_figures_are_of_all_parts_and_say_what_tuning_gained() -> None:
    class Fixed:
        def __init__(self, score: float) -> None:
            self.score = score

        def detect(self, images: list[np.ndarray]) -> list[Faces]:
            box = [0, 0, 40, 40] if self.score else [50, 50, 60, 60]
            return [Faces.from_raw(np.array([box], np.float32), np.array([0.5]), (64, 64)) for _ in images]

    class Made(Photo):
        def read(self) -> np.ndarray:
            return np.zeros((64, 64, 3), np.uint8)

    boxes = np.array([[0, 0, 40, 40]], np.float32)
    parts = [
        FaceDataset("made", Path("."), (Made(Path(n), n, 64, 64, boxes, np.zeros(1, np.bool_)),)) for n in ("a", "b")
    ]
    rows = {"tuned": measured(parts, [Fixed(1), Fixed(1)]), "one": measured(parts, [Fixed(1), Fixed(0)])}
    assert rows["one"].faces == 2
    lines = table(rows, 2).splitlines()
    assert lines[2].startswith("| tuned | 1.000 [1.000, 1.000] |")
    assert lines[4].startswith(f"| tuned less one | {1 - rows['one'].metrics['AP30']:+.3f} [+0.000, +1.000] |")


def test_the_curve_of_the_shipped_detector_is_drawn_from_its_card(tmp_path: Path) -> None:
    rows = rows_of(CARD.read_text(encoding="utf-8"))
    assert (rows[0].parameters_m, rows[0].photos, rows[0].crops) == (0.63, 3_555, 64_000)
    assert rows[0].native == (0.671, 0.676, 0.55)
    assert rows[0].at_640 == ()
    assert all(len(row.native) == 3 for row in rows)
    draw(rows, tmp_path / "curve.png")
    assert read_photo(tmp_path / "curve.png").shape[1] > 500
    with pytest.raises(ValueError, match="no table that begins with"):
        rows_of("no card")
