"""Evaluations as text, JSON and plots."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from emotion import EMOTIONS
from pipeline.errors import MissingExtra
from pipeline.evaluate import Evaluation, Figure, Row
from pipeline.truth import Truth
from pipeline.whole_file import whole_file

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as Plot

FIGURES = {
    "correct": "correct, of all faces",
    "found": "found, of all faces",
    "precision": "of the detections, faces",
    "false_alarms_per_photo": "false alarms per photo",
    "detection_ap": "detection AP at IoU 0.5",
    "joint_map": "joint mAP over the emotions",
    "emotion_on_found": "emotion accuracy, found faces",
    "emotion_on_true_boxes": "emotion accuracy, true boxes",
    "lost_by_detector": "lost by the detector",
    "lost_by_crop": "lost by the crop",
    "lost_by_classifier": "lost by the classifier",
}
"""What a reader is told each figure is, in this order."""
COLOURS = {"correct": "#009E73", "wrong": "#E69F00", "missed": "#999999"}
LOSS_COLOURS = {
    "correct": "#009E73",
    "lost_by_detector": "#999999",
    "lost_by_crop": "#CC79A7",
    "lost_by_classifier": "#E69F00",
}


def as_dict(truth: Truth, evaluations: Sequence[Evaluation]) -> dict[str, Any]:
    """Everything, ready for JSON."""
    return {
        "truth": str(truth.path),
        "photos": len(truth.photos),
        "faces": truth.face_count,
        "settings": [evaluation.to_dict() for evaluation in evaluations],
    }


def to_text(truth: Truth, evaluations: Sequence[Evaluation]) -> str:
    """A table per setting, and one that compares their figures."""
    parts = [f"{len(truth.photos):,} photos, {truth.face_count:,} faces"]
    for evaluation in evaluations:
        parts.append(f"{evaluation.setting} ({evaluation.detector}, {evaluation.emotion_model})\n" + _table(evaluation))
    return "\n\n".join([*parts, _comparison(evaluations)])


def write_report(folder: Path, truth: Truth, evaluations: Sequence[Evaluation]) -> list[Path]:
    """Write evaluation.json, evaluation.txt and four plots into a folder; returns their paths.

    Raises MissingExtra without matplotlib, OSError when the folder cannot be written.
    """
    try:
        import matplotlib
    except ImportError as error:
        raise MissingExtra("the plots of --report need matplotlib: pip install 'crowdmood[train]'") from error
    matplotlib.use("Agg")
    text = json.dumps(as_dict(truth, evaluations), indent=1, ensure_ascii=False)
    written = [folder / "evaluation.json", folder / "evaluation.txt"]
    for path, content in zip(written, (text, to_text(truth, evaluations)), strict=True):
        with whole_file(path) as stream:
            stream.write(content.encode() + b"\n")
    for name, draw in (
        ("by_size", _draw_sizes),
        ("losses", _draw_losses),
        ("confusion", _draw_confusions),
        ("curves", _draw_curves),
    ):
        path = folder / f"{name}.png"
        with whole_file(path) as stream:
            draw(evaluations).savefig(stream, format="png", dpi=120)
        written.append(path)
    return written


def _table(evaluation: Evaluation) -> str:
    head = f"{'':<18}{'faces':>8}{'correct':>9}{'wrong':>8}{'missed':>8}{'false alarms':>14}"
    rows = [*evaluation.by_size, None, *evaluation.by_emotion, None, evaluation.total]
    lines = [_table_line(row) if row else "" for row in rows]
    if evaluation.total.not_judged:
        lines.append(f"of the missed, {evaluation.total.not_judged} were found but are too small for an emotion")
    return "\n".join([head, *lines])


def _table_line(row: Row) -> str:
    return f"{row.name:<18}{row.faces:>8}{row.correct:>9}{row.wrong:>8}{row.missed:>8}{row.false_alarms:>14}"


def _comparison(evaluations: Sequence[Evaluation]) -> str:
    width = max(22, *(len(e.setting) + 2 for e in evaluations))
    lines = [f"{'':<32}" + "".join(f"{e.setting:>{width}}" for e in evaluations)]
    for name, told in FIGURES.items():
        if any(name in e.figures for e in evaluations):
            cells = (_cell(name, e.figures.get(name)) for e in evaluations)
            lines.append(f"{told:<32}" + "".join(f"{cell:>{width}}" for cell in cells))
    if len(evaluations) > 1:
        cells = ("" if e.gain is None else _cell("gain", e.gain) for e in evaluations)
        lines.append(f"{'correct, more than the first':<32}" + "".join(f"{cell:>{width}}" for cell in cells))
    return "\n".join([*lines, "Shares in %; in brackets 95 % intervals over photos."])


def _cell(name: str, figure: Figure | None) -> str:
    if figure is None or figure.value is None:
        return "-"
    factor, digits = (1, 2) if name == "false_alarms_per_photo" else (100, 1)
    value = f"{factor * figure.value:.{digits}f}"
    if figure.low is None or figure.high is None:
        return value
    return f"{value} [{factor * figure.low:.{digits}f}, {factor * figure.high:.{digits}f}]"


def _plots(count: int, *, width: float = 5.0, height: float = 4.2) -> tuple[Plot, list[Axes]]:
    """A row of axes, one per setting."""
    from matplotlib.figure import Figure as Plot

    plot = Plot(figsize=(width * count, height), layout="constrained")
    return plot, list(plot.subplots(1, count, squeeze=False)[0])


def _draw_sizes(evaluations: Sequence[Evaluation]) -> Plot:
    plot, all_axes = _plots(len(evaluations))
    for axes, evaluation in zip(all_axes, evaluations, strict=True):
        rows = [row for row in evaluation.by_size if row.faces]
        left = np.zeros(len(rows))
        for outcome, colour in COLOURS.items():
            shares = np.array([100 * getattr(row, outcome) / row.faces for row in rows])
            axes.barh(
                [f"{row.name}\n{row.faces} faces" for row in rows], shares, left=left, color=colour, label=outcome
            )
            left += shares
        axes.set(title=evaluation.setting, xlabel="% of true faces", xlim=(0, 100))
    all_axes[0].legend(loc="lower left", fontsize="small")
    return plot


def _draw_losses(evaluations: Sequence[Evaluation]) -> Plot:
    plot, (axes,) = _plots(1, width=8, height=1.6 + 0.5 * len(evaluations))
    for number, evaluation in enumerate(evaluations):
        left = 0.0
        for name, colour in LOSS_COLOURS.items():
            figure = evaluation.figures.get(name)
            points = 100 * figure.value if figure is not None and figure.value is not None else 0.0
            label = name.replace("_", " ") if number == 0 else None
            axes.barh(evaluation.setting, points, left=left, color=colour, label=label)
            if abs(points) >= 3:
                axes.text(left + points / 2, number, f"{points:.1f}", ha="center", va="center", fontsize="small")
            left += points
    axes.set(xlabel="of 100 true faces", xlim=(0, 100))
    axes.legend(
        ncols=4, fontsize="small", loc="upper center", bbox_to_anchor=(0.5, -0.35 / (1 + 0.3 * len(evaluations)))
    )
    return plot


def _draw_confusions(evaluations: Sequence[Evaluation]) -> Plot:
    plot, all_axes = _plots(len(evaluations), width=5.6, height=5.0)
    for axes, evaluation in zip(all_axes, evaluations, strict=True):
        counts = evaluation.confusion
        axes.imshow(counts / np.maximum(counts.sum(1, keepdims=True), 1), cmap="Blues", vmin=0, vmax=1)
        for (i, j), n in np.ndenumerate(counts):
            dark = n > 0.5 * max(counts[i].sum(), 1)
            axes.text(j, i, str(n), ha="center", va="center", fontsize="small", color="white" if dark else "black")
        axes.set_xticks(range(8), [*EMOTIONS, "missed"], rotation=45, ha="right")
        axes.set_yticks(range(8), [*EMOTIONS, "no face"])
        axes.set(title=evaluation.setting, xlabel="said", ylabel="true")
    return plot


def _draw_curves(evaluations: Sequence[Evaluation]) -> Plot:
    plot, (axes,) = _plots(1, width=6)
    for evaluation in evaluations:
        ap = _cell("detection_ap", evaluation.figures["detection_ap"])
        axes.plot(*evaluation.curve.T, label=f"{evaluation.setting}: AP {ap}")
    axes.set(xlabel="recall", ylabel="precision", xlim=(0, 1), ylim=(0, 1.02), title="Faces at IoU 0.5")
    axes.grid(alpha=0.3)
    axes.legend(loc="lower left", fontsize="small")
    return plot
