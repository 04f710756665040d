"""Train a classifier: one loop, top to bottom.

A run is a folder: config.json, log.jsonl (a line per epoch), last.pt (resume), best.pt (best PublicTest accuracy),
curve.png. Random numbers of an epoch depend on seed and epoch alone, so a killed run that is resumed takes the same
steps as one that was not.
"""

from __future__ import annotations

import dataclasses
import json
import math
import os
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from emotion.data import FERPLUS_CLASSES, FerSplit, drop_duplicates, load_fer2013, load_ferplus_votes
from emotion.data.augment import Augmentation, augment, centre_view
from emotion.errors import ConfigError, DataError
from emotion.expressions import EMOTIONS
from emotion.models import MODELS


@dataclass(frozen=True)
class TrainConfig:
    """Everything that decides a run. Sizes in pixels, rates per step, `size_schedule` as (from fraction, size)."""

    model: str = "fer_resnet"
    epochs: int = 25
    batch_size: int = 96
    lr: float = 0.08
    weight_decay: float = 5e-4
    warmup_epochs: float = 1.5
    label_smoothing: float = 0.1
    ferplus_weight: float = 0.5
    ema_decay: float = 0.998
    size_schedule: tuple[tuple[float, int], ...] = ((0.0, 32), (0.6, 40))
    eval_size: int = 44
    augmentation: Augmentation = field(default_factory=Augmentation)
    precision: str = "auto"
    seed: int = 0

    def faults(self) -> list[str]:
        """Every setting that cannot work, one sentence each."""
        checks = [
            (self.model in MODELS, f"model {self.model!r}: expected one of {', '.join(MODELS)}"),
            (self.epochs >= 1, f"epochs {self.epochs}: expected at least 1"),
            (self.batch_size >= 2, f"batch_size {self.batch_size}: expected at least 2"),
            (self.lr > 0, f"lr {self.lr}: expected more than 0"),
            (0 <= self.label_smoothing < 1, f"label_smoothing {self.label_smoothing}: expected 0 to below 1"),
            (0 <= self.ema_decay < 1, f"ema_decay {self.ema_decay}: expected 0 to below 1"),
            (
                self.precision in ("auto", "float32", "bfloat16"),
                f"precision {self.precision!r}: expected auto, float32 or bfloat16",
            ),
            (
                bool(self.size_schedule)
                and self.size_schedule[0][0] == 0
                and all(size >= 24 for _, size in self.size_schedule),
                f"size_schedule {self.size_schedule}: expected (0.0, size) first and sizes of 24 px or more",
            ),
        ]
        return [message for good, message in checks if not good]


class TrainingDiverged(RuntimeError):
    """The loss is not finite; the text gives its parts and the step."""


def train(
    config: TrainConfig,
    data: Path,
    out: Path,
    *,
    ferplus: Path | None = None,
    resume: bool = False,
    report: Callable[[dict[str, Any]], None] = lambda line: None,
    progress: Callable[[int, int], None] = lambda step, steps: None,
) -> Path:
    """Train on `data` and return the path of the best checkpoint.

    report: called with each line of log.jsonl. progress: called with step and steps of the epoch.
    Raises ConfigError, DataError, TrainingDiverged.
    """
    faults = config.faults()
    if config.ferplus_weight > 0 and ferplus is None:
        faults.append("ferplus_weight above 0 needs the FER+ votes file (or set it to 0)")
    if (out / "last.pt").exists() and not resume:
        faults.append(f"{out} holds a run already: resume it or choose another folder")
    if faults:
        raise ConfigError(faults)

    public = load_fer2013(data, "public")
    everything = load_fer2013(data, "train")
    held_out = [public, *_optional_split(data, "private")]
    split, dropped = drop_duplicates(everything, *held_out)
    votes = load_ferplus_votes(ferplus, split.names) if ferplus else np.zeros((len(split), len(FERPLUS_CLASSES)))
    out.mkdir(parents=True, exist_ok=True)
    (out / "config.json").write_text(json.dumps(dataclasses.asdict(config), indent=1))

    torch.manual_seed(config.seed)
    network = MODELS[config.model](len(EMOTIONS))
    model = WithAuxiliaryHead(network).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    averaged = torch.optim.swa_utils.AveragedModel(
        model, multi_avg_fn=torch.optim.swa_utils.get_ema_multi_avg_fn(config.ema_decay), use_buffers=True
    )
    optimiser = torch.optim.SGD(parameter_groups(model, config.weight_decay), lr=config.lr, momentum=0.9, nesterov=True)
    precision = resolve_precision(config.precision)
    state = {"epoch": 0, "best": 0.0}
    if resume and (out / "last.pt").exists():
        saved = torch.load(out / "last.pt", weights_only=True)
        model.load_state_dict(saved["model"])
        averaged.load_state_dict(saved["averaged"])
        optimiser.load_state_dict(saved["optimiser"])
        state = saved["state"]

    images = torch.from_numpy(split.images).unsqueeze(1)
    labels = torch.from_numpy(split.labels)
    soft = torch.from_numpy(np.asarray(votes, np.float32))
    soft = soft / soft.sum(1, keepdim=True).clamp(min=1)
    steps = len(split) // config.batch_size
    for epoch in range(state["epoch"], config.epochs):
        rng = torch.Generator().manual_seed(config.seed * 100_003 + epoch)
        torch.manual_seed(config.seed * 100_003 + epoch)  # dropout
        size = [size for start, size in config.size_schedule if epoch >= start * config.epochs][-1]
        order = torch.randperm(len(split), generator=rng)
        sums = {"loss": 0.0, "accuracy": 0.0}
        started = time.perf_counter()
        model.train()
        for step in range(steps):
            chosen = order[step * config.batch_size : (step + 1) * config.batch_size]
            for group in optimiser.param_groups:
                group["lr"] = learning_rate(config, epoch + step / steps)
            batch = augment(images[chosen].float() / 255, size, config.augmentation, rng)
            with torch.autocast("cpu", dtype=torch.bfloat16, enabled=precision == "bfloat16"):
                logits, auxiliary = model(batch.to(memory_format=torch.channels_last))
            hard = F.cross_entropy(logits.float(), labels[chosen], label_smoothing=config.label_smoothing)
            softly = -(soft[chosen] * auxiliary.float().log_softmax(1)).sum(1).mean()
            loss = hard + config.ferplus_weight * softly
            if not math.isfinite(loss.item()):
                raise TrainingDiverged(f"epoch {epoch}, step {step}: loss {loss.item()} (hard {hard}, FER+ {softly})")
            optimiser.zero_grad(set_to_none=True)
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 5.0)
            optimiser.step()
            averaged.update_parameters(model)
            sums["loss"] += loss.item() / steps
            sums["accuracy"] += (logits.argmax(1) == labels[chosen]).float().mean().item() / steps
            progress(step + 1, steps)
        accuracy = public_accuracy(averaged.module.network, public, config.eval_size)
        improved = accuracy > state["best"]
        state = {"epoch": epoch + 1, "best": max(accuracy, state["best"])}
        line = {
            "epoch": epoch + 1, "size": size, "train_loss": sums["loss"], "train_accuracy": sums["accuracy"],
            "public_accuracy": accuracy, "best": state["best"], "seconds": time.perf_counter() - started,
            "train_images": len(split), "duplicates_dropped": dropped,
        }  # fmt: skip
        with (out / "log.jsonl").open("a") as log:
            log.write(json.dumps(line) + "\n")
        if improved:
            metadata = run_metadata(config, line)
            save_whole({"network": averaged.module.network.state_dict(), "metadata": metadata}, out / "best.pt")
        save_whole(
            {
                "model": model.state_dict(), "averaged": averaged.state_dict(),
                "optimiser": optimiser.state_dict(), "state": state,
            },
            out / "last.pt",
        )  # fmt: skip
        report(line)
    return out / "best.pt"


