"""`emotion train`: settings from the preset of the model, changed by options, with a progress bar and a curve."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from emotion.errors import ConfigError


def train(
    data: Annotated[Path, typer.Option(help="FER-2013: fer2013.csv, Kaggle's archive.zip or its unpacked folder.")],
    *,
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder of the run.")],
    model: Annotated[
        str | None, typer.Option(help="An architecture of `emotion zoo`, with its recipe; fer_resnet if not told.")
    ] = None,
    config: Annotated[Path | None, typer.Option(help="Any settings as JSON: a run's config.json.")] = None,
    resume: Annotated[bool, typer.Option(help="Go on with the run in the folder, as if it had not stopped.")] = False,
    ferplus: Annotated[Path | None, typer.Option(help="FER+ votes as CSV, keyed by file name.")] = None,
    labels: Annotated[
        str | None, typer.Option(help="fer2013, or votes: ferplus (shares), ferplus-majority, ferplus-both.")
    ] = None,
    classes: Annotated[str | None, typer.Option(help="Emotions to tell apart, with commas: happy,sad,...")] = None,
    weights: Annotated[
        str | None, typer.Option(help="Start: none (random), bundled, imagenet, a run, its .pt or .onnx.")
    ] = None,
    teacher: Annotated[
        list[str] | None, typer.Option(help="Weights to learn from, or ferplus for the votes; give it once for each.")
    ] = None,
    distill_weight: Annotated[float | None, typer.Option(help="The teachers' share, above 0, up to 1.")] = None,
    balance: Annotated[str | None, typer.Option(help="Rare classes: none, weights or sampling.")] = None,
    optimiser: Annotated[str | None, typer.Option(help="adamw, sgd, adam or muon.")] = None,
    schedule: Annotated[str | None, typer.Option(help="cosine, plateau or constant.")] = None,
    epochs: Annotated[int | None, typer.Option(help="Passes over the data.")] = None,
    batch_size: Annotated[int | None, typer.Option(help="Images per step, over all processes.")] = None,
    lr: Annotated[float | None, typer.Option(help="Highest learning rate.")] = None,
    size: Annotated[int | None, typer.Option(help="Side of the images in pixels, from the first epoch on.")] = None,
    augmentation: Annotated[
        str | None, typer.Option(help="none, mild, strong or seam (faces as photos give them).")
    ] = None,
    mixup: Annotated[float | None, typer.Option(help="Alpha of mixup; 0 is none.")] = None,
    weight_decay: Annotated[float | None, typer.Option(help="Weight decay.")] = None,
    label_smoothing: Annotated[float | None, typer.Option(help="0 to below 1.")] = None,
    ema_decay: Annotated[float | None, typer.Option(help="Decay of the moving average of weights; 0 is none.")] = None,
    early_stopping: Annotated[int | None, typer.Option(help="Epochs without a lower loss; 0 is never.")] = None,
    precision: Annotated[str | None, typer.Option(help="auto, float32 or bfloat16.")] = None,
    device: Annotated[str | None, typer.Option(help="auto, cpu or cuda.")] = None,
    seed: Annotated[int | None, typer.Option(help="Seed of all chance.")] = None,
) -> None:
    """Train an architecture; every setting that is not given is its authors'. Under torchrun, in several processes."""
    given = {
        "model": model, "labels": labels, "classes": _names(classes), "weights": weights, "balance": balance,
        "optimiser": optimiser, "schedule": schedule, "epochs": epochs, "batch_size": batch_size, "lr": lr,
        "weight_decay": weight_decay, "label_smoothing": label_smoothing, "ema_decay": ema_decay,
        "early_stopping": early_stopping, "precision": precision, "device": device, "seed": seed, "mixup": mixup,
        "teacher": tuple(teacher) if teacher else None, "distill_weight": distill_weight,
        "augmentation": _augmentation(augmentation), "size_schedule": None if size is None else ((0.0, size),),
    }  # fmt: skip
    settings = {**_file_settings(config, model), **{name: value for name, value in given.items() if value is not None}}
    if size is not None:
        settings["eval_size"] = None
    run_training(settings, data=data, out=out, ferplus=ferplus, resume=resume)


def run_training(
    settings: dict[str, Any], *, data: Path, out: Path, ferplus: Path | None = None, resume: bool = False
) -> None:
    """Train the settings' model by its preset, changed by the other settings, and tell how it goes."""
    from emotion.baseline import fit_baseline
    from emotion.presets import PRESETS
    from emotion.train import train as fit

    model = settings.get("model", "fer_resnet")
    if model not in PRESETS:
        raise ConfigError([f"model {model!r}: expected one of {', '.join(PRESETS)}"])
    config = dataclasses.replace(PRESETS[model], **settings)
    if config.is_baseline:
        if ferplus is not None:
            raise ConfigError([f"--ferplus {ferplus}: {model} learns no FER+ votes"])
        result = fit_baseline(config, data, out)
        typer.echo(f"{model}: PublicTest accuracy {result.accuracy:.4f} ({result.seconds:.0f} s, no weights to keep)")
        return
    if ferplus is None and config.ferplus_weight > 0 and config.labels == "fer2013":
        typer.echo(
            "note: without --ferplus the recipe's second head, which learns the FER+ votes, is left out", err=True
        )
        config = dataclasses.replace(config, ferplus_weight=0.0)
    with _shown(out, config.epochs) as callbacks:
        best = fit(config, data, out, ferplus=ferplus, resume=resume, **callbacks)
    typer.echo(f"best checkpoint: {best}")


@contextmanager
def _shown(out: Path, epochs: int) -> Iterator[dict[str, Any]]:
    """Callbacks for `train`: a bar over the steps on a terminal, a line and a new curve.png per epoch."""
    from emotion.curve import draw_curve
    from emotion.run import score_of

    console = Console(stderr=True)
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.percentage:>3.0f}%"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, disable=not console.is_terminal) as bar:
        task = bar.add_task("epoch")

        def progress(step: int, steps: int) -> None:
            bar.update(task, completed=step, total=steps)

        def report(line: dict[str, Any]) -> None:
            draw_curve(out)
            text = f"epoch {line['epoch']} of {epochs}: loss {line['train_loss']:.4f}, "
            split = "PublicTest by FER+" if "ferplus_accuracy" in line else "PublicTest"
            text += f"{split} {score_of(line):.4f}, best {line['best']:.4f}, {line['seconds']:.0f} s"
            console.print(text, soft_wrap=True, markup=False, highlight=False)
            bar.reset(task, description=f"epoch {line['epoch'] + 1}")

        yield {"report": report, "progress": progress}


def _names(text: str | None) -> tuple[str, ...] | None:
    return None if text is None else tuple(name.strip() for name in text.split(","))


def _file_settings(path: Path | None, model: str | None) -> dict[str, Any]:
    from emotion.config_file import read_settings

    return {} if path is None else read_settings(path, model=model)


def _augmentation(name: str | None) -> Any:
    from emotion.presets import AUGMENTATIONS

    if name is not None and name not in AUGMENTATIONS:
        raise ConfigError([f"augmentation {name!r}: expected one of {', '.join(AUGMENTATIONS)}"])
    return None if name is None else AUGMENTATIONS[name]
