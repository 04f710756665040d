"""Train the compact detector: one loop, top to bottom.

A run is a folder (facedet/run.py) with last.pt, to resume, and best.pt: best AP50 on the validation photos, or the last
epoch where none was measured. Random numbers of an epoch depend on seed and epoch alone, so a killed run that is
resumed takes the same steps as one that was not.
"""

from __future__ import annotations

import copy
import hashlib
import math
import os
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from facedet.box_fit import BoxFit, measure_box_fits, with_box_fits
from facedet.checkpoint import load_whole, save_whole
from facedet.data.augment import Crop, CropRecipe, PhotoCache, random_crop
from facedet.data.coco import Photo, fingerprint
from facedet.errors import ConfigError, TrainingDiverged, WeightsError
from facedet.losses import Targets, compact_losses
from facedet.models.compact import STAGES, compact, mixed, revived
from facedet.muon import Muon
from facedet.run import Run, environment, plain

CLIP_NORM = 10.0
OPTIMISERS = ("adamw", "muon")
PRECISIONS = ("float32", "bfloat16")
COMPILERS = (os.environ.get("CXX", "g++"), "clang++", "cl")

FROZEN: dict[str, tuple[str, ...]] = {
    "none": (),
    "stem": STAGES[:1],
    "backbone": STAGES,
}
"""`CompactConfig.freeze` -> parts of the network that do not learn."""


@dataclass(frozen=True)
class CompactConfig:
    """Everything that decides a run of the compact detector.

    freeze: what stays as it is, for trained weights: "none"; "stem", the two first convolutions, which spares a fifth
    of the time; or "backbone", all stages and every norm's statistics, which spares two thirds.
    start_share: part of the start weights in what is kept, the rest being the learnt ones (Wortsman et al. 2022, Robust
    fine-tuning of zero-shot models): the more, the less is forgotten, and learnt.
    remember: where no face is labelled, what the start weights see stays right instead of becoming background: small
    sets leave faces out, and show little of what a detector has to know.
    fit_boxes: begin with the start weights' boxes made as wide and tall as the photos' labels are (facedet/box_fit.py).
    optimiser: adamw; or muon, for the convolutions without groups, and AdamW for the rest: of the same crops it learns
    more, for up to a tenth more time. precision: of the multiplications. compiled: by torch.compile, which needs a C++
    compiler and a minute; with bfloat16 the network then takes 0.56 of its time on a processor with AVX-512 BF16.
    eval_every: epochs between measurements, the last one always included; 0 for never.
    """

    epochs: int = 60
    batch_size: int = 16
    lr: float = 2e-3
    weight_decay: float = 0.03
    warmup_steps: int = 300
    ema_decay: float = 0.998
    freeze: str = "none"
    start_share: float = 0.0
    remember: bool = False
    fit_boxes: bool = False
    optimiser: str = "adamw"
    precision: str = "float32"
    compiled: bool = False
    eval_every: int = 1
    crop: CropRecipe = field(default_factory=CropRecipe)
    seed: int = 0

    def faults(self) -> list[str]:
        """Every setting that cannot work, one sentence each."""
        checks = [
            (self.epochs >= 1, f"epochs {self.epochs}: expected at least 1"),
            (self.batch_size >= 1, f"batch_size {self.batch_size}: expected at least 1"),
            (0 < self.lr < math.inf, f"lr {self.lr}: expected a finite number above 0"),
            (self.weight_decay >= 0, f"weight_decay {self.weight_decay}: expected at least 0"),
            (self.warmup_steps >= 0, f"warmup_steps {self.warmup_steps}: expected at least 0"),
            (0 <= self.ema_decay < 1, f"ema_decay {self.ema_decay}: expected 0 to below 1"),
            (self.freeze in FROZEN, f"freeze {self.freeze!r}: expected one of {', '.join(FROZEN)}"),
            (0 <= self.start_share < 1, f"start_share {self.start_share}: expected 0 to below 1"),
            (
                self.optimiser in OPTIMISERS,
                f"optimiser {self.optimiser!r}: expected one of {', '.join(OPTIMISERS)}",
            ),
            (
                self.precision in PRECISIONS,
                f"precision {self.precision!r}: expected one of {', '.join(PRECISIONS)} for compact",
            ),
            (self.seed >= 0, f"seed {self.seed}: expected at least 0"),
            (self.eval_every >= 0, f"eval_every {self.eval_every}: expected at least 0"),
        ]
        return [message for good, message in checks if not good] + self.crop.faults()

    def rate(self, step: int, steps: int) -> float:
        """The learning rate of one of `steps` in all: linear warm-up, then half a cosine to a hundredth."""
        warm = min(1.0, (step + 1) / max(self.warmup_steps, 1))
        return self.lr * warm * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * step / steps)))

    def measures(self, epoch: int) -> bool:
        """Whether the network is measured after `epoch`, counted from 1."""
        return self.eval_every > 0 and (epoch % self.eval_every == 0 or epoch == self.epochs)


