"""The folder of a run: config.json, log.jsonl, its last and best checkpoint, curves.png and TensorBoard's events."""

from __future__ import annotations

import dataclasses
import json
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import torch

from facedet.data.coco import Photo, fingerprint
from facedet.data.coco_file import read_json
from facedet.data.whole_file import write_whole
from facedet.errors import DataError, MissingExtra

CHECKPOINTS = (
    "last.pt", "best.pt", "best.onnx", "model_last.pth", "model_best.pth", "model_final.pth", "last_checkpoint",
)  # fmt: skip
"""What runs of any kind leave in their folder."""


class Run:
    """Writes a run's files so that a kill leaves whole ones. Use as a context manager.

    config: a dataclass of plain values. last, best: names of the checkpoints, which the training loop writes.
    origin: what else must be the same to resume, by name; it is stored with the settings.
    """

    def __init__(
        self, folder: Path, config: Any, *, last: str, best: str, origin: Mapping[str, str] | None = None
    ) -> None:
        self.folder = folder
        self.last, self.best = folder / last, folder / best
        self._settings = {**plain(config), **(origin or {})}
        self._log = folder / "log.jsonl"
        self._board: Any = None

    def faults(self, *, resume: bool) -> list[str]:
        """Why this folder cannot take the run: it holds one already, one of another kind, or with other settings."""
        if not self.last.exists():
            others = [name for name in CHECKPOINTS if (self.folder / name).exists()]
            return [f"{self.folder} holds another run's {', '.join(others)}: choose another folder"] if others else []
        if not resume:
            return [f"{self.folder} holds a run already: resume it or choose another folder"]
        try:
            before = read_json(self.folder / "config.json")
        except DataError as e:
            return [f"{e}; the run cannot be resumed without its settings"]
        if not isinstance(before, dict):
            return [f"{self.folder / 'config.json'}: expected a run's settings"]
        now = self._settings
        return [
            f"{name} {now.get(name)!r}: the run in {self.folder} has {value!r}, and resumes only with the same"
            for name, value in before.items()
            if now.get(name) != value
        ]

    def begin(self, step: int) -> None:
        """Write the settings, forget what the log says of later steps, open TensorBoard's file."""
        self.write_settings()
        kept = [line for line in read_log(self._log) if line["step"] <= step]
        write_whole(self._log, "".join(json.dumps(line) + "\n" for line in kept))
        self._board = _tensorboard(self.folder, step)

    def write_settings(self) -> None:
        """Write config.json, in a folder that is made where there is none."""
        write_whole(self.folder / "config.json", json.dumps(self._settings, indent=1))

    def log(self, line: dict[str, Any]) -> None:
        """Add a line, which holds its "step", to log.jsonl and its numbers to TensorBoard."""
        with self._log.open("a", encoding="utf-8") as log:
            log.write(json.dumps(line) + "\n")
        for name, value in line.items():
            if name != "step" and isinstance(value, (int, float)):
                self._board.add_scalar(name, value, line["step"])

    def draw(self) -> None:
        """Draw curves.png anew."""
        draw_curves(read_log(self._log), self.folder / "curves.png")

    def __enter__(self) -> Run:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._board is not None:
            self._board.close()
            self.draw()


def data_faults(photos: Sequence[Photo], val: Sequence[Photo] = ()) -> list[str]:
    """Why no run can be made on the photos, one sentence each; the files are looked for, not opened."""
    every = [*photos, *val]
    missing = [photo.path for photo in every if not photo.path.is_file()]
    faults = [] if photos else ["no photos to train on"]
    if missing:
        faults.append(f"{len(missing)} of {len(every)} photos are missing, the first: {missing[0]}")
    return faults


def origin(photos: Sequence[Photo], val: Sequence[Photo] = ()) -> dict[str, str]:
    """What tells the photos of a run, their names, sizes and boxes, from others, by their options."""
    return {"data": fingerprint(photos), "val": fingerprint(val)}


def plain(config: Any) -> dict[str, Any]:
    """The settings of a dataclass as JSON gives them back: lists for tuples."""
    values: dict[str, Any] = json.loads(json.dumps(dataclasses.asdict(config)))
    return values


def read_log(path: Path) -> list[dict[str, Any]]:
    """The lines of log.jsonl; a last one cut off by a kill is left out."""
    lines = []
    for text in path.read_text(encoding="utf-8").splitlines() if path.exists() else []:
        try:
            lines.append(json.loads(text))
        except ValueError:
            break
    return lines


def draw_curves(lines: list[dict[str, Any]], path: Path) -> None:
    """Losses over steps, and AP and AP50 where measured, as PNG. Raises MissingExtra without matplotlib."""
    try:
        from matplotlib.figure import Figure
    except ImportError as e:
        raise MissingExtra("curves need matplotlib: pip install 'crowdmood[train]'") from e
    figure = Figure(figsize=(10, 4), layout="constrained")
    left, right = figure.subplots(1, 2)
    for axes, title, wanted in ((left, "loss", ("loss",)), (right, "on validation photos", ("AP",))):
        names = sorted(
            {n for line in lines for n in line if n.startswith(wanted) and "_" not in n.removeprefix("loss_")}
        )
        for name in names:
            points = [(line["step"], line[name]) for line in lines if line.get(name) is not None]
            axes.plot(*zip(*points, strict=True), label=name, marker="." if len(points) < 50 else "")
        axes.set(title=title, xlabel="step")
        if names:
            axes.legend()
    figure.savefig(path, dpi=100)


def environment() -> dict[str, str]:
    """Versions and commit, for checkpoints."""
    return {"torch": str(torch.__version__), "commit": _commit()}


def _commit() -> str:
    """Of the repository that this file is tracked in; "unknown" when it is in none, or there is no git."""
    git = ["git", "-C", str(Path(__file__).parent)]
    try:
        tracked = subprocess.run([*git, "ls-files", "--error-unmatch", Path(__file__).name], capture_output=True)
        head = subprocess.run([*git, "rev-parse", "HEAD"], capture_output=True, text=True)
    except OSError:
        return "unknown"
    return head.stdout.strip() if tracked.returncode == head.returncode == 0 else "unknown"


def _tensorboard(folder: Path, step: int) -> Any:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as e:
        raise MissingExtra("the training log needs tensorboard: pip install 'crowdmood[train]'") from e
    return SummaryWriter(str(folder / "tensorboard"), purge_step=step + 1)
