"""Train a classifier: one loop, top to bottom, for every recipe.

Random numbers of an epoch depend on seed and epoch alone, so a killed run that is resumed takes the same steps as one
that was not. Under torchrun each process takes its share of every batch; the first one measures and writes.
"""

from __future__ import annotations

import dataclasses
import hashlib
import math
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from emotion.batches import Batch, draw_batch
from emotion.calibration import log_loss
from emotion.card import ModelCard
from emotion.checkpoint import Checkpoint
from emotion.config import TrainConfig
from emotion.data import FerSplit, ferplus_relabelled, load_training, votes_of
from emotion.distributed import Team, join_team
from emotion.errors import ConfigError, DataError, TrainingDiverged
from emotion.learner import Learner, build_learner, resolve_precision
from emotion.run import Run, TrainState, metadata, score_of
from emotion.targets import TrainingSet, drawing_order, of_classes, training_set

__all__ = ["TrainConfig", "train"]

Line = dict[str, Any]


def train(
    config: TrainConfig,
    data: Path,
    out: Path,
    *,
    ferplus: Path | None = None,
    resume: bool = False,
    report: Callable[[Line], None] = lambda line: None,
    progress: Callable[[int, int], None] = lambda step, steps: None,
) -> Path:
    """Train on `data` and return the path of the best checkpoint.

    report: called with each line of log.jsonl. progress: called with step and steps of the epoch.
    Raises ConfigError, DataError, WeightsError, TrainingDiverged.
    """
    team, run = join_team(), Run(out)
    _check(config, run, ferplus, resume=resume, team=team)
    goes_on = resume and run.last.exists()
    learner = build_learner(config, fresh=not goes_on, team=team)
    splits = load_splits(config, data, ferplus)
    state = learner.restore(run.load_last()) if goes_on else TrainState(started_from=learner.started_from)
    state = _with_same(state, splits, config, team, out)
    told = dataclasses.replace(config, weights=state.started_from, teacher=splits.train.teachers)
    if team.leads:
        run.begin(config, state)
    while not state.finished(config):
        started = time.perf_counter()
        if config.free_upper_at is not None and state.epoch >= config.free_upper_at:
            learner.model.network.free_upper()
        line = {"epoch": state.epoch + 1, **train_epoch(learner, splits.train, state, team=team, progress=progress)}
        line |= team.share(measure(learner.judged, splits, config, epoch=state.epoch) if team.leads else None)
        before, state = state.entering(config), state.after(config, score=score_of(line), loss=line["public_loss"])
        line |= {"best": state.best, "seconds": time.perf_counter() - started}
        line |= {"train_images": len(splits.train), "duplicates_dropped": splits.duplicates_dropped}
        if team.leads:
            _write(run, learner, metadata(told, line), before=before, state=state)
            report(line)
    return run.best


@dataclass(frozen=True, eq=False)
class Splits:
    """What is learned, and what is measured on: PublicTest with its own labels and, for FER+ runs, with FER+'s."""

    train: TrainingSet
    public: FerSplit
    public_ferplus: FerSplit | None
    duplicates_dropped: int

    def digest(self, *, with_votes: bool) -> str:
        """SHA-256 of all images and labels, and of the votes for the training images."""
        parts = [self.train.images, self.train.labels, self.public.images, self.public.labels]
        parts += [self.train.votes] if with_votes else []
        return hashlib.sha256(b"".join(np.asarray(part).tobytes() for part in parts)).hexdigest()

    def taught(self) -> str:
        """SHA-256 of the teachers' identities and of what FER+ runs are measured on.

        Not of the teachers' answers, which on another machine differ in their last digits.
        """
        parts = [identity.encode() for identity in self.train.teachers]
        if self.public_ferplus is not None:
            parts += [self.public_ferplus.images.tobytes(), self.public_ferplus.labels.tobytes()]
        return hashlib.sha256(b"\n".join(parts)).hexdigest()


def load_splits(config: TrainConfig, data: Path, ferplus: Path | None) -> Splits:
    """What `config` learns of the data, and PublicTest. Raises DataError; warnings as in `load_training`."""
    split, public, dropped = load_training(data)
    learned = training_set(split, config, ferplus)
    if config.needs_votes:
        votes_of(public, ferplus)  # lines that were lost among Training's show where PublicTest begins
    if len(learned) < config.batch_size:
        raise DataError(f"{data}: {len(learned)} images to train on, fewer than one batch of {config.batch_size}")
    relabelled = ferplus_relabelled(public, ferplus) if config.labels.startswith("ferplus") else None
    return Splits(
        train=learned,
        public=of_classes(public, config.classes),
        public_ferplus=None if relabelled is None else of_classes(relabelled, config.classes),
        duplicates_dropped=dropped,
    )


def train_epoch(
    learner: Learner, data: TrainingSet, state: TrainState, *, team: Team, progress: Callable[[int, int], None]
) -> Line:
    """One pass over the data; returns the size of the view, the mean loss and the accuracy on augmented images."""
    config, model = learner.config, learner.model
    seed = config.seed * 100_003 + state.epoch
    rng = torch.Generator().manual_seed(seed)
    order = drawing_order(data, config, rng)
    if not team.leads:
        rng.manual_seed(seed + 1_000_003 * team.rank)
    torch.manual_seed(seed + 1_000_003 * team.rank)  # dropout
    size = config.size_of(state.epoch)
    steps = len(data) // config.batch_size
    sums = {"train_loss": 0.0, "train_accuracy": 0.0}
    shared_model = team.wrap(model.train())
    for step in range(steps):
        chosen = order[step * config.batch_size : (step + 1) * config.batch_size][team.rank :: team.size]
        for group in (group for optimiser in learner.optimisers.values() for group in optimiser.param_groups):
            group["lr"] = learning_rate(config, state.epoch + step / steps) * state.lr_factor
        batch = draw_batch(data, chosen, size, config=config, rng=rng)
        loss, accuracy = batch_loss(learner, shared_model, batch, class_weights=data.class_weights)
        if not math.isfinite(loss.item()):
            raise TrainingDiverged(f"epoch {state.epoch + 1}, step {step + 1}: loss {loss.item()}: try a lower rate")
        model.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        if config.clip_norm > 0:
            nn.utils.clip_grad_norm_(model.parameters(), config.clip_norm)
        learner.step()
        sums["train_loss"] += loss.item() / steps
        sums["train_accuracy"] += accuracy / steps
        progress(step + 1, steps)
    return {"size": size, **sums}


