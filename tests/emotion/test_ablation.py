"""benchmarks/emotion_ablation.py on made faces: it runs as people run it, goes on, and its table is complete."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

from tests.emotion.factories import make_split, write_zip

ROOT = Path(__file__).resolve().parents[2]


def test_a_row_per_variant(tmp_path: Path) -> None:
    data = write_zip(tmp_path / "archive.zip", {"train": make_split(2, 1), "public": make_split(1, 2)})
    base = {"model": "mini_xception", "ferplus_weight": 0, "batch_size": 7, "size_schedule": [[0, 48]]}
    variants = {"base": base, "mixup": {"mixup": 0.2}, "no flip": {"augmentation": {"flip": 0}}}
    (tmp_path / "variants.json").write_text(json.dumps(variants))
    words = ["--data", str(data), "-o", str(tmp_path / "runs"), "--epochs", "1"]
    words += ["--variants", str(tmp_path / "variants.json"), "--write", str(tmp_path / "table.md"), "--only", "no flip"]
    words += ["--at-once", "2"]
    done = subprocess.run(
        [sys.executable, str(ROOT / "benchmarks" / "emotion_ablation.py"), *words],
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    rows = (tmp_path / "table.md").read_text().splitlines()[2:]
    assert len(rows) == 2
    assert re.match(r'\| base \| model "mini_xception", ferplus_weight 0, .* \| \d+\.\d % \| .* \| - \| - \|', rows[0])
    assert re.match(r'\| no flip \| augmentation \{"flip": 0\} \| \d+\.\d % \| .* \| [+-]\d+\.\d points \| ', rows[1])
    config = json.loads((tmp_path / "runs" / "no-flip" / "config.json").read_text())
    assert (config["model"], config["augmentation"]["flip"], config["mixup"]) == ("mini_xception", 0, 0)
