"""Train the compact detector: one loop, top to bottom.

A run is a folder: config.json, log.jsonl (a line per epoch), last.pt (resume), best.pt (best AP50 on the validation
photos, or the last epoch where there are none). Random numbers of an epoch depend on seed and epoch alone, so a killed
run that is resumed takes the same steps as one that was not.
"""

from __future__ import annotations

import dataclasses
import json
import math
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from facedet.data.augment import CropRecipe, PhotoCache, random_crop
from facedet.data.coco import Photo
from facedet.engines.run import environment
from facedet.errors import ConfigError, FacedetError
from facedet.losses import Targets, compact_losses
from facedet.models.compact import compact


@dataclass(frozen=True)
class CompactConfig:
    """Everything that decides a run of the compact detector."""

    epochs: int = 60
    batch_size: int = 16
    lr: float = 2e-3
    weight_decay: float = 0.03
    warmup_steps: int = 300
    ema_decay: float = 0.999
    crop: CropRecipe = field(default_factory=CropRecipe)
    seed: int = 0

    def faults(self) -> list[str]:
        """Every setting that cannot work, one sentence each."""
        checks = [
            (self.epochs >= 1, f"epochs {self.epochs}: expected at least 1"),
            (self.batch_size >= 1, f"batch_size {self.batch_size}: expected at least 1"),
            (self.lr > 0, f"lr {self.lr}: expected more than 0"),
            (0 <= self.ema_decay < 1, f"ema_decay {self.ema_decay}: expected 0 to below 1"),
            (
                self.crop.size >= 64 and self.crop.size % 32 == 0,
                f"crop size {self.crop.size}: expected a multiple of 32 of at least 64",
            ),
        ]
        return [message for good, message in checks if not good]


FINE_TUNING = CompactConfig(epochs=12, lr=4e-4, warmup_steps=50, ema_decay=0.99)
"""From trained weights, on a few hundred boxes: minutes on a processor."""


class TrainingDiverged(FacedetError):
    """The loss is not finite; the text gives its parts and the step."""


def train_compact(
    config: CompactConfig,
    photos: Sequence[Photo],
    out: Path,
    *,
    initial: dict[str, torch.Tensor] | None = None,
    validate: Callable[[nn.Module], dict[str, float]] | None = None,
    resume: bool = False,
    report: Callable[[dict[str, Any]], None] = lambda line: None,
    progress: Callable[[int, int], None] = lambda step, steps: None,
) -> Path:
    """Train on photos and return the path of the best checkpoint.

    initial: weights to start from. validate: called with the averaged network after each epoch; its "AP50" decides
    which checkpoint is best. report and progress: called with each log line, and with step and steps of the epoch.
    Raises ConfigError, DataError, TrainingDiverged.
    """
    faults = config.faults()
    if len(photos) == 0:
        faults.append("no photos to train on")
    if (out / "last.pt").exists() and not resume:
        faults.append(f"{out} holds a run already: resume it or choose another folder")
    if faults:
        raise ConfigError(faults)
    out.mkdir(parents=True, exist_ok=True)
    (out / "config.json").write_text(json.dumps(dataclasses.asdict(config), indent=1))

    torch.manual_seed(config.seed)
    model = compact()
    if initial is not None:
        model.load_state_dict(initial)
    model = model.to(memory_format=torch.channels_last)
    average = torch.optim.swa_utils.get_ema_multi_avg_fn(config.ema_decay)  # type: ignore[no-untyped-call]
    averaged = torch.optim.swa_utils.AveragedModel(model, multi_avg_fn=average, use_buffers=True)
    optimiser = torch.optim.AdamW(parameter_groups(model, config.weight_decay), lr=config.lr)
    state = {"epoch": 0, "best": -1.0}
    if resume and (out / "last.pt").exists():
        saved = torch.load(out / "last.pt", weights_only=True)
        model.load_state_dict(saved["model"])
        averaged.load_state_dict(saved["averaged"])
        optimiser.load_state_dict(saved["optimiser"])
        state = saved["state"]

    cache = PhotoCache()
    steps = max(len(photos) // config.batch_size, 1)
    for epoch in range(int(state["epoch"]), config.epochs):
        rng = np.random.default_rng([config.seed, epoch])
        order = rng.permutation(len(photos))
        sums: dict[str, float] = {}
        started = time.perf_counter()
        model.train()
        for step in range(steps):
            chosen = order[step * config.batch_size : (step + 1) * config.batch_size]
            crops = [random_crop(photos, int(i), cache, config.crop, rng) for i in chosen]
            images = torch.from_numpy(np.stack([c.image for c in crops])).permute(0, 3, 1, 2).float()
            targets = [Targets(torch.from_numpy(c.boxes_xyxy), torch.from_numpy(c.ignored_xyxy)) for c in crops]
            for group in optimiser.param_groups:
                group["lr"] = learning_rate(config, epoch * steps + step, config.epochs * steps)
            losses = compact_losses(model(images), targets, config.crop.size)
            loss = torch.stack(list(losses.values())).sum()
            if not math.isfinite(loss.item()):
                parts = ", ".join(f"{k} {v.item()}" for k, v in losses.items())
                raise TrainingDiverged(f"epoch {epoch}, step {step}: loss {loss.item()} ({parts})")
            optimiser.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            nn.utils.clip_grad_norm_(model.parameters(), 10.0)
            optimiser.step()
            averaged.update_parameters(model)
            for name, value in losses.items():
                sums[name] = sums.get(name, 0.0) + value.item() / steps
            progress(step + 1, steps)
        metrics = validate(averaged.module) if validate else {}
        score = metrics.get("AP50", float(epoch))
        improved = score > state["best"]
        state = {"epoch": epoch + 1, "best": max(score, state["best"])}
        line = {
            "epoch": epoch + 1, "step": (epoch + 1) * steps, **{f"loss_{k}": v for k, v in sums.items()}, **metrics,
            "photos": len(photos), "seconds": time.perf_counter() - started,
        }  # fmt: skip
        with (out / "log.jsonl").open("a") as log:
            log.write(json.dumps(line) + "\n")
        if improved:
            save_whole(
                {"network": averaged.module.state_dict(), "metadata": run_metadata(config, line)}, out / "best.pt"
            )
        save_whole(
            {
                "model": model.state_dict(), "averaged": averaged.state_dict(),
                "optimiser": optimiser.state_dict(), "state": state,
            },
            out / "last.pt",
        )  # fmt: skip
        report(line)
    return out / "best.pt"


def learning_rate(config: CompactConfig, step: int, steps: int) -> float:
    """Linear warm-up, then half a cosine to a hundredth."""
    warm = min(1.0, (step + 1) / max(config.warmup_steps, 1))
    return config.lr * warm * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * step / steps)))


def parameter_groups(model: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Weight decay for kernels only, not for norms and biases."""
    parameters = [p for p in model.parameters() if p.requires_grad]
    return [
        {"params": [p for p in parameters if p.ndim > 1], "weight_decay": weight_decay},
        {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
    ]


def run_metadata(config: CompactConfig, metrics: dict[str, Any]) -> dict[str, Any]:
    """What a checkpoint says of itself: settings, metrics, environment, commit."""
    return {
        "model": "compact",
        "config": json.loads(json.dumps(dataclasses.asdict(config))),
        "metrics": metrics,
        **environment(),
    }


def save_whole(value: dict[str, Any], path: Path) -> None:
    """Save so that a kill leaves either the old file or the new one."""
    part = path.with_suffix(".part")
    torch.save(value, part)
    os.replace(part, path)
