"""benchmarks/epoch_choice.py: what choosing an epoch adds, where the answer is known, and the command on made faces."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from tests.emotion.factories import make_split, write_zip

SCRIPT = Path(__file__).resolve().parents[2] / "benchmarks" / "epoch_choice.py"


@pytest.fixture(scope="module")
def epoch_choice() -> ModuleType:
    spec = importlib.util.spec_from_file_location("epoch_choice", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_choosing_among_equals_flatters_and_gains_nothing(epoch_choice: ModuleType) -> None:
    right = np.random.default_rng(1).random((40, 800)) < 0.6
    there, elsewhere, spread = epoch_choice.compared(right.astype(float), right)
    # The best of 40 halves of 400 images is 2.2 standard deviations above 0.6, one being 0.0245.
    assert there == pytest.approx(0.6 + 2.2 * 0.0245, abs=0.012)
    assert elsewhere == pytest.approx(0.6, abs=0.012)
    assert spread > 0.03


def test_an_epoch_that_is_better_for_all_is_chosen_everywhere(epoch_choice: ModuleType) -> None:
    right = np.zeros((3, 100), bool)
    right[1, ::2], right[2, ::4] = True, True
    there, elsewhere, _ = epoch_choice.compared(right.astype(float), right)
    assert (there + elsewhere) / 2 == pytest.approx(0.5)
    assert abs(there - elsewhere) < 0.01


def test_the_command_trains_once_and_reads_then(tmp_path: Path) -> None:
    data = write_zip(tmp_path / "archive.zip", {"train": make_split(10, 1), "public": make_split(2, 2)})
    words = ["--data", str(data), "-o", str(tmp_path / "run"), "--model", "simple_cnn", "--epochs", "2"]
    outputs = []
    for _ in range(2):
        done = subprocess.run(
            [sys.executable, str(SCRIPT), *words],
            env={**os.environ, "PYTHONPATH": str(SCRIPT.parents[1]), "OMP_NUM_THREADS": "1"},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        outputs.append(done.stdout)
    assert outputs[0].startswith("epoch 1: ")
    assert outputs[1].startswith("simple_cnn, 2 epochs, 14 images")
    assert outputs[0].endswith(outputs[1])
    assert [line.split("|")[1].strip() for line in outputs[1].splitlines()[4:7]] == [
        "highest accuracy",
        "lowest loss",
        "the last one",
    ]
