"""`facedet train`: the compact detector, or Faster R-CNN by either engine."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import Progress

COMPACT = "compact"
FEW_FACES = 20
"""With fewer to measure on, AP says little."""


def train(
    *,
    data: Annotated[
        list[Path],
        typer.Option(help="Prepared folder, trained on by its train split, or as a whole if it has none; repeatable."),
    ],
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder of the run.")],
    model: Annotated[str, typer.Option(help="compact, or faster_rcnn_x101_fpn, _r50_fpn, _r18_fpn, _compact_fpn.")],
    val: Annotated[
        Path | None, typer.Option(help="Data to measure on. Default: the val split of the first --data that has one.")
    ] = None,
    weights: Annotated[
        str | None,
        typer.Option(
            help="compact and faster_rcnn_compact_fpn: bundled (default), none, a file. _r18_fpn: none (default), "
            "a file. The others: coco (default), imagenet, none, a file."
        ),
    ] = None,
    batch_size: Annotated[
        int | None, typer.Option(help="Photos per step, over all processes. Default 2, compact 16.")
    ] = None,
    lr: Annotated[
        float | None,
        typer.Option(help="Learning rate for this batch size. Default 0.0025; compact 0.001, from none 0.002."),
    ] = None,
    weight_decay: Annotated[float | None, typer.Option(help="Default 0.0001, compact 0.03.")] = None,
    warmup_steps: Annotated[
        int | None, typer.Option(help="Steps until the full rate. Default 500; compact 50, from none 300.")
    ] = None,
    eval_every: Annotated[
        int | None,
        typer.Option(help="Steps between measurements, default 500; compact: epochs, default 1, 0 for never."),
    ] = None,
    seed: Annotated[int | None, typer.Option(min=0, help="Of everything random. Default 0.")] = None,
    resume: Annotated[bool, typer.Option(help="Go on with the run in --out.")] = False,
    epochs: Annotated[
        int | None,
        typer.Option(help="compact: passes over the photos. Default 12, more for under 200 photos; from none 60."),
    ] = None,
    size: Annotated[
        int | None, typer.Option(help="compact: side of the training crops, a multiple of 32. Default 320.")
    ] = None,
    face_px: Annotated[
        tuple[float, float] | None,
        typer.Option(help="compact: smallest and largest face that crops are placed on. Default 8 260."),
    ] = None,
    mosaic: Annotated[float | None, typer.Option(help="compact: share of crops made of four. Default 0.15.")] = None,
    augmentation: Annotated[
        str | None, typer.Option(help="compact: plain (default), or strong: faces also turned, stretched and covered.")
    ] = None,
    ema_decay: Annotated[
        float | None,
        typer.Option(help="compact: of the moving average, which is what is kept. Default 0.99, from none 0.998."),
    ] = None,
    freeze: Annotated[
        str | None,
        typer.Option(help="compact: what stays as it is: none, stem or backbone. Default backbone, from none none."),
    ] = None,
    start_share: Annotated[
        float | None,
        typer.Option(
            help="compact: part of the start weights in what is kept: the more, the less is forgotten, and learnt. "
            "Default 0.5, from none 0."
        ),
    ] = None,
    remember: Annotated[
        bool | None,
        typer.Option(
            help="compact: where no face is labelled, what the start weights see stays right instead of becoming "
            "background. Default yes, from none no."
        ),
    ] = None,
    fit_boxes: Annotated[
        bool | None,
        typer.Option(
            help="compact: begin with the start weights' boxes made as wide and tall as the labels are, where 100 "
            "faces or more tell it. Default yes, from none no."
        ),
    ] = None,
    optimiser: Annotated[str | None, typer.Option(help="compact: adamw (default) or muon.")] = None,
    compiled: Annotated[
        bool | None,
        typer.Option("--compile/--no-compile", help="compact: by torch.compile, which needs a C++ compiler."),
    ] = None,
    precision: Annotated[
        str | None, typer.Option(help="auto (default), float32, bfloat16 or float16; compact: float32 or bfloat16.")
    ] = None,
    engine: Annotated[str | None, typer.Option(help="Faster R-CNN: torchvision (default) or detectron2.")] = None,
    preset: Annotated[str | None, typer.Option(help="Anchors and counts: face (from 16 px), face8 or coco.")] = None,
    norm: Annotated[
        str | None,
        typer.Option(help="bn, gn or frozen_bn. Default of _x101_fpn and _r50_fpn frozen_bn, of others and none bn."),
    ] = None,
    freeze_at: Annotated[
        int | None, typer.Option(help="Backbone stages that do not learn. Default 2; 0 for none.")
    ] = None,
    steps: Annotated[int | None, typer.Option(help="Steps of the run. Default 9000.")] = None,
    clip_norm: Annotated[
        float | None, typer.Option(help="Bound of the gradient's norm. Default 10; 0 for none.")
    ] = None,
    short_px: Annotated[
        list[int] | None, typer.Option(help="Short side of photos in training; repeatable. Default 640 to 800.")
    ] = None,
    long_px: Annotated[int | None, typer.Option(help="Bound of the long side in training. Default 1333.")] = None,
    crop_px: Annotated[int | None, typer.Option(help="Train on square crops of this side; 0 for whole photos.")] = None,
    test_short_px: Annotated[int | None, typer.Option(help="Short side when measured and used. Default 800.")] = None,
    test_long_px: Annotated[
        int | None, typer.Option(help="Bound of the long side when measured and used. Default 1333.")
    ] = None,
    log_every: Annotated[int | None, typer.Option(help="Steps between lines of the log. Default 20.")] = None,
    patience: Annotated[
        int | None, typer.Option(help="Measurements without a better AP before stopping. Default 0: never.")
    ] = None,
) -> None:
    """Train a face detector; Faster R-CNN also under torchrun on several processes.

    `--model compact --weights bundled` fine-tunes the shipped detector in minutes on a processor; the folder of the
    run gets config.json, log.jsonl, best.pt, last.pt, curves.png and best.onnx for `--detector RUN/best.onnx`.

    Faster R-CNN:

    The folder of the run gets config.json, log.jsonl, model_last.pth, model_best.pth, curves.png and TensorBoard's
    events. Checkpoints are in Detectron2's format: `--detector RUN/model_best.pth` uses them, and so does Detectron2.
    """
    common = {
        "batch_size": batch_size, "lr": lr, "weight_decay": weight_decay, "warmup_steps": warmup_steps,
        "eval_every": eval_every, "seed": seed, "precision": precision,
    }  # fmt: skip
    of_compact = {
        "epochs": epochs, "size": size, "face_px": face_px, "mosaic": mosaic, "augmentation": augmentation,
        "ema_decay": ema_decay, "freeze": freeze, "start_share": start_share, "remember": remember,
        "fit_boxes": fit_boxes, "optimiser": optimiser, "compiled": compiled,
    }  # fmt: skip
    of_faster_rcnn = {
        "engine": engine, "preset": preset, "norm": norm, "freeze_at": freeze_at, "steps": steps,
        "clip_norm": clip_norm, "short_px": tuple(short_px) if short_px else None, "long_px": long_px,
        "crop_px": crop_px, "test_short_px": test_short_px, "test_long_px": test_long_px, "log_every": log_every,
        "patience": patience,
    }  # fmt: skip
    own, others = (of_compact, of_faster_rcnn) if model == COMPACT else (of_faster_rcnn, of_compact)
    faults = _without_effect(model, _given(others))
    run = _train_compact if model == COMPACT else _train_faster_rcnn
    typer.echo(run(model, _given({**common, **own}), data, val, out, weights=weights, resume=resume, faults=faults))


def _given(options: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in options.items() if value is not None}


def _without_effect(what: str, options: Iterable[str]) -> list[str]:
    return [f"--{name.replace('_', '-')}: has no meaning for {what}" for name in options]


def _train_compact(
    model: str, given: dict[str, Any], folders: list[Path], val: Path | None, out: Path, *,
    weights: str | None, resume: bool, faults: list[str],
) -> Path:  # fmt: skip
    from facedet.compact_config import CompactConfig, fine_tuning
    from facedet.compact_run import run_compact
    from facedet.data.augment import AUGMENTATIONS, CropRecipe
    from facedet.engines.distributed import asked_size
    from facedet.errors import ConfigError

    if asked_size() > 1:
        faults += ["compact trains in one process; Faster R-CNN by the torchvision engine runs under torchrun"]
    augmentation = given.pop("augmentation", "plain")
    if augmentation not in AUGMENTATIONS:
        faults += [f"augmentation {augmentation!r}: expected one of {', '.join(AUGMENTATIONS)}"]
    of_crop = {name: given.pop(name) for name in ("size", "face_px", "mosaic") if name in given}
    crop = CropRecipe(**of_crop, **AUGMENTATIONS.get(augmentation, {}))
    if faults:
        raise ConfigError(faults + dataclasses.replace(CompactConfig(), crop=crop, **given).faults())
    train_set, val_set = _load(folders, val)
    batch_size = given.get("batch_size", CompactConfig.batch_size)
    start = CompactConfig() if weights == "none" else fine_tuning(len(train_set), batch_size=batch_size)
    config = dataclasses.replace(start, crop=crop, **given)
    with Progress(console=Console(stderr=True), disable=not Console(stderr=True).is_terminal) as bar:
        task = bar.add_task("epoch")
        return run_compact(
            config, train_set, val_set, out, weights=weights or "bundled", resume=resume, report=_print_line,
            progress=lambda step, steps: bar.update(task, completed=step, total=steps),
        )  # fmt: skip


def _train_faster_rcnn(
    model: str, given: dict[str, Any], folders: list[Path], val: Path | None, out: Path, *,
    weights: str | None, resume: bool, faults: list[str],
) -> Path:  # fmt: skip
    from facedet.engines import detectron2_engine, torchvision_engine
    from facedet.engines.config import ENGINES, FasterRCNNConfig
    from facedet.engines.detectron2_engine import UNUSED
    from facedet.errors import ConfigError

    engine = given.pop("engine", "torchvision")
    start = {"faster_rcnn_compact_fpn": "bundled", "faster_rcnn_r18_fpn": "none"}.get(model, "coco")
    config = FasterRCNNConfig(model=model, weights=weights or start, **given)
    faults += config.faults() + ([] if resume else config.start_faults())
    if engine == "detectron2":
        faults += _without_effect("the detectron2 engine", [name for name in UNUSED if name in given])
    if engine not in ENGINES:
        faults.append(f"engine {engine!r}: expected one of {', '.join(ENGINES)}")
    if faults:
        raise ConfigError(faults)
    train_set, val_set = _load(folders, val)
    run = {"torchvision": torchvision_engine.train, "detectron2": detectron2_engine.train}[engine]
    return run(
        config, train_set, val_set, out, resume=resume, report=_print_line, notice=lambda s: typer.echo(s, err=True)
    )


def _load(folders: list[Path], val: Path | None) -> Any:
    from facedet.data.load import load_training

    train_set, val_set = load_training(folders, val=val)
    if val_set is None:
        typer.echo("note: no val split in --data and no --val: not measured, the last checkpoint is the best", err=True)
    elif val_set.face_count < FEW_FACES:
        typer.echo(f"note: {val_set.face_count} faces to measure on: the best checkpoint is chosen by chance", err=True)
    return train_set, val_set


def _print_line(line: dict[str, Any]) -> None:
    numbers = {name: value for name, value in line.items() if isinstance(value, (int, float))}
    typer.echo("  ".join(f"{name} {value:.4g}" for name, value in numbers.items()), err=True)
