"""What each part of the classifier's recipe is worth: one setting changed at a time, equal epochs, one Markdown table.

    python benchmarks/emotion_ablation.py --data archive.zip --ferplus votes.csv -o runs/ablation --at-once 2
    python benchmarks/emotion_ablation.py ... --variants mine.json --only base,mixup --write docs/ablation.md

A run per variant, in OUT/<name>; what was stopped goes on, what is finished is only read. The table is written anew
after every run. --at-once 2 trains two at a time, each on half of the cores, which takes less time than one after the
other. mine.json, instead of the variants below: {"base": {settings}, "name": {settings that differ}, ...},
settings being fields of `emotion.config.TrainConfig`; the first variant is what the others are compared with. Accuracy
is PublicTest's, of the best epoch, which flatters all alike; "last three" is the mean of the last three epochs,
"Training" the accuracy on augmented images in the last one. McNemar's p tells chance in the images; chance in the run
is what "another seed" shows.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from emotion.compare import mcnemar
from emotion.config import TrainConfig
from emotion.config_file import settings_of
from emotion.curve import read_log
from emotion.data import load_fer2013
from emotion.evaluate import bootstrap_interval, load_scorer, predict
from emotion.train import train

Right = npt.NDArray[np.bool_]
HEAD = """\
| variant | changed | PublicTest | 95 % interval | difference | McNemar p | last three | Training | minutes |
|---|---|---|---|---|---|---|---|---|
"""
VARIANTS: dict[str, dict[str, Any]] = {
    "base": {"size_schedule": [[0, 24], [0.6, 32]]},
    "another seed": {"seed": 1},
    "no squeeze-and-excitation": {"model": "fer_resnet_plain"},
    "no erasing": {"augmentation": {"erase": 0}},
    "no rotation, scaling, shift": {"augmentation": {"rotation_degrees": 0, "scale": 0, "shift": 0}},
    "no flip": {"augmentation": {"flip": 0}},
    "no label smoothing": {"label_smoothing": 0},
    "mixup 0.2": {"mixup": 0.2},
    "no moving average": {"ema_decay": 0},
    "no second head": {"ferplus_weight": 0},
    "FER+ votes as a teacher": {"teacher": ["ferplus"], "distill_weight": 0.5},
    "FER+ shares and majority": {"labels": "ferplus-both", "ferplus_weight": 0},
    "whole face, not its crop": {"view": 1.0},
    "SGD with Nesterov": {"optimiser": "sgd", "lr": 0.05, "weight_decay": 5e-4},
    "Muon": {"optimiser": "muon"},
}
"""Name -> what differs from the first, and the first from `TrainConfig()`; so too with the augmentation's ranges.

The first has small images, so that all can be trained on two cores within hours.
"""


def configs(variants: dict[str, dict[str, Any]], epochs: int) -> dict[str, TrainConfig]:
    """The settings of every variant: the first one's, changed by its own, for equal epochs."""
    base = next(iter(variants.values()))
    found = {}
    for name, changes in variants.items():
        settings = {
            **base,
            **changes,
            "augmentation": {**base.get("augmentation", {}), **changes.get("augmentation", {})},
        }
        found[name] = replace(TrainConfig(), **{**settings_of(settings, where=name), "epochs": epochs})
    return found


def row(name: str, changes: dict[str, Any], figures: str) -> str:
    """A line of the table."""
    changed = ", ".join(f"{key} {json.dumps(value)}" for key, value in changes.items()) or "-"
    return f"| {name} | {changed} | {figures} |\n"


def run_folder(out: Path, name: str) -> Path:
    """Where the run of a variant lies."""
    return out / "".join(c if c.isalnum() else "-" for c in name)


def _figures(right: Right, first: Right, log: list[dict[str, Any]]) -> str:
    """right, first: bool [N], what this variant and the first one get right."""
    last = log[-3:]
    low, high = bootstrap_interval(right)
    cells = [
        f"{100 * right.mean():.1f} %",
        f"{100 * low:.1f} to {100 * high:.1f}",
        "-" if right is first else f"{100 * (right.mean() - first.mean()):+.1f} points",
        "-" if right is first else f"{mcnemar(right, first)[2]:.2g}",
        f"{100 * sum(line['public_accuracy'] for line in last) / len(last):.1f} %",
        f"{100 * log[-1]['train_accuracy']:.1f} %",
        f"{sum(line['seconds'] for line in log) / 60:.0f}",
    ]
    return " | ".join(cells)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--ferplus", type=Path)
    parser.add_argument("-o", "--out", type=Path, required=True)
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--at-once", type=int, default=1, help="runs at a time")
    parser.add_argument("--variants", type=Path)
    parser.add_argument("--only", help="names with commas; the first variant is always among them")
    parser.add_argument("--write", type=Path, help="Markdown file of the table; printed if not given")
    given = parser.parse_args()
    variants = VARIANTS if given.variants is None else json.loads(given.variants.read_text(encoding="utf-8"))
    public = load_fer2013(given.data, "public")
    wanted = None if given.only is None else {next(iter(variants)), *given.only.split(",")}
    table, first = HEAD, None
    with ProcessPoolExecutor(
        given.at_once,
        mp_context=multiprocessing.get_context("spawn"),
        initializer=torch.set_num_threads,
        initargs=(max(1, (os.cpu_count() or 1) // given.at_once),),
    ) as pool:
        train_one = partial(train, data=given.data, ferplus=given.ferplus, resume=True)
        started = {
            name: pool.submit(train_one, config, out=run_folder(given.out, name))
            for name, config in configs(variants, given.epochs).items()
            if wanted is None or name in wanted
        }
        for name, run in started.items():
            best = run.result()
            right = predict(load_scorer(best), public).right
            first = right if first is None else first
            table += row(name, variants[name], _figures(right, first, read_log(best.parent)))
            if given.write is not None:
                given.write.write_text(table, encoding="utf-8")
            else:
                print(table, flush=True)


if __name__ == "__main__":
    main()
