"""`facedet train`: the compact detector, or Faster R-CNN by either engine."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import Progress

Sides = Annotated[list[int] | None, typer.Option("--short-px", help="Short side of photos in training; repeatable.")]


def train(
    *,
    data: Annotated[
        list[Path], typer.Option(help="Prepared folder; repeatable. The first one's val split is measured on.")
    ],
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder of the run.")],
    model: Annotated[str, typer.Option(help="compact, or faster_rcnn_x101_fpn, _r50_fpn, _r18_fpn.")],
    engine: Annotated[str, typer.Option(help="torchvision or detectron2.")] = "torchvision",
    weights: Annotated[
        str | None,
        typer.Option(
            help="compact: bundled (default), none or a file. Else: coco (default), imagenet, none or a file."
        ),
    ] = None,
    epochs: Annotated[
        int | None, typer.Option(help="compact: passes over the photos. Default 12, from none 60.")
    ] = None,
    size: Annotated[int, typer.Option(help="compact: side of the training crops, a multiple of 32.")] = 320,
    preset: Annotated[str, typer.Option(help="Anchors and counts: face (from 16 px), face8 or coco.")] = "face",
    norm: Annotated[str, typer.Option(help="Of faster_rcnn_r18_fpn: bn, gn or frozen_bn.")] = "bn",
    freeze_at: Annotated[
        int | None, typer.Option(help="Backbone stages that do not learn. Default 2; 0 for none.")
    ] = None,
    steps: Annotated[int, typer.Option(help="Steps of the run.")] = 9000,
    batch_size: Annotated[
        int | None, typer.Option(help="Photos per step, over all processes. Default 2, compact 16.")
    ] = None,
    lr: Annotated[
        float | None,
        typer.Option(help="Learning rate for this batch size. Default 0.0025; compact 0.0004, from none 0.002."),
    ] = None,
    warmup_steps: Annotated[int, typer.Option(help="Steps until the full rate.")] = 500,
    clip_norm: Annotated[float, typer.Option(help="Bound of the gradient's norm; 0 for none.")] = 10.0,
    short_px: Sides = None,
    long_px: Annotated[int, typer.Option(help="Bound of the long side in training.")] = 1333,
    crop_px: Annotated[int, typer.Option(help="Train on square crops of this side; 0 for whole photos.")] = 0,
    test_short_px: Annotated[int, typer.Option(help="Short side when measured and used.")] = 800,
    test_long_px: Annotated[int, typer.Option(help="Bound of the long side when measured and used.")] = 1333,
    eval_every: Annotated[int, typer.Option(help="Steps between measurements on the val split.")] = 500,
    log_every: Annotated[int, typer.Option(help="Steps between lines of the log.")] = 20,
    patience: Annotated[int, typer.Option(help="Measurements without a better AP before stopping; 0: never.")] = 0,
    precision: Annotated[str, typer.Option(help="auto, float32, bfloat16 or float16.")] = "auto",
    seed: Annotated[int, typer.Option(help="Of everything random.")] = 0,
    resume: Annotated[bool, typer.Option(help="Go on with the run in --out.")] = False,
) -> None:
    """Train a face detector; Faster R-CNN also under torchrun on several processes.

    `--model compact --weights bundled` fine-tunes the shipped detector in minutes on a processor; the folder of the
    run gets config.json, log.jsonl, best.pt, last.pt, curves.png and best.onnx for `--detector RUN/best.onnx`.

    Faster R-CNN:

    The folder of the run gets config.json, log.jsonl, model_last.pth, model_best.pth, curves.png and TensorBoard's
    events. Checkpoints are in Detectron2's format: `--detector RUN/model_best.pth` uses them, and so does Detectron2.
    """
    from facedet.engines.config import ENGINES, FasterRCNNConfig
    from facedet.errors import ConfigError

    if model == "compact":
        typer.echo(
            _run_compact(
                data, out, weights=weights or "bundled", epochs=epochs, size=size, batch_size=batch_size or 16,
                lr=lr, seed=seed, resume=resume,
            )
        )  # fmt: skip
        return
    config = FasterRCNNConfig(
        model=model, preset=preset, weights=weights or "coco", freeze_at=freeze_at, norm=norm, steps=steps,
        batch_size=batch_size or 2, lr=lr or 0.0025, warmup_steps=warmup_steps, clip_norm=clip_norm,
        short_px=tuple(short_px or FasterRCNNConfig.short_px), long_px=long_px, crop_px=crop_px,
        test_short_px=test_short_px, test_long_px=test_long_px, eval_every=eval_every, log_every=log_every,
        patience=patience, precision=precision, seed=seed,
    )  # fmt: skip
    faults = config.faults()
    if engine not in ENGINES:
        faults.append(f"engine {engine!r}: expected one of {', '.join(ENGINES)}")
    if faults:
        raise ConfigError(faults)
    best = _run(engine, config, data, out, resume=resume)
    typer.echo(f"{best}")


def _run_compact(
    folders: list[Path], out: Path, *, weights: str, epochs: int | None, size: int, batch_size: int,
    lr: float | None, seed: int, resume: bool,
) -> Path:  # fmt: skip
    from facedet.compact_run import run_compact
    from facedet.data.augment import CropRecipe
    from facedet.train import FINE_TUNING, CompactConfig

    start = CompactConfig() if weights == "none" else FINE_TUNING
    config = dataclasses.replace(
        start, epochs=start.epochs if epochs is None else epochs, lr=start.lr if lr is None else lr,
        batch_size=batch_size, crop=CropRecipe(size=size), seed=seed,
    )  # fmt: skip
    with Progress(console=Console(stderr=True), disable=not Console(stderr=True).is_terminal) as bar:
        task = bar.add_task("epoch")
        return run_compact(
            config, folders, out, weights=weights, resume=resume, report=_print_line,
            progress=lambda step, steps: bar.update(task, completed=step, total=steps),
        )  # fmt: skip


def _run(engine: str, config: Any, folders: list[Path], out: Path, *, resume: bool) -> Path:
    from facedet.data.coco import FaceDataset
    from facedet.data.load import load_data
    from facedet.engines import detectron2_engine, torchvision_engine

    sets = [load_data(folder, split="train") for folder in folders]
    photos = tuple(photo for data in sets for photo in data.photos)
    train_set = FaceDataset(" + ".join(data.name for data in sets), sets[0].images_dir, photos)
    val_set = load_data(folders[0], split="val")
    run = {"torchvision": torchvision_engine.train, "detectron2": detectron2_engine.train}[engine]
    return run(
        config, train_set, val_set, out, resume=resume, report=_print_line, notice=lambda s: typer.echo(s, err=True)
    )


def _print_line(line: dict[str, Any]) -> None:
    numbers = {name: value for name, value in line.items() if isinstance(value, (int, float))}
    typer.echo("  ".join(f"{name} {value:.4g}" for name, value in numbers.items()), err=True)