def batch_loss(
    learner: Learner, model: nn.Module, batch: Batch, *, class_weights: torch.Tensor | None
) -> tuple[torch.Tensor, float]:
    """Cross-entropy with the targets, plus that of the auxiliary head with the FER+ shares; and the accuracy."""
    config, device = learner.config, learner.device
    inputs = batch.images.to(device).contiguous(memory_format=torch.channels_last)
    bfloat16 = resolve_precision(config.precision, device) == "bfloat16"
    with torch.autocast(device.type, dtype=torch.bfloat16, enabled=bfloat16):
        logits, auxiliary = model(inputs)
    weights = None if class_weights is None else class_weights.to(device)
    targets = batch.targets.to(device)
    loss = F.cross_entropy(logits.float(), targets, weight=weights, label_smoothing=config.label_smoothing)
    if auxiliary is not None:
        softly = -(batch.votes.to(device) * auxiliary.float().log_softmax(1)).sum(1).mean()
        loss = loss + config.ferplus_weight * softly
    return loss, (logits.argmax(1).cpu() == batch.labels).float().mean().item()


def measure(network: nn.Module, splits: Splits, config: TrainConfig, *, epoch: int) -> Line:
    """Accuracy over all classes and log loss on PublicTest at the size of `epoch`, counted from 0.

    FER+ runs judge by FER+'s labels, and give both.
    """
    card = ModelCard(config.model, config.classes, config.measured_size(epoch), config.view)
    judge = Checkpoint(network.eval(), card, "")
    public = splits.public
    logits = judge.logits(public.images)
    line = {
        "eval_size": card.input_size,
        "public_accuracy": float((logits.argmax(1) == public.labels).mean()),
        "public_loss": log_loss(logits, public.labels),
    }
    if splits.public_ferplus is not None:
        public = splits.public_ferplus
        logits = judge.logits(public.images)
        line["ferplus_accuracy"] = float((logits.argmax(1) == public.labels).mean())
        line["public_loss"] = log_loss(logits, public.labels)
    return line


def learning_rate(config: TrainConfig, epoch: float) -> float:
    """Linear warm-up, then half a cosine to zero or a constant. `epoch` is fractional."""
    if epoch < config.warmup_epochs:
        return config.lr * (epoch + 0.01) / (config.warmup_epochs + 0.01)
    if config.schedule != "cosine":
        return config.lr
    done = (epoch - config.warmup_epochs) / max(config.epochs - config.warmup_epochs, 1e-9)
    return config.lr * 0.5 * (1 + math.cos(math.pi * min(done, 1.0)))


def _check(config: TrainConfig, run: Run, ferplus: Path | None, *, resume: bool, team: Team) -> None:
    faults = config.faults()
    if config.is_baseline:
        faults.append(f"model {config.model!r} is fitted in one go: expected a network (see emotion.baseline)")
    if config.needs_votes and ferplus is None:
        faults.append("ferplus_weight above 0, FER+ labels and the teacher ferplus need the FER+ votes file")
    if config.batch_size % team.size or 2 <= config.batch_size < 2 * team.size:
        faults.append(
            f"batch_size {config.batch_size}: expected a multiple of {team.size} processes, of two images each or more"
        )
    faults += run.faults(config, resume=resume)
    if faults:
        raise ConfigError(faults)


def _with_same(state: TrainState, splits: Splits, config: TrainConfig, team: Team, out: Path) -> TrainState:
    """The state with what the run now learns from; ConfigError when it is not what the state was made with."""
    digest = splits.digest(with_votes=config.needs_votes)
    now = dataclasses.replace(state, data=digest, taught=splits.taught(), processes=team.size)
    told = {
        "data": "--data or --ferplus",
        "taught": "--teacher or PublicTest's votes in --ferplus",
        "processes": f"{team.size} processes",
    }
    faults = [
        f"{what}: not what the run in {out} has, and it resumes only with the same"
        for name, what in told.items()
        if getattr(state, name) and getattr(state, name) != getattr(now, name)
    ]
    if faults:
        raise ConfigError(faults)
    return now


def _write(run: Run, learner: Learner, told: Line, *, before: TrainState, state: TrainState) -> None:
    """The log, better checkpoints, and, last of all, the state to resume from. told: metadata of the checkpoints."""
    config, line = learner.config, told["metrics"]
    fell, higher = state.best_loss < before.best_loss, state.best > before.best
    kept = {"network": learner.judged.state_dict(), "metadata": told}
    run.append(line)
    if fell if config.select == "loss" else higher:
        run.save(kept, "best.pt")
    if fell and config.keep_falls:
        run.save(kept, f"epoch-{line['epoch']:03d}-accuracy-{score_of(line):.4f}.pt")
    run.save({**learner.state(), "state": asdict(state), "metadata": told}, "last.pt")
