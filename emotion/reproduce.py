"""Train the earlier projects' models again and put published and measured figures side by side in one Markdown page."""

from __future__ import annotations

import dataclasses
import json
import logging
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from emotion.baseline import fit_baseline
from emotion.checkpoint import load_checkpoint
from emotion.config import TrainConfig
from emotion.config_file import read_settings
from emotion.curve import read_log
from emotion.errors import ConfigError
from emotion.files import write_whole
from emotion.models import BASELINES
from emotion.presets import NOTES, PRESETS, PUBLISHED
from emotion.run import Run, TrainState

FOUR_CLASSES = ("happy", "sad", "surprise", "neutral")
"""What the projects with a four-class set told apart."""
SMALL = ("knn", "mlp", "simple_cnn", "cnn1", "cnn2", "cnn6", "mini_xception")
"""What a two-core machine trains fully; the ImageNet networks need their weights and a graphics card."""
FREE = ("epochs", "free_upper_at", "device", "precision", "seed")
"""Settings in which a run may differ from its recipe and still be a row of the table."""
STARTS = ("imagenet", "none")
"""So is the start of an ImageNet network, but for the weights of another run."""


@dataclass(frozen=True)
class Reproduction:
    """One row: figures are PublicTest accuracies over all classes. binary, binary_recall: of the same model, one-hot
    at threshold 0.5; None when not measured.

    epochs: None for a model that is fitted in one go. stopped_of: the epochs that an unfinished run was to have, None
    when it is finished. random_start: the run had no ImageNet weights, although the recipe begins with them.
    """

    model: str
    accuracy: float
    binary: float | None
    binary_recall: float | None
    epochs: int | None
    stopped_of: int | None = None
    random_start: bool = False


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

    epochs, weights: instead of the recipe's, where it has them. Raises ConfigError for a model that nobody published.
    """
    if faults := _model_faults(models, runs, epochs, weights):
        raise ConfigError(faults)
    return [_one(name, data, runs / name, _recipe(name, epochs, weights), report) for name in models]


def check(
    models: Sequence[str], runs: Path, page: Path, *, epochs: int | None = None, weights: str | None = None
) -> None:
    """Raises ConfigError, with all that `reproduce` of these models and `write_page` would refuse.

    Logs a warning for each run that `read_results` leaves out, and raises what it raises.
    """
    if faults := [*_model_faults(models, runs, epochs, weights), *_page_faults(page)]:
        raise ConfigError(faults)
    for name in PUBLISHED:
        if _has_figure(name, runs / name) and (others := _other_settings(name, runs / name)):
            logging.getLogger(__name__).warning(
                "note: %s is no row of the table: the recipe has another %s", runs / name, ", ".join(others)
            )
    read_results(runs)


def read_results(runs: Path) -> list[Reproduction]:
    """What the runs in a folder reached so far, in the order of `PUBLISHED`.

    A run without an epoch is left out, and so is one of another model or of other settings than the recipe's. Raises
    ConfigError, DataError and WeightsError for the damaged files of a run.
    """
    names = [name for name in PUBLISHED if _has_figure(name, runs / name)]
    return [_result(name, runs / name) for name in names if not _other_settings(name, runs / name)]


def markdown_table(results: Sequence[Reproduction], *, earlier: Mapping[str, str] | None = None) -> str:
    """Published and measured figures, the difference, and what had to be chosen; a row for every model.

    earlier: rows of an older table by model. One with a figure stays where there is no result, and one of a finished
    run where the result is of an unfinished one.
    """
    found = {result.model: result for result in results}
    measured = {name: row for name, row in (earlier or {}).items() if NOT_TRAINED not in row}
    rows = [
        "| model | published | ours, PublicTest | difference | binary accuracy (recall) | epochs | note |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, published in PUBLISHED.items():
        result, row = found.get(name), measured.get(name)
        if row and (result is None or (result.stopped_of is not None and STOPPED not in row)):
            rows.append(row)
        else:
            figures = f"{NOT_TRAINED} | - | - | -" if result is None else _figures(published, result)
            notes = [RANDOM_START] if result is not None and result.random_start else []
            notes += [NOTES[name]] if name in NOTES else []
            rows.append(f"| `{name}` | {published} | {figures} | {' '.join(notes)} |")
    return "\n".join(rows) + "\n"


def write_page(page: Path, results: Sequence[Reproduction]) -> None:
    """Put the table between the markers of an existing page, or write a page of the table alone.

    Figures of the existing table that these results have none for stay. Raises ConfigError for a page without markers.
    """
    if faults := _page_faults(page):
        raise ConfigError(faults)
    text = page.read_text(encoding="utf-8") if page.exists() else f"# Reproduction\n\n{BEGIN}{END}\n"
    head, _, rest = text.partition(BEGIN)
    before, _, tail = rest.partition(END)
    earlier = {line.split("`")[1]: line for line in before.splitlines() if line.startswith("| `")}
    page.parent.mkdir(parents=True, exist_ok=True)
    write_whole(page, f"{head}{BEGIN}\n{markdown_table(results, earlier=earlier)}{END}{tail}")


BEGIN, END = "<!-- table: emotion reproduce -->", "<!-- end of table -->"
MEASURED = "evaluation.json"
"""In a run's folder: the figures of its best checkpoint, once the run is finished."""
NOT_TRAINED, STOPPED = "not trained yet", "stopped after"
RANDOM_START = "Ours began at random, theirs with ImageNet's weights."


