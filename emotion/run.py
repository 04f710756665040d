"""The folder of a run: config.json, log.jsonl, last.pt, best.pt and, where wanted, a checkpoint per lower loss."""

from __future__ import annotations

import dataclasses
import json
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from emotion.checkpoint import read_saved, save_whole
from emotion.config import TrainConfig
from emotion.errors import ConfigError, WeightsError
from emotion.files import write_whole


@dataclass(frozen=True)
class TrainState:
    """Where a run stands after `epoch` epochs.

    best and best_loss are PublicTest's at one size, before its first epoch worse than any; lr_factor multiplies the
    learning rate. started_from: the weights that the run began with, by name and digest.

    data, taught, processes: what a resumed run needs again to take the same steps: digests of `Splits`, and how many
    train it. Empty and 0 for a run of a time that kept none.
    """

    epoch: int = 0
    best: float = -1.0
    best_loss: float = float("inf")
    epochs_without_fall: int = 0
    plateau_wait: int = 0
    lr_factor: float = 1.0
    started_from: str = "none"
    data: str = ""
    taught: str = ""
    processes: int = 0

    def entering(self, config: TrainConfig) -> TrainState:
        """The state as the next epoch begins with it.

        Freeing the upper part of a network starts all patience anew. So does another size of measuring, which also
        forgets the best: a figure at one size says nothing about the network at another.
        """
        state = self
        if self.epoch == config.free_upper_at:
            state = dataclasses.replace(state, epochs_without_fall=0, plateau_wait=0, lr_factor=1.0)
        if self.epoch > 0 and config.measured_size(self.epoch) != config.measured_size(self.epoch - 1):
            state = dataclasses.replace(
                state, best=-1.0, best_loss=float("inf"), epochs_without_fall=0, plateau_wait=0
            )  # fmt: skip
        return state

    def after(self, config: TrainConfig, *, score: float, loss: float) -> TrainState:
        """The state after one more epoch with these figures."""
        before = self.entering(config)
        fell = loss < before.best_loss
        wait = 0 if fell else before.plateau_wait + 1
        lower = config.schedule == "plateau" and wait >= config.plateau_patience
        return dataclasses.replace(
            before,
            epoch=self.epoch + 1,
            best=max(score, before.best),
            best_loss=min(loss, before.best_loss),
            epochs_without_fall=0 if fell else before.epochs_without_fall + 1,
            plateau_wait=0 if lower else wait,
            lr_factor=before.lr_factor * (config.plateau_factor if lower else 1.0),
        )

    def finished(self, config: TrainConfig) -> bool:
        """Whether all epochs are done, or the loss has not fallen for too long in the last phase."""
        out_of_patience = 0 < config.early_stopping <= self.epochs_without_fall
        return self.epoch >= config.epochs or (out_of_patience and self.epoch > config.last_phase)


def score_of(line: Mapping[str, Any]) -> float:
    """The accuracy by which the epoch of this log line is chosen: by FER+'s labels where the run learns those."""
    return float(line.get("ferplus_accuracy", line["public_accuracy"]))


class Run:
    """Reads and writes the files of a run so that a kill leaves whole files."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.best = folder / "best.pt"
        self.last = folder / "last.pt"

    @property
    def logged(self) -> int:
        """Lines of the log: the epochs that were measured, or one for a baseline."""
        log = self.folder / "log.jsonl"
        return len(log.read_bytes().splitlines()) if log.is_file() else 0

    @property
    def has_figures(self) -> bool:
        """Whether an epoch was measured here, or a baseline, or a best.pt came here otherwise."""
        return self.last.exists() or self.best.exists() or self.logged > 0

    def faults(self, config: TrainConfig, *, resume: bool) -> list[str]:
        """Why this folder cannot take the run: it holds one already, one of other settings, or the rest of one."""
        if not self.has_figures:
            return []
        if not (self.last.exists() or self.logged):
            return [f"{self.best} is there without the log of a run: choose another folder"]
        if not resume:
            return [f"{self.folder} holds a run already: resume it or choose another folder"]
        try:
            others = self.other_settings(config)
        except ConfigError as error:
            return error.faults
        killed_in_the_first = self.logged == 1 < config.epochs  # which is begun anew, with the same steps
        if not (others or config.is_baseline or self.last.exists() or killed_in_the_first):
            return [f"{self.last} is missing: cannot resume; the log has {self.logged} epochs: choose another folder"]
        now = _as_json(config)
        return [
            f"{name} {now.get(name)!r}: the run in {self.folder} has {value!r}, and resumes only with the same"
            for name, value in others.items()
        ]

    def other_settings(self, config: TrainConfig) -> dict[str, Any]:
        """Name -> value, as JSON has it, of each setting of the run here that `config` has otherwise.

        Raises ConfigError when config.json is damaged.
        """
        path, now = self.folder / "config.json", _as_json(config)
        try:
            before = dict(json.loads(path.read_text(encoding="utf-8")))
            ranges = {**now["augmentation"], **before.get("augmentation", {})}  # an early run knows fewer
        except (OSError, TypeError, ValueError) as error:
            raise ConfigError([f"{path}: damaged: expected the settings of the run ({error})"]) from None
        before["augmentation"] = ranges
        return {name: value for name, value in before.items() if now.get(name) != value}

    def begin(self, config: TrainConfig, state: TrainState) -> None:
        """Write the settings, and forget what the log says of epochs after the state."""
        self.folder.mkdir(parents=True, exist_ok=True)
        write_whole(self.folder / "config.json", json.dumps(dataclasses.asdict(config), indent=1))
        log = self.folder / "log.jsonl"
        lines = log.read_text(encoding="utf-8").splitlines() if log.exists() else []
        write_whole(log, "".join(f"{line}\n" for line in lines[: state.epoch]))

    def append(self, line: dict[str, Any]) -> None:
        """Add an epoch to log.jsonl."""
        with (self.folder / "log.jsonl").open("a", encoding="utf-8") as log:
            log.write(json.dumps(line) + "\n")

    def save(self, value: dict[str, Any], name: str) -> None:
        """Save so that a kill leaves either the old file or the new one."""
        save_whole(value, self.folder / name)

    def load_last(self) -> dict[str, Any]:
        """What `save` wrote as last.pt. Raises WeightsError when the file is damaged or another checkpoint."""
        saved = read_saved(self.last)
        if missing := [entry for entry in ("model", "optimiser", "state") if not isinstance(saved.get(entry), dict)]:
            raise WeightsError(f"{self.last}: expected the last state of a run, which has also {', '.join(missing)}")
        return saved


def _as_json(config: TrainConfig) -> dict[str, Any]:
    """The settings as config.json gives them back: tuples are lists."""
    found: dict[str, Any] = json.loads(json.dumps(dataclasses.asdict(config)))
    return found


def metadata(config: TrainConfig, metrics: dict[str, Any]) -> dict[str, Any]:
    """What a checkpoint says of itself: settings, metrics, labels, torch, commit."""
    return {
        "config": _as_json(config),
        "metrics": metrics,
        "labels": list(config.classes),
        "torch": str(torch.__version__),
        "commit": _commit(),
    }


def _commit() -> str:
    """Of the repository that this file is tracked in; "unknown" when it is in none, or there is no git."""
    git = ["git", "-C", str(Path(__file__).parent)]
    try:
        tracked = subprocess.run([*git, "ls-files", "--error-unmatch", Path(__file__).name], capture_output=True)
        head = subprocess.run([*git, "rev-parse", "HEAD"], capture_output=True, text=True)
    except OSError:
        return "unknown"
    return head.stdout.strip() if tracked.returncode == head.returncode == 0 else "unknown"