FINE_TUNING_EPOCHS, FINE_TUNING_STEPS = 12, 150
"""At least, so that a small set is not over before the rate has risen and the moving average has followed."""


def fine_tuning(photos: int, *, batch_size: int = CompactConfig.batch_size) -> CompactConfig:
    """Settings to go on from trained weights with that many photos and a few hundred boxes: minutes on a processor."""
    steps = max(photos // max(batch_size, 1), 1)
    epochs = max(FINE_TUNING_EPOCHS, math.ceil(FINE_TUNING_STEPS / steps))
    return CompactConfig(
        epochs=epochs, batch_size=batch_size, lr=1e-3, warmup_steps=50, ema_decay=0.99, freeze="backbone",
        start_share=0.5, remember=True, fit_boxes=True,
    )  # fmt: skip


def train_compact(
    config: CompactConfig,
    photos: Sequence[Photo],
    out: Path,
    *,
    initial: Mapping[str, Tensor] | None = None,
    validate: Callable[[nn.Module], dict[str, float]] | None = None,
    resume: bool = False,
    report: Callable[[dict[str, Any]], None] = lambda line: None,
    progress: Callable[[int, int], None] = lambda step, steps: None,
) -> Path:
    """Train on photos and return the path of the best checkpoint.

    initial: weights to start from. validate: called with the averaged network every `eval_every` epochs; its "AP50"
    decides which checkpoint is best. report: called with each log line, and before them with what each stride's boxes
    were fitted by. progress: with step and steps of the epoch.
    Raises ConfigError, DataError, WeightsError, TrainingDiverged.
    """
    origin = {"data": fingerprint(photos), "weights": _fingerprint(initial)}
    with Run(out, config, last="last.pt", best="best.pt", origin=origin) as run:
        faults = config.faults() + run.faults(resume=resume)
        if len(photos) == 0:
            faults.append("no photos to train on")
        if config.freeze != "none" and initial is None:
            faults.append("freeze: expected weights to start from; a stem of random numbers would stay one")
        if config.start_share > 0 and initial is None:
            faults.append("start_share: expected weights to start from; random ones are worth nothing")
        if config.remember and initial is None:
            faults.append("remember: expected weights to start from; random ones have seen nothing")
        if config.fit_boxes and initial is None:
            faults.append("fit_boxes: expected weights to start from; random ones find no face")
        if config.compiled and not any(map(shutil.which, COMPILERS)):
            faults.append(f"compiled: no C++ compiler here, expected one of {', '.join(COMPILERS)}")
        if faults:
            raise ConfigError(faults)
        cache, box_fits = PhotoCache(), list[BoxFit]()
        if run.last.exists():
            try:
                saved = load_whole(run.last)
                box_fits = [BoxFit(**fit) for fit in saved.get("box_fits", ())]
                learner = Learner(config, _fitted(initial, box_fits))
                state = learner.restore(saved)
            except (WeightsError, KeyError, TypeError, ValueError, RuntimeError) as error:
                raise WeightsError(f"{run.last}: not the last checkpoint of a run of compact: {error}") from error
        else:
            if config.fit_boxes and initial is not None:
                box_fits = measure_box_fits(initial, photos, cache.read)
            for fit in box_fits:
                report({"boxes_of_stride": fit.stride, "labels": fit.faces, "wider": fit.wider, "taller": fit.taller})
            learner, state = Learner(config, _fitted(initial, box_fits)), {"epoch": 0, "best": -1.0}
        told = [asdict(fit) for fit in box_fits]
        steps = max(len(photos) // config.batch_size, 1)
        run.begin(int(state["epoch"]) * steps)
        for epoch in range(int(state["epoch"]), config.epochs):
            started = time.perf_counter()
            means: dict[str, float] = {}
            for step, crops in enumerate(_made_ahead(_batches_of(epoch, photos, config, cache))):
                rate = config.rate(epoch * steps + step, config.epochs * steps)
                for name, value in learner.learn(crops, epoch * steps + step, rate).items():
                    means[name] = means.get(name, 0.0) + value / steps
                progress(step + 1, steps)
            result = learner.result()
            metrics = validate(result) if validate and config.measures(epoch + 1) else {}
            line = {
                "epoch": epoch + 1, "step": (epoch + 1) * steps, **{f"loss_{k}": v for k, v in means.items()},
                **metrics, "photos": len(photos), "seconds": time.perf_counter() - started,
            }  # fmt: skip
            run.log(line)
            run.draw()
            # Of equal ones the later; an epoch that was not measured is the best one only as long as none was.
            score = metrics.get("AP50", -1.0)
            if score >= state["best"]:
                about = {
                    "model": "compact", "config": plain(config), "box_fits": told, "metrics": line, **environment(),
                }  # fmt: skip
                save_whole({"network": result.state_dict(), "metadata": about}, run.best)
            state = {"epoch": epoch + 1, "best": max(score, state["best"])}
            save_whole({**learner.state(), "state": state, "box_fits": told}, run.last)
            report(line)
    return run.best


def _fitted(initial: Mapping[str, Tensor] | None, fits: Sequence[BoxFit]) -> Mapping[str, Tensor] | None:
    return None if initial is None else with_box_fits(initial, fits)


def _fingerprint(initial: Mapping[str, Tensor] | None) -> str:
    """What tells the weights that a run starts from, from others."""
    if initial is None:
        return "none"
    digest = hashlib.sha256()
    for name, value in sorted(initial.items()):
        digest.update(name.encode() + value.numpy().tobytes())
    return f"sha256 {digest.hexdigest()[:12]}"


def _batches_of(epoch: int, photos: Sequence[Photo], config: CompactConfig, cache: PhotoCache) -> Iterator[list[Crop]]:
    """The batches of an epoch, each photo once in whole batches; photos fewer than one batch make a small one."""
    rng = np.random.default_rng([config.seed, epoch])
    order = rng.permutation(len(photos))
    for first in range(0, max(len(photos) - config.batch_size, 0) + 1, config.batch_size):
        chosen = order[first : first + config.batch_size]
        yield [random_crop(photos, int(i), cache, config.crop, rng) for i in chosen]


def _made_ahead(batches: Iterator[list[Crop]]) -> Iterator[list[Crop]]:
    """The same batches, each made while the network learns from the one before."""
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(next, batches, None)
        while (batch := waiting.result()) is not None:
            waiting = pool.submit(next, batches, None)
            yield batch


class Learner:
    """The network, its moving average and its optimiser. initial: weights to start from; None for random ones."""

    def __init__(self, config: CompactConfig, initial: Mapping[str, Tensor] | None) -> None:
        torch.manual_seed(config.seed)
        self._config = config
        model = compact()
        if initial is not None:
            model.load_state_dict(initial)
        self.model = model.to(memory_format=torch.channels_last)
        self._network: Any = torch.compile(self.model) if config.compiled else self.model
        self._initial = initial
        self._earlier = copy.deepcopy(self.model).eval().requires_grad_(False) if config.remember else None
        if initial is not None and config.freeze != "backbone":
            self.model.load_state_dict(revived(initial))
        self._still = [self.model.get_submodule(name).requires_grad_(False) for name in FROZEN[config.freeze]]
        if config.freeze == "backbone":
            self._still += [m for m in self.model.modules() if isinstance(m, nn.BatchNorm2d)]
        average = torch.optim.swa_utils.get_ema_multi_avg_fn(config.ema_decay)  # type: ignore[no-untyped-call]
        self.averaged = torch.optim.swa_utils.AveragedModel(self.model, multi_avg_fn=average, use_buffers=True)
        self._optimisers = optimisers(self.model, config)

    def learn(self, crops: Sequence[Crop], step: int, rate: float) -> dict[str, float]:
        """Take one step at learning rate `rate`; the losses by name. Raises TrainingDiverged, naming `step`."""
        self.model.train()
        for module in self._still:
            module.eval()  # else the statistics of its norms would go on moving
        for group in (group for optimiser in self._optimisers for group in optimiser.param_groups):
            group["lr"] = rate
        images = torch.from_numpy(np.stack([c.image for c in crops])).permute(0, 3, 1, 2).float()
        targets = [Targets(torch.from_numpy(c.boxes_xyxy), torch.from_numpy(c.ignored_xyxy)) for c in crops]
        earlier = None if self._earlier is None else self._earlier(images)
        with torch.autocast("cpu", torch.bfloat16, enabled=self._config.precision == "bfloat16"):
            points = self._network(images)
        losses = compact_losses(points, targets, self._config.crop.size, earlier=earlier)
        parts = {name: value.item() for name, value in losses.items()}
        if not math.isfinite(sum(parts.values())):
            text = ", ".join(f"{name} {value}" for name, value in parts.items())
            raise TrainingDiverged(f"step {step}: loss {sum(parts.values())} ({text})")
        self.model.zero_grad(set_to_none=True)
        torch.stack(list(losses.values())).sum().backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(self.model.parameters(), CLIP_NORM)
        for optimiser in self._optimisers:
            optimiser.step()
        self.averaged.update_parameters(self.model)
        return parts

    def result(self) -> nn.Module:
        """The moving average, mixed with the start weights by `start_share`."""
        network = copy.deepcopy(self.averaged.module)
        if self._initial is not None and self._config.start_share > 0:
            network.load_state_dict(mixed(network.state_dict(), self._initial, self._config.start_share))
        return network

    def state(self) -> dict[str, Any]:
        """What `restore` needs to go on."""
        return {
            "model": self.model.state_dict(),
            "averaged": self.averaged.state_dict(),
            "optimisers": [optimiser.state_dict() for optimiser in self._optimisers],
        }

    def restore(self, saved: Mapping[str, Any]) -> dict[str, float]:
        """Take up what last.pt holds; returns how far the run was."""
        self.model.load_state_dict(saved["model"])
        self.averaged.load_state_dict(saved["averaged"])
        for optimiser, state in zip(self._optimisers, saved["optimisers"], strict=True):
            optimiser.load_state_dict(state)
        progress: dict[str, float] = saved["state"]
        return progress


def optimisers(model: nn.Module, config: CompactConfig) -> list[torch.optim.Optimizer]:
    """What `config.optimiser` means, for all of the model that learns."""
    convolutions = [m for m in model.modules() if isinstance(m, nn.Conv2d) and m.groups == 1 and m.bias is None]
    matrices = [m.weight for m in convolutions if m.weight.requires_grad] if config.optimiser == "muon" else []
    taken = {id(weight) for weight in matrices}
    groups = parameter_groups(model, config.weight_decay, spared=lambda name, parameter: parameter.ndim <= 1)
    rest = [{**group, "params": [p for p in group["params"] if id(p) not in taken]} for group in groups]
    chosen: list[torch.optim.Optimizer] = [torch.optim.AdamW(rest, lr=config.lr)]
    if matrices:
        precision = torch.bfloat16 if config.precision == "bfloat16" else torch.float32
        chosen.append(Muon(matrices, lr=config.lr, weight_decay=config.weight_decay, precision=precision))
    return chosen


def parameter_groups(
    model: nn.Module, weight_decay: float, *, spared: Callable[[str, Tensor], bool]
) -> list[dict[str, Any]]:
    """What learns, in an optimiser's two groups: with weight decay, and without it where `spared` (name, tensor)."""
    learning = [(name, parameter) for name, parameter in model.named_parameters() if parameter.requires_grad]
    return [
        {"params": [p for n, p in learning if not spared(n, p)], "weight_decay": weight_decay},
        {"params": [p for n, p in learning if spared(n, p)], "weight_decay": 0.0},
    ]
