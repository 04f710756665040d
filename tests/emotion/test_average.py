"""The mean of two trained networks."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from emotion import WeightsError
from emotion.average import average
from emotion.checkpoint import load_checkpoint
from emotion.cli import app
from emotion.presets import KERAS
from emotion.train import train
from tests.emotion.factories import make_split, write_checkpoint, write_zip


def test_the_mean_lies_between_and_names_both(tmp_path: Path) -> None:
    first, second = (write_checkpoint(tmp_path / name, "mini_xception") for name in "ab")
    saved = torch.load(second, weights_only=True)
    saved["network"] = {k: v + 1 if v.is_floating_point() else v for k, v in saved["network"].items()}
    saved["metadata"]["metrics"] |= {"eval_size": 40}
    torch.save(saved, second)
    saved["metadata"]["metrics"] |= {"train_images": 14, "public_accuracy": 0.7}
    torch.save({**saved, "network": torch.load(first, weights_only=True)["network"]}, first)
    words = ["average", str(first.parent), str(second), "--share", "0.25", "-o", str(tmp_path / "new" / "mean.pt")]
    result = CliRunner().invoke(app, words)
    assert result.exit_code == 0, result.output
    a, b, mean = (load_checkpoint(path) for path in (first, second, tmp_path / "new" / "mean.pt"))
    for name, value in mean.network.state_dict().items():
        x, y = a.network.state_dict()[name], b.network.state_dict()[name]
        assert torch.allclose(value, 0.75 * x + 0.25 * y) if value.is_floating_point() else torch.equal(value, x)
    assert mean.card.training["averaged"] == [a.identity, b.identity]
    assert mean.card.training["share"] == 0.25
    assert mean.card.training["metrics"] == {"eval_size": 40, "train_images": 14}
    assert mean.card.input_size == 40


def test_last_pt_counts_by_its_moving_average(tmp_path: Path) -> None:
    """After one epoch the best checkpoint is the last one."""
    data = write_zip(tmp_path / "archive.zip", {"train": make_split(2, 1), "public": make_split(1, 2)})
    config = dataclasses.replace(KERAS, model="mini_xception", epochs=1, batch_size=7, keep_falls=False, ema_decay=0.5)
    train(config, data, tmp_path / "run")
    best, last = load_checkpoint(tmp_path / "run"), load_checkpoint(tmp_path / "run" / "last.pt")
    for name, value in best.network.state_dict().items():
        assert torch.equal(last.network.state_dict()[name], value)
    assert last.card.labels == best.card.labels


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"--share": "1"}, "share 1.0: expected above 0 and below 1"),
        ({"second": "cnn1"}, "cnn1 for angry, disgust"),
        ({"second": "nowhere"}, "no such checkpoint"),
    ],
)
def test_what_has_no_mean_is_refused(change: dict[str, str], message: str, tmp_path: Path) -> None:
    first = write_checkpoint(tmp_path / "a", "mini_xception")
    second = str(first)
    if change.get("second") == "cnn1":
        second = str(write_checkpoint(tmp_path / "b", "cnn1"))
    elif "second" in change:
        second = str(tmp_path / change["second"])
    words = ["average", str(first), second, "--share", change.get("--share", "0.5"), "-o", str(tmp_path / "mean.pt")]
    result = CliRunner().invoke(app, words)
    assert result.exit_code == 2
    assert message in result.output
    assert not (tmp_path / "mean.pt").exists()


@pytest.mark.parametrize(
    ("setting", "message"), [({"eval_size": 40}, "neutral, 40 px, view 0.9167"), ({"view": 0.5}, "44 px, view 0.5")]
)
def test_networks_for_other_inputs_have_no_mean(setting: dict[str, float], message: str, tmp_path: Path) -> None:
    first, second = (write_checkpoint(tmp_path / name, "mini_xception") for name in "ab")
    saved = torch.load(second, weights_only=True)
    saved["metadata"]["config"] |= setting
    torch.save(saved, second)
    with pytest.raises(WeightsError, match=f"{message}: expected mini_xception for .*, 44 px, view 0.9167, as in"):
        average(first, second, tmp_path / "mean.pt")
    assert not (tmp_path / "mean.pt").exists()
