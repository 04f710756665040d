"""One HTML page per evaluation: figures, PNG diagrams and the most confident mistakes."""

from __future__ import annotations

import json
from html import escape
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
from matplotlib.figure import Figure

from emotion.calibration import reliability
from emotion.curve import draw_curve
from emotion.evaluate import Evaluation, Predictions
from emotion.views import probabilities

MISTAKES = 40

PAGE = """<!doctype html>
<html lang="en"><meta charset="utf-8"><title>{title}</title>
<style>
 body {{ font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 62rem; padding: 0 1rem; color: #222 }}
 table {{ border-collapse: collapse; margin: 1rem 0 }} td, th {{ padding: .25rem .8rem; text-align: right }}
 td:first-child, th:first-child {{ text-align: left }} tr {{ border-bottom: 1px solid #ddd }}
 img {{ max-width: 100% }} figure {{ display: inline-block; margin: .4rem; text-align: center; font-size: 12px }}
 figure img {{ width: 96px; image-rendering: pixelated }}
</style>
<h1>{title}</h1>
<table>{summary}</table>
<h2>Per class</h2><table>{classes}</table>
<h2>Confusion</h2><img src="confusion.png" alt="Confusion matrix: rows are labels, columns predictions">
<h2>Reliability</h2><img src="reliability.png" alt="Accuracy over confidence, before and after the temperature">
<h2>Class balance</h2><img src="balance.png" alt="Images per class: labels and predictions">
{curves}
<h2>Most confident mistakes</h2>{gallery}
</html>
"""


def write_report(predictions: Predictions, evaluation: Evaluation, out: str | Path, *, run: Path | None = None) -> Path:
    """Write index.html, its PNGs and evaluation.json into the folder `out`; returns the page.

    run: a run folder whose training curves are added. An earlier report's pictures are removed.
    """
    out = Path(out)
    (out / "mistakes").mkdir(parents=True, exist_ok=True)
    for picture in [out / "curve.png", *(out / "mistakes").glob("[0-9]*.png")]:
        picture.unlink(missing_ok=True)
    (out / "evaluation.json").write_text(json.dumps(evaluation.to_dict(), indent=1), encoding="utf-8")
    _draw_confusion(evaluation, out / "confusion.png")
    _draw_reliability(predictions, out / "reliability.png")
    _draw_balance(predictions, out / "balance.png")
    curves = ""
    if run is not None:
        (out / "curve.png").write_bytes(draw_curve(run).read_bytes())
        curves = '<h2>Training</h2><img src="curve.png" alt="Loss and accuracy per epoch">'
    page = out / "index.html"
    page.write_text(
        PAGE.format(
            title=escape(f"{evaluation.model} on {evaluation.split}"),
            summary=_rows(summary_rows(evaluation)),
            classes=_rows(class_rows(evaluation), head=True),
            curves=curves,
            gallery=_gallery(predictions, out / "mistakes"),
        ),
        encoding="utf-8",
    )
    return page


def summary_rows(evaluation: Evaluation) -> list[tuple[str, ...]]:
    """Name and value of each overall figure, as text."""
    rows: list[tuple[str, ...]] = [
        ("images", f"{evaluation.images:,}"),
        ("views per face", evaluation.test_time),
        ("accuracy", f"{evaluation.accuracy:.4f}"),
        ("95 % interval", _interval(evaluation.accuracy_interval)),
        ("balanced accuracy", f"{evaluation.balanced_accuracy:.4f}"),
        ("95 % interval", _interval(evaluation.balanced_accuracy_interval)),
        ("macro F1", f"{evaluation.macro_f1:.4f}"),
        ("95 % interval", _interval(evaluation.macro_f1_interval)),
        (
            "binary accuracy and recall, for comparison only",
            f"{evaluation.binary_accuracy:.4f}, {evaluation.binary_recall:.4f}",
        ),
        ("log loss", f"{evaluation.log_loss:.4f}"),
        ("calibration error, raw", f"{evaluation.ece_before:.4f}"),
        (f"calibration error, temperature {evaluation.temperature:.3f}", f"{evaluation.ece_after:.4f}"),
    ]
    left_out = (
        (evaluation.without_duplicates, f"{evaluation.duplicates} duplicates"),
        (evaluation.without_near_copies, f"{evaluation.near_copies} duplicates and near copies"),
    )
    rows += [(f"accuracy without {what}", f"{value:.4f}") for value, what in left_out if value is not None]
    if evaluation.duplicates_by_heart is not None:
        rows.append(("accuracy with the duplicates known by heart", f"{evaluation.duplicates_by_heart:.4f}"))
    if evaluation.ferplus_accuracy is not None:
        rows.append((f"FER+ accuracy ({evaluation.ferplus_images:,} images)", f"{evaluation.ferplus_accuracy:.4f}"))
    return rows


