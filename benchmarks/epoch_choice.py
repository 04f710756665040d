"""How much a figure gains by being measured where the epoch was chosen: validation against test.

    python benchmarks/epoch_choice.py --data archive.zip -o runs/choice --model simple_cnn --epochs 20

Trains the model by its recipe, and keeps what each epoch says of every image of PublicTest. Then, a thousand times, one
random half of the images chooses the epoch, by accuracy or by loss; the table compares the accuracy there with that on
the other half. A run in OUT is trained once, then only read.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from emotion.checkpoint import load_checkpoint
from emotion.data import load_fer2013
from emotion.errors import ConfigError
from emotion.presets import PRESETS
from emotion.targets import of_classes
from emotion.train import train
from emotion.views import probabilities

HALVINGS = 1000
KEPT = "epoch_choice.npy"
"""float32 [epochs, images, classes]: the logits of every epoch."""


def epochs_of(model: str, epochs: int | None, data: Path, out: Path) -> npt.NDArray[np.float32]:
    """Train unless OUT holds the result; the logits of every epoch on PublicTest, float32 [epochs, images, classes]."""
    if (out / KEPT).exists():
        found: npt.NDArray[np.float32] = np.load(out / KEPT)
        return found
    recipe = PRESETS[model] if epochs is None else replace(PRESETS[model], epochs=epochs, early_stopping=0)
    public = of_classes(load_fer2013(data, "public"), recipe.classes)
    logits: list[npt.NDArray[np.float32]] = []

    def look(line: dict[str, Any]) -> None:
        logits.append(load_checkpoint(out / "last.pt").logits(public.images))
        print(f"epoch {line['epoch']}: {line['public_accuracy']:.4f}", flush=True)

    train(replace(recipe, ferplus_weight=0.0), data, out, report=look)
    np.save(out / KEPT, np.stack(logits))
    return np.stack(logits)


def compared(
    values: npt.NDArray[np.float64], right: npt.NDArray[np.bool_], *, seed: int = 0
) -> tuple[float, float, float]:
    """Mean accuracy of the chosen epoch on the half that chose it and on the other, and 1.96 standard deviations of
    the difference in one halving.

    values: float64 [epochs, images], whose mean over the half is highest for the chosen epoch. right: bool, likewise.
    """
    rng = np.random.default_rng(seed)
    there, elsewhere = np.zeros(HALVINGS), np.zeros(HALVINGS)
    for i in range(HALVINGS):
        order = rng.permutation(right.shape[1])
        chose, other = np.array_split(order, 2)
        epoch = values[:, chose].mean(1).argmax()
        there[i], elsewhere[i] = right[epoch, chose].mean(), right[epoch, other].mean()
    return float(there.mean()), float(elsewhere.mean()), float(1.96 * (there - elsewhere).std())


def table(logits: npt.NDArray[np.float32], labels: npt.NDArray[np.int64]) -> str:
    """Markdown: a row for each way to choose, and one for the last epoch, which is not chosen."""
    right = logits.argmax(2) == labels
    said = np.stack([probabilities(epoch) for epoch in logits])[:, np.arange(len(labels)), labels]
    ways = {
        "highest accuracy": right.astype(np.float64),
        "lowest loss": np.log(np.maximum(said, 1e-9)).astype(np.float64),
        "the last one": np.arange(len(logits), dtype=np.float64)[:, None].repeat(len(labels), 1),
    }
    rows = [
        "| epoch | where it was chosen | on the other half | gain by choosing | one halving, 95 % |",
        "|---|---|---|---|---|",
    ]
    for name, values in ways.items():
        there, elsewhere, spread = compared(values, right)
        shown = f"{100 * there:.2f} % | {100 * elsewhere:.2f} % | {100 * (there - elsewhere):+.2f} points"
        rows.append(f"| {name} | {shown} | +-{100 * spread:.1f} points |")
    return "\n".join(rows) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("-o", "--out", type=Path, required=True)
    parser.add_argument("--model", default="simple_cnn", choices=[n for n, c in PRESETS.items() if not c.is_baseline])
    parser.add_argument("--epochs", type=int, help="all of them; without it the recipe's, with its early stopping")
    given = parser.parse_args()
    try:
        logits = epochs_of(given.model, given.epochs, given.data, given.out)
    except ConfigError as error:
        parser.error(str(error))
    labels = of_classes(load_fer2013(given.data, "public"), PRESETS[given.model].classes).labels
    print(f"{given.model}, {len(logits)} epochs, {len(labels):,} images\n\n{table(logits, labels)}")


if __name__ == "__main__":
    main()
