"""benchmarks/detectors.py on one made photo: it runs as people run it, and its table and files are complete."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

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