def class_rows(evaluation: Evaluation) -> list[tuple[str, ...]]:
    """A heading and one row of text per class."""
    rows: list[tuple[str, ...]] = [("class", "images", "precision", "recall", "95 % interval", "F1", "AUC")]
    for c in evaluation.per_class:
        auc = "-" if c.auc is None else f"{c.auc:.3f}"
        recall = (f"{c.recall:.3f}", _interval(c.recall_interval, digits=3))
        rows.append((c.name, f"{c.images:,}", f"{c.precision:.3f}", *recall, f"{c.f1:.3f}", auc))
    return rows


def _interval(interval: tuple[float, float] | None, *, digits: int = 4) -> str:
    return "-" if interval is None else f"{interval[0]:.{digits}f} to {interval[1]:.{digits}f}"


def _rows(rows: list[tuple[str, ...]], *, head: bool = False) -> str:
    text = []
    for i, row in enumerate(rows):
        cell = "th" if head and i == 0 else "td"
        text.append("<tr>" + "".join(f"<{cell}>{escape(value)}</{cell}>" for value in row) + "</tr>")
    return "".join(text)


def _draw_confusion(evaluation: Evaluation, path: Path) -> None:
    names = [c.name for c in evaluation.per_class]
    counts = np.array(evaluation.confusion, float)
    shares = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    figure = Figure(figsize=(7, 6), layout="constrained")
    axes: Any = figure.subplots()
    axes.imshow(shares, vmin=0, vmax=1, cmap="Blues")
    for i, j in np.ndindex(*counts.shape):
        colour = "white" if shares[i, j] > 0.5 else "black"
        axes.text(j, i, f"{shares[i, j]:.0%}\n{counts[i, j]:.0f}", ha="center", va="center", color=colour, fontsize=8)
    axes.set(xlabel="predicted", ylabel="label")
    axes.set_xticks(range(len(names)), names, rotation=30)
    axes.set_yticks(range(len(names)), names)
    figure.savefig(path, dpi=100)


def _draw_reliability(predictions: Predictions, path: Path) -> None:
    figure = Figure(figsize=(9, 4), layout="constrained")
    both: Any = figure.subplots(1, 2, sharey=True)
    raw = probabilities(predictions.logits)
    titles = ("raw", f"temperature {predictions.temperature:.3f}")
    for axes, shares, title in zip(both, (raw, predictions.shares), titles, strict=True):
        middle, confidence, accuracy, weight = reliability(shares, predictions.split.labels)
        axes.bar(middle, weight, width=1 / 15, alpha=0.25, color="#777", label="share of images")
        axes.plot([0, 1], [0, 1], "--", color="#999")
        axes.plot(confidence, accuracy, "o-", color="#0072b2", label="accuracy")
        axes.set(title=title, xlabel="confidence", xlim=(0, 1), ylim=(0, 1))
        axes.legend()
    figure.savefig(path, dpi=100)


def _draw_balance(predictions: Predictions, path: Path) -> None:
    names, count = predictions.names, len(predictions.names)
    figure = Figure(figsize=(8, 3.5), layout="constrained")
    axes: Any = figure.subplots()
    places = np.arange(count)
    axes.bar(places - 0.2, np.bincount(predictions.split.labels, minlength=count), 0.4, label="labels", color="#0072b2")
    axes.bar(places + 0.2, np.bincount(predictions.chosen, minlength=count), 0.4, label="predictions", color="#e69f00")
    axes.set_xticks(places, names)
    axes.set_ylabel("images")
    axes.legend()
    figure.savefig(path, dpi=100)


def _gallery(predictions: Predictions, folder: Path) -> str:
    shares, chosen = predictions.shares, predictions.chosen
    confidence = shares.max(1)
    wrong: npt.NDArray[np.intp] = np.flatnonzero(~predictions.right)
    figures = []
    for i in wrong[np.argsort(-confidence[wrong], kind="stable")][:MISTAKES]:
        file = folder / f"{i:05d}.png"
        cv2.imwrite(str(file), predictions.split.images[i])
        said, label = predictions.names[chosen[i]], predictions.names[predictions.split.labels[i]]
        caption = escape(f"{said} {confidence[i]:.2f}, label {label}")
        name = escape(predictions.split.names[i])
        figures.append(f'<figure title="{name}"><img src="mistakes/{file.name}" alt="{name}"><br>{caption}</figure>')
    return "".join(figures) or "<p>No mistakes.</p>"
