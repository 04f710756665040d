"""The model card of an exported classifier: what it is, how it was trained, and what was measured, as Markdown."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from emotion.classifier import ExpressionClassifier
from emotion.data.fer2013 import SPLITS
from emotion.evaluate import Evaluation
from emotion.files import write_whole
from emotion.report import class_rows, summary_rows
from emotion.robustness import RobustnessRow

CARD = """# {identity}

{count} expressions of a face: {labels}. Input: one grey face of 48 pixels, cut as FER-2013's faces are
(square, eyebrows to chin); `emotion.load_classifier` prepares crops of any size.

- architecture: {name}, {megabytes:.1f} MB, {ms:.2f} ms per face on one thread in batches of 64, where this was measured
- training data: FER-2013's Training, {train_images} images, without {dropped} byte-identical to one of another split
- chosen by PublicTest; the run: {run}
- {calibration}

FER-2013 was collected by web search and is for research use; its labels are noisy (people agree with them about 65 % of
the time). A label describes a look, not what somebody feels. Not for decisions about people.

## {split} split

{summary}
{classes}
## Robustness ({split} split)

{robustness}"""
COUNTS = ("Two", "Three", "Four", "Five", "Six", "Seven")
BY_HAND = "<!-- by hand from here on: `emotion card` keeps it -->"
"""The line of a card after which everything stays when the card is written again."""
HAND_WRITTEN_HEADING = "## Recipe and state"
"""Where that begins in a card without the line."""


def model_card(
    classifier: ExpressionClassifier,
    evaluation: Evaluation,
    robustness: Sequence[RobustnessRow],
    *,
    megabytes: float,
    ms: float,
    ece_crossed: float,
) -> str:
    """The card as Markdown. ms: milliseconds per face; ece_crossed: calibration error on the evaluation's split with a
    temperature that is cross-fitted there."""
    training: dict[str, Any] = dict(classifier.card.training)
    metrics, config = training.get("metrics", {}), training.get("config", {})
    told = ["epochs", "batch_size", "optimiser", "lr", "weight_decay", "label_smoothing", "ema_decay", "size_schedule"]
    told += [name for name in ("weights", "teacher", "distill_weight", "mixup") if _matters(name, config)]
    return CARD.format(
        identity=classifier.identity, count=COUNTS[len(classifier.card.labels) - 2],
        labels=", ".join(classifier.card.labels), name=classifier.card.name, megabytes=megabytes, ms=ms,
        train_images=metrics.get("train_images", "unknown"), dropped=metrics.get("duplicates_dropped", "unknown"),
        run=_average(training) + (", ".join(f"{key} {config[key]}" for key in told if key in config) or "unknown"),
        calibration=_calibration(evaluation, ece_crossed), split=evaluation.split,
        summary=_table([("figure", "value"), *summary_rows(evaluation)]), classes=_table(class_rows(evaluation)),
        robustness=robustness_table(robustness),
    )  # fmt: skip


def _average(training: dict[str, Any]) -> str:
    """Which runs the weights are the mean of, before the settings of the first; empty for those of one run."""
    if "averaged" not in training:
        return ""
    first, second = training["averaged"]
    return f"mean of {first} and, with the share {training['share']:g}, {second}; the first: "


def write_card(path: Path, text: str) -> None:
    """Write a card; of the one that stands there, what follows `BY_HAND`, or else `HAND_WRITTEN_HEADING`, is kept."""
    earlier = path.read_text(encoding="utf-8") if path.exists() else ""
    _, marked, kept = earlier.partition(f"\n{BY_HAND}\n")
    if not marked:
        _, heading, rest = earlier.partition(f"\n{HAND_WRITTEN_HEADING}\n")
        kept = heading + rest
    write_whole(path, f"{text}\n{BY_HAND}\n{kept}")


def robustness_table(rows: Sequence[RobustnessRow]) -> str:
    """Change, accuracy and difference in points, as a Markdown table."""
    body = [(row.change, f"{row.accuracy:.4f}", f"{100 * row.difference:+.1f} points") for row in rows]
    return _table([("change", "accuracy", "difference"), *body])


def _calibration(evaluation: Evaluation, ece_crossed: float) -> str:
    """On PublicTest, where the temperature was fitted, the error after is a cross-fitted one, else the file's own."""
    before = f"calibration error on {SPLITS[evaluation.split]} {evaluation.ece_before:.4f}"
    if evaluation.temperature == 1:
        return f"temperature 1, not fitted; {before}"
    after = f"{ece_crossed:.4f} after (5-fold)" if evaluation.split == "public" else f"{evaluation.ece_after:.4f} after"
    return f"temperature {evaluation.temperature:.3f}, fitted on PublicTest; {before} before, {after}"


def _matters(name: str, config: dict[str, Any]) -> bool:
    """Whether a setting that is mostly off was on in the run."""
    if name == "distill_weight":
        return bool(config.get("teacher"))
    return bool(config.get(name)) and config[name] != "none"


def _table(rows: Sequence[tuple[str, ...]]) -> str:
    head, *body = rows
    lines = [head, tuple("---" for _ in head), *body]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)