class WithAuxiliaryHead(nn.Module):
    """A classifier with a second, training-only head that learns the FER+ vote shares from the same features."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network
        self.auxiliary = nn.Linear(network.feature_width, len(FERPLUS_CLASSES))  # type: ignore[arg-type]

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        features = self.network.features(x)  # type: ignore[operator]
        return self.network.head(features), self.auxiliary(features)  # type: ignore[operator]


def learning_rate(config: TrainConfig, epoch: float) -> float:
    """Linear warm-up, then half a cosine to zero. `epoch` is fractional."""
    if epoch < config.warmup_epochs:
        return config.lr * (epoch + 0.01) / (config.warmup_epochs + 0.01)
    done = (epoch - config.warmup_epochs) / max(config.epochs - config.warmup_epochs, 1e-9)
    return config.lr * 0.5 * (1 + math.cos(math.pi * min(done, 1.0)))


def parameter_groups(model: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Weight decay for matrices and kernels only, not for norms and biases."""
    parameters = [p for p in model.parameters() if p.requires_grad]
    return [
        {"params": [p for p in parameters if p.ndim > 1], "weight_decay": weight_decay},
        {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
    ]


@torch.inference_mode()
def public_accuracy(network: nn.Module, split: FerSplit, size: int) -> float:
    """Seven-way top-1 accuracy of a network on the centre view of a split."""
    network.eval()
    right = 0
    for start in range(0, len(split), 256):
        images = torch.from_numpy(split.images[start : start + 256]).unsqueeze(1).float() / 255
        logits = network(centre_view(images, size).to(memory_format=torch.channels_last))
        right += int((logits.argmax(1).numpy() == split.labels[start : start + 256]).sum())
    return right / len(split)


def resolve_precision(wanted: str) -> str:
    """ "auto" becomes bfloat16 where the processor multiplies it natively, else float32 (emulation is 10 times slower)."""
    if wanted != "auto":
        return wanted
    native = torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    return "bfloat16" if native else "float32"


def run_metadata(config: TrainConfig, metrics: dict[str, Any]) -> dict[str, Any]:
    """What a checkpoint says of itself: settings, metrics, environment, commit."""
    commit = subprocess.run(
        ["git", "-C", str(Path(__file__).parent), "rev-parse", "HEAD"], capture_output=True, text=True, check=False
    )
    return {
        "config": json.loads(json.dumps(dataclasses.asdict(config))),
        "metrics": metrics,
        "labels": list(EMOTIONS),
        "torch": torch.__version__,
        "commit": commit.stdout.strip() or "unknown",
    }


def save_whole(value: dict[str, Any], path: Path) -> None:
    """Save so that a kill leaves either the old file or the new one."""
    part = path.with_suffix(".part")
    torch.save(value, part)
    os.replace(part, path)


def _optional_split(data: Path, name: str) -> list[FerSplit]:
    try:
        return [load_fer2013(data, name)]
    except DataError:
        return []
