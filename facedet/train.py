"""Train the compact detector: one loop, top to bottom.

A run is a folder (facedet/run.py) with last.pt, to resume, and best.pt: best AP50 on the validation photos, or the last
epoch where none was measured. Random numbers of an epoch depend on seed and epoch alone, so a killed run that is
resumed takes the same steps as one that was not. An epoch is saved before it is measured, too: a photo that cannot be
read ends a run.
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
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from facedet.box_fit import BoxFit, measure_box_fits, with_box_fits
from facedet.checkpoint import load_whole, save_whole
from facedet.compact_config import FROZEN, CompactConfig
from facedet.data.augment import Crop, PhotoCache, random_crop
from facedet.data.coco import Photo
from facedet.errors import ConfigError, TrainingDiverged, WeightsError
from facedet.losses import Targets, compact_losses
from facedet.models.compact import compact, mixed, revived
from facedet.muon import Muon
from facedet.run import Run, data_faults, environment, origin, plain

CLIP_NORM = 10.0
COMPILERS = (os.environ.get("CXX", "g++"), "clang++", "cl")


@dataclass(frozen=True)
class Progress:
    """Where a run stands: epochs taken, the best AP50 so far, and the log line of an epoch to be measured yet."""

    epoch: int = 0
    best: float = -1.0
    due: dict[str, Any] | None = None


def train_compact(
    config: CompactConfig,
    photos: Sequence[Photo],
    out: Path,
    *,
    initial: Mapping[str, Tensor] | None = None,
    val: Sequence[Photo] = (),
    validate: Callable[[nn.Module], dict[str, float]] | None = None,
    resume: bool = False,
    report: Callable[[dict[str, Any]], None] = lambda line: None,
    progress: Callable[[int, int], None] = lambda step, steps: None,
) -> Path:
    """Train on photos and return the path of the best checkpoint.

    initial: weights to start from. validate: called with the averaged network every `eval_every` epochs; its "AP50"
    decides which checkpoint is best. val: the photos that it measures on, to resume only with the same. report: called
    with each log line, and before them with what each stride's boxes were fitted by. progress: with step and steps of
    the epoch.
    Raises ConfigError, DataError, WeightsError, TrainingDiverged.
    """
    began = {**origin(photos, val), "weights": _fingerprint(initial)}
    with Run(out, config, last="last.pt", best="best.pt", origin=began) as run:
        faults = config.faults() + run.faults(resume=resume) + data_faults(photos, val)
        if faults := faults + _start_faults(config, initial):
            raise ConfigError(faults)
        cache = PhotoCache()
        learner, reached, box_fits = _begin(config, photos, run, initial, cache, report)
        steps = max(len(photos) // config.batch_size, 1)
        run.begin((reached.epoch - (reached.due is not None)) * steps)

        def measure(reached: Progress, due: dict[str, Any], started: float) -> Progress:
            """Save the epoch, measure it where it is its turn, log it, and write best.pt when it is."""
            _save_last(run, learner, replace(reached, due=due), box_fits)
            result = learner.result()
            metrics = validate(result) if validate and config.measures(reached.epoch) else {}
            line = {**due, **metrics, "photos": len(photos), "seconds": time.perf_counter() - started}
            run.log(line)
            run.draw()
            # Of equal ones the later; an epoch that was not measured is the best one only as long as none was.
            score = metrics.get("AP50", -1.0)
            if score >= reached.best:
                about = {"config": plain(config), "box_fits": box_fits, "metrics": line, **environment()}
                save_whole({"network": result.state_dict(), "metadata": {"model": "compact", **about}}, run.best)
            reached = Progress(reached.epoch, max(score, reached.best))
            _save_last(run, learner, reached, box_fits)
            report(line)
            return reached

        if reached.due is not None:  # stopped while it was measured
            reached = measure(reached, reached.due, time.perf_counter())
        for epoch in range(reached.epoch, config.epochs):
            started = time.perf_counter()
            means: dict[str, float] = {}
            for step, crops in enumerate(_made_ahead(_batches_of(epoch, photos, config, cache))):
                rate = config.rate(epoch * steps + step, config.epochs * steps)
                for name, value in learner.learn(crops, epoch * steps + step, rate).items():
                    means[name] = means.get(name, 0.0) + value / steps
                progress(step + 1, steps)
            due = {"epoch": epoch + 1, "step": (epoch + 1) * steps, **{f"loss_{k}": v for k, v in means.items()}}
            reached = measure(replace(reached, epoch=epoch + 1), due, started)
    return run.best


def _start_faults(config: CompactConfig, initial: Mapping[str, Tensor] | None) -> list[str]:
    """Settings that cannot work with the weights to start from, or on this machine."""
    needing = (
        (config.freeze != "none", "freeze", "a stem of random numbers would stay one"),
        (config.start_share > 0, "start_share", "random ones are worth nothing"),
        (config.remember, "remember", "random ones have seen nothing"),
        (config.fit_boxes, "fit_boxes", "random ones find no face"),
    )
    faults = [f"{name}: expected weights to start from; {why}" for asked, name, why in needing if asked]
    faults = faults if initial is None else []
    if config.compiled and not any(map(shutil.which, COMPILERS)):
        faults.append(f"compiled: no C++ compiler here, expected one of {', '.join(COMPILERS)}")
    return faults


def _begin(
    config: CompactConfig,
    photos: Sequence[Photo],
    run: Run,
    initial: Mapping[str, Tensor] | None,
    cache: PhotoCache,
    report: Callable[[dict[str, Any]], None],
) -> tuple[Learner, Progress, list[dict[str, Any]]]:
    """The learner at its start weights, or where the run in the folder stands; and what its boxes were fitted by."""
    box_fits: list[BoxFit] = []
    if run.last.exists():
        try:
            saved = load_whole(run.last)
            box_fits = [BoxFit(**fit) for fit in saved.get("box_fits", ())]
            learner = Learner(config, _fitted(initial, box_fits))
            learner.restore(saved)
            return learner, Progress(**saved["state"]), [asdict(fit) for fit in box_fits]
        except (WeightsError, KeyError, TypeError, ValueError, RuntimeError) as error:
            raise WeightsError(f"{run.last}: not the last checkpoint of a run of compact: {error}") from error
    if config.fit_boxes and initial is not None:
        box_fits = measure_box_fits(initial, photos, cache.read)
    for fit in box_fits:
        report({"boxes_of_stride": fit.stride, "labels": fit.faces, "wider": fit.wider, "taller": fit.taller})
    return Learner(config, _fitted(initial, box_fits)), Progress(), [asdict(fit) for fit in box_fits]


def _save_last(run: Run, learner: Learner, reached: Progress, box_fits: Sequence[Mapping[str, Any]]) -> None:
    """Write last.pt, to resume with."""
    save_whole({**learner.state(), "state": asdict(reached), "box_fits": list(box_fits)}, run.last)


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

    def restore(self, saved: Mapping[str, Any]) -> None:
        """Take up what `state` gave."""
        self.model.load_state_dict(saved["model"])
        self.averaged.load_state_dict(saved["averaged"])
        for optimiser, state in zip(self._optimisers, saved["optimisers"], strict=True):
            optimiser.load_state_dict(state)


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
