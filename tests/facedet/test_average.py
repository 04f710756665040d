"""The mean of two compact detectors."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from facedet.cli import app
from facedet.detectors.compact import load_compact
from facedet.export import export_compact, load_compact_checkpoint
from facedet.models.compact import compact


@pytest.fixture
def two(tmp_path: Path) -> list[Path]:
    """A network of today and a shallower one."""
    files = []
    for seed, network in enumerate([compact, lambda: compact((1, 2, 2), (0, 0, 0))]):
        torch.manual_seed(seed)
        files.append(tmp_path / f"{seed}.pt")
        torch.save({"network": network().state_dict(), "metadata": {"seed": seed}}, files[-1])
    return files


def test_the_mean_lies_between_and_can_be_exported(two: list[Path], tmp_path: Path) -> None:
    words = ["average", *map(str, two), "--share", "0.25", "-o", str(tmp_path / "new" / "mean.pt")]
    result = CliRunner().invoke(app, words)
    assert result.exit_code == 0, result.output
    (a, _), (b, _), (mean, about) = (load_compact_checkpoint(p) for p in (*two, tmp_path / "new" / "mean.pt"))
    shared = b.state_dict()
    for name, value in mean.state_dict().items():
        if name in shared and value.is_floating_point():
            assert torch.allclose(value, 0.75 * a.state_dict()[name] + 0.25 * shared[name], atol=1e-6)
    assert about == {"seed": 0, "averaged_with": {"seed": 1}, "share": 0.25}
    export_compact(tmp_path / "new" / "mean.pt", tmp_path / "mean.onnx")
    assert load_compact(tmp_path / "mean.onnx", threads=1).detect([np.zeros((60, 60, 3), np.uint8)])


@pytest.mark.parametrize(
    ("share", "second", "message"), [("0", "1.pt", "share 0.0: expected above 0"), ("0.5", "no.pt", "cannot be read")]
)
def test_what_has_no_mean_is_refused(share: str, second: str, message: str, two: list[Path], tmp_path: Path) -> None:
    words = ["average", str(two[0]), str(tmp_path / second), "--share", share, "-o", str(tmp_path / "mean.pt")]
    result = CliRunner().invoke(app, words)
    assert result.exit_code == 2
    assert message in result.output
    assert not (tmp_path / "mean.pt").exists()
