"""The curves of a run, drawn from its log.jsonl."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from emotion.errors import DataError


def read_log(run: str | Path) -> list[dict[str, Any]]:
    """The lines of a run's log.jsonl, one per epoch. Raises DataError when there is none or a line is damaged."""
    path = Path(run) / "log.jsonl"
    if not path.is_file():
        raise DataError(f"{path}: no such file: expected the folder of a run of `emotion train`")
    lines: list[dict[str, Any]] = []
    for number, text in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        try:
            line = json.loads(text)
        except json.JSONDecodeError as error:
            raise DataError(f"{path}:{number}: damaged line: {error}") from None
        if not isinstance(line, dict) or not {"epoch", "public_accuracy"} <= set(line):
            raise DataError(f"{path}:{number}: damaged line: expected epoch and public_accuracy")
        lines.append(line)
    return lines


def draw_curve(run: str | Path) -> Path:
    """Write curve.png into the run: loss and accuracy per epoch. Returns its path."""
    lines = read_log(run)
    epochs = [line["epoch"] for line in lines]
    figure = Figure(figsize=(10, 4), layout="constrained")
    loss, accuracy = figure.subplots(1, 2)
    _plot(loss, epochs, lines, {"train_loss": "Training", "public_loss": "PublicTest"})
    loss.set(title="Loss", xlabel="epoch")
    names = {"public_accuracy": "PublicTest", "ferplus_accuracy": "PublicTest by FER+"}
    _plot(accuracy, epochs, lines, {"train_accuracy": "Training (augmented)", **names})
    accuracy.set(title="Accuracy over all classes", xlabel="epoch")
    path = Path(run) / "curve.png"
    figure.savefig(path, dpi=100)
    return path


def _plot(axes: Any, epochs: list[int], lines: list[dict[str, Any]], series: dict[str, str]) -> None:
    for key, label in series.items():
        if lines and key in lines[0]:
            axes.plot(epochs, [line[key] for line in lines], label=label, marker="." if len(epochs) < 40 else "")
    axes.grid(alpha=0.3)
    if axes.get_lines():
        axes.legend()
