"""Train the earlier projects' models again and put published and measured figures side by side in one Markdown page."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from emotion.baseline import fit_baseline
from emotion.config import TrainConfig
from emotion.curve import read_log
from emotion.errors import ConfigError
from emotion.models import BASELINES
from emotion.presets import NOTES, PRESETS, PUBLISHED

FOUR_CLASSES = ("happy", "sad", "surprise", "neutral")
"""What the projects with a four-class set told apart."""
SMALL = ("knn", "mlp", "simple_cnn", "cnn1", "cnn2", "mini_xception")
"""What a two-core machine trains fully; the ImageNet networks need their weights and a graphics card."""


@dataclass(frozen=True)
class Reproduction:
    """One row: figures are PublicTest accuracies over all classes. binary, binary_recall: of the same model, one-hot
    at threshold 0.5; None when not measured.

    epochs: None for a model that is fitted in one go.
    """

    model: str
    accuracy: float
    binary: float | None
    binary_recall: float | None
    epochs: int | None


def reproduce(
    models: Sequence[str],
    data: Path,
    runs: Path,
    *,
    epochs: int | None = None,
    weights: str | None = None,
    report: Callable[[str, dict[str, Any]], None] = lambda model, line: None,
) -> list[Reproduction]:
    """Train each model by its recipe into `runs`/<model>, or go on where it stopped; finished runs are only read.

    epochs, weights: instead of the recipe's. Raises ConfigError for a model that has no published figure.
    """
    unknown = [name for name in models if name not in PUBLISHED]
    if unknown:
        raise ConfigError([f"model {name!r}: expected one of {', '.join(PUBLISHED)}" for name in unknown])
    return [_one(name, data, runs / name, _recipe(name, epochs, weights), report) for name in models]


def read_results(runs: Path) -> list[Reproduction]:
    """What the runs in a folder reached so far, in the order of `PUBLISHED`."""
    done = [name for name in PUBLISHED if (runs / name / "log.jsonl").is_file()]
    return [_result(name, runs / name) for name in done]


def markdown_table(results: Sequence[Reproduction]) -> str:
    """Published and measured figures, the difference, and what had to be chosen; a row for every model."""
    found = {result.model: result for result in results}
    rows = [
        "| model | published | ours, PublicTest | difference | binary accuracy (recall) | epochs | note |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, published in PUBLISHED.items():
        result = found.get(name)
        note = NOTES.get(name, "")
        if result is None:
            rows.append(f"| `{name}` | {published} | not trained yet | - | - | - | {note} |")
            continue
        binary = "-" if result.binary is None else f"{100 * result.binary:.1f} % ({result.binary_recall:.3f})"
        epochs = "-" if result.epochs is None else str(result.epochs)
        rows.append(
            f"| `{name}` | {published} | {100 * result.accuracy:.1f} % | {_difference(published, result.accuracy)} "
            f"| {binary} | {epochs} | {note} |"
        )
    return "\n".join(rows) + "\n"


def write_page(page: Path, results: Sequence[Reproduction]) -> None:
    """Put the table between the markers of an existing page, or write a page of the table alone."""
    table = f"{BEGIN}\n{markdown_table(results)}{END}"
    text = page.read_text(encoding="utf-8") if page.exists() else f"# Reproduction\n\n{BEGIN}{END}\n"
    if BEGIN not in text or END not in text:
        raise ConfigError([f"{page}: expected the lines {BEGIN} and {END} around the table"])
    head, _, rest = text.partition(BEGIN)
    page.parent.mkdir(parents=True, exist_ok=True)
    page.write_text(head + table + rest.partition(END)[2], encoding="utf-8")


BEGIN, END = "<!-- table: emotion reproduce -->", "<!-- end of table -->"


def _recipe(name: str, epochs: int | None, weights: str | None) -> TrainConfig:
    recipe = PRESETS[name]
    changes: dict[str, Any] = {"classes": FOUR_CLASSES} if "4 classes" in PUBLISHED[name] else {}
    if epochs is not None:
        changes["epochs"] = epochs
        if recipe.free_upper_at is not None:
            changes["free_upper_at"] = math.ceil(epochs / 2)
    if weights is not None and recipe.weights != "none":
        changes["weights"] = weights
    return dataclasses.replace(recipe, **changes)


def _one(
    name: str, data: Path, run: Path, config: TrainConfig, report: Callable[[str, dict[str, Any]], None]
) -> Reproduction:
    if name in BASELINES:
        if not (run / "log.jsonl").is_file():
            fit_baseline(config, data, run)
    else:
        from emotion.train import train

        train(config, data, run, resume=True, report=lambda line: report(name, line))
        _measure_binary(data, run)
    return _result(name, run)


def _measure_binary(data: Path, run: Path) -> None:
    from emotion.data import load_fer2013
    from emotion.evaluate import evaluate, load_scorer, predict

    figures = evaluate(predict(load_scorer(run), load_fer2013(data, "public")), run.name, split="public")
    (run / "evaluation.json").write_text(json.dumps(figures.to_dict()), encoding="utf-8")


def _result(name: str, run: Path) -> Reproduction:
    lines = read_log(run)
    if name in BASELINES:
        return Reproduction(
            name, lines[-1]["public_accuracy"], lines[-1]["binary_accuracy"], lines[-1]["binary_recall"], None
        )
    measured = run / "evaluation.json"
    if not measured.is_file():
        return Reproduction(name, max(line["public_accuracy"] for line in lines), None, None, len(lines))
    figures = json.loads(measured.read_text(encoding="utf-8"))
    return Reproduction(name, figures["accuracy"], figures["binary_accuracy"], figures["binary_recall"], len(lines))


def _difference(published: str, accuracy: float) -> str:
    """In points, where both figures are of seven classes of FER-2013; binary and four-class figures are not."""
    if "classes" in published or "binary" in published:
        return "not comparable"
    points = round(100 * accuracy - float(published.partition(" %")[0]), 1)
    return f"{points + 0.0:+.1f} points"  # + 0.0 turns -0.0 into 0.0
