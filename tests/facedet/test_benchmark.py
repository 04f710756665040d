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
from facedet.data.images import read_photo
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