def _model_faults(models: Sequence[str], runs: Path, epochs: int | None, weights: str | None) -> list[str]:
    faults = [] if weights in (None, *STARTS) else [f"weights {weights!r}: expected imagenet or none"]
    for name in models:
        if name in PUBLISHED:
            recipe = _recipe(name, epochs, weights)
            found = recipe.faults()
            if not _is_done(name, runs / name, recipe):
                found += Run(runs / name).faults(recipe, resume=True)
            faults += [f"{name}: {fault}" for fault in found]
        else:
            faults.append(f"model {name!r}: expected one of {', '.join(PUBLISHED)}")
    return faults


def _page_faults(page: Path) -> list[str]:
    if not page.exists():
        return []
    if not page.is_file():
        return [f"{page}: expected a Markdown file"]
    good = END in page.read_text(encoding="utf-8").partition(BEGIN)[2]
    return [] if good else [f"{page}: expected the lines {BEGIN} and {END} around the table"]


def _recipe(name: str, epochs: int | None, weights: str | None) -> TrainConfig:
    recipe = PRESETS[name]
    changes: dict[str, Any] = {"classes": FOUR_CLASSES} if "4 classes" in PUBLISHED[name] else {}
    if epochs is not None and name not in BASELINES:
        changes["epochs"] = epochs
        if recipe.free_upper_at is not None:
            changes["free_upper_at"] = min(math.ceil(epochs / 2), epochs - 1)
    if weights is not None and recipe.weights != "none":
        changes["weights"] = weights
    return dataclasses.replace(recipe, **changes)


def _one(
    name: str, data: Path, run: Path, config: TrainConfig, report: Callable[[str, dict[str, Any]], None]
) -> Reproduction:
    if _is_done(name, run, config):
        return _result(name, run)
    if name in BASELINES:
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
    write_whole(run / MEASURED, json.dumps(figures.to_dict()))


def _has_figure(name: str, run: Path) -> bool:
    """Whether at least one epoch was measured: a run that was stopped before has a log without lines."""
    return Run(run).logged > 0 and (name in BASELINES or Run(run).best.is_file())


def _other_settings(name: str, run: Path) -> list[str]:
    """The settings of the run that are neither the recipe's nor `FREE`; with any, its figure is no reproduction."""
    found = Run(run).other_settings(_recipe(name, None, None))
    return [key for key, value in found.items() if key not in FREE and (key != "weights" or value not in STARTS)]


def _is_done(name: str, run: Path, config: TrainConfig) -> bool:
    """Whether the run of these settings is finished and measured, so that it is only read and needs no last.pt."""
    if not _has_figure(name, run) or Run(run).other_settings(config):
        return False
    return name in BASELINES or ((run / MEASURED).is_file() and _is_finished(read_log(run), config))


def _result(name: str, run: Path) -> Reproduction:
    lines = read_log(run)
    if name in BASELINES:
        return Reproduction(
            name, lines[-1]["public_accuracy"], lines[-1]["binary_accuracy"], lines[-1]["binary_recall"], None
        )
    config = TrainConfig(**read_settings(run / "config.json"))
    random = config.weights == "none" != PRESETS[name].weights
    finished, measured = _is_finished(lines, config), run / MEASURED
    if finished and measured.is_file():
        figures = json.loads(measured.read_text(encoding="utf-8"))
        binary, recall = figures["binary_accuracy"], figures["binary_recall"]
        return Reproduction(name, figures["accuracy"], binary, recall, len(lines), random_start=random)
    kept = load_checkpoint(run).card.training["metrics"]["public_accuracy"]
    stopped_of = None if finished else config.epochs
    return Reproduction(name, kept, None, None, len(lines), stopped_of, random_start=random)


def _is_finished(lines: Sequence[Mapping[str, Any]], config: TrainConfig) -> bool:
    """Whether a run with this log has no epoch to go: by its epochs and its patience, as in training."""
    state = TrainState()
    for line in lines:
        state = state.after(config, score=line["public_accuracy"], loss=line["public_loss"])
    return state.finished(config)


def _figures(published: str, result: Reproduction) -> str:
    """The cells from "ours" to "epochs"."""
    binary = "-" if result.binary is None else f"{100 * result.binary:.1f} % ({result.binary_recall:.3f})"
    epochs = "-" if result.epochs is None else str(result.epochs)
    if result.stopped_of is not None:
        epochs = f"{STOPPED} {result.epochs} of {result.stopped_of} epochs"
    difference = _difference(published, result.accuracy)
    return f"{100 * result.accuracy:.1f} % | {difference} | {binary} | {epochs}"


def _difference(published: str, accuracy: float) -> str:
    """In points, where both figures are of seven classes of FER-2013; binary and four-class figures are not."""
    if "classes" in published or "binary" in published:
        return "not comparable"
    split = ", of another split" if "(test)" in published else ""
    points = round(100 * accuracy - float(published.partition(" %")[0]), 1)
    return f"{points + 0.0:+.1f} points{split}"  # + 0.0 turns -0.0 into 0.0
