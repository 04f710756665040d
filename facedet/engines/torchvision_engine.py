"""Fine-tune Faster R-CNN without Detectron2: one loop, top to bottom."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from facedet.checkpoint import load_into, read_checkpoint, save_checkpoint
from facedet.data.coco import FaceDataset
from facedet.engines.config import FasterRCNNConfig
from facedet.engines.distributed import Team, team
from facedet.engines.learner import Learner, empty_model, peak_memory_mib, start_model
from facedet.engines.samples import Sample, Samples
from facedet.errors import ConfigError, WeightsError
from facedet.evaluate import evaluate
from facedet.run import Run, data_faults, environment, origin

Report = Callable[[dict[str, Any]], None]


@dataclass(frozen=True)
class Progress:
    """Where a run stands: steps taken, the best AP so far, measurements since then, and whether one is due."""

    step: int = 0
    best: float = -1.0
    without_gain: int = 0
    due: bool = False

    def after(self, score: float) -> Progress:
        """After one more measurement."""
        gained = score > self.best
        return Progress(self.step, max(score, self.best), 0 if gained else self.without_gain + 1)


def train(
    config: FasterRCNNConfig,
    data: FaceDataset,
    val: FaceDataset | None,
    out: Path,
    *,
    resume: bool = False,
    report: Report = lambda line: None,
    notice: Callable[[str], None] = lambda text: None,
) -> Path:
    """Train on `data`, measure on `val`, and return the checkpoint with the best AP (without `val`: the last one).

    resume: go on with the run in `out` where it stands, exactly as if it had not been interrupted. report: called
    with each line of the log. notice: called with each sentence on the start weights.
    Raises ConfigError with all faults, DataError, WeightsError, MissingExtra, TrainingDiverged.
    """
    val_photos = val.photos if val else ()
    began = origin(data.photos, val_photos)
    with team() as crew, Run(out, config, last="model_last.pth", best="model_best.pth", origin=began) as run:
        faults = config.faults() + data_faults(data.photos, val_photos) + ([] if resume else config.start_faults())
        if faults := faults + crew.share(run.faults(resume=resume) if crew.leads else None):
            raise ConfigError(faults)
        learner, progress = _begin(config, run, crew, notice)
        if crew.leads:
            run.begin(progress.step)
        if progress.due:  # stopped while it was measured
            progress = crew.share(_measure(learner, val, run, progress, report) if crew.leads else None)
        started, window = time.perf_counter(), Window()
        end = progress.step if _is_patience_used_up(config, progress) else config.steps
        for step, samples in _prefetched(Samples(data.photos, config), progress.step, end, crew):
            window.add(learner.learn(samples, step))
            progress = dataclasses.replace(progress, step=step + 1)
            if crew.leads and progress.step % config.log_every == 0:
                seconds = (time.perf_counter() - started) / window.steps
                memory = round(peak_memory_mib(learner.device))
                _tell(run, report, {"step": progress.step, **window.means(), "step_s": seconds, "peak_mib": memory})
                started, window = time.perf_counter(), Window()
            if progress.step % config.eval_every == 0 or progress.step == config.steps:
                progress = dataclasses.replace(progress, due=True)
                if crew.leads:  # first of all, since a photo that cannot be read would end the run
                    _save_last(learner, run, progress, {})
                progress = crew.share(_measure(learner, val, run, progress, report) if crew.leads else None)
                started, window = time.perf_counter(), Window()
                if _is_patience_used_up(config, progress):
                    break
    return run.best


def _is_patience_used_up(config: FasterRCNNConfig, progress: Progress) -> bool:
    return 0 < config.patience <= progress.without_gain


class Window:
    """Losses, gradient norm and rate of the steps since the last line of the log; of single steps they jump about."""

    def __init__(self) -> None:
        self.steps = 0
        self._sums: dict[str, float] = {}

    def add(self, values: dict[str, float]) -> None:
        self.steps += 1
        self._sums = {name: self._sums.get(name, 0.0) + value for name, value in values.items()}

    def means(self) -> dict[str, float]:
        return {name: value / self.steps for name, value in self._sums.items()}


def _begin(config: FasterRCNNConfig, run: Run, crew: Team, notice: Callable[[str], None]) -> tuple[Learner, Progress]:
    """The learner at its start weights, or where the run in the folder stands."""
    if not run.last.exists():
        model, sentences = start_model(config)
        if crew.leads:
            for sentence in sentences:
                notice(sentence)
        return Learner(model, config, crew), Progress()
    saved = read_checkpoint(run.last)
    model = empty_model(config)
    load_into(model, saved, strict=True)
    learner = Learner(model, config, crew)
    try:
        learner.restore(saved.rest)
        return learner, Progress(**saved.rest["progress"])
    except (KeyError, TypeError, ValueError, RuntimeError) as e:
        raise WeightsError(
            f"{run.last}: expected a run's last checkpoint, to go on with: {type(e).__name__} {e}"
        ) from e


def _prefetched(samples: Samples, start: int, end: int, crew: Team) -> Iterator[tuple[int, list[Sample]]]:
    """Each step with its samples, the next ones being read meanwhile."""
    if start == end:
        return
    with ThreadPoolExecutor(1) as pool:
        pending = pool.submit(samples.of_step, start, rank=crew.rank, team_size=crew.size)
        for step in range(start, end):
            ready = pending.result()
            if step + 1 < end:
                pending = pool.submit(samples.of_step, step + 1, rank=crew.rank, team_size=crew.size)
            yield step, ready


def _measure(learner: Learner, val: FaceDataset | None, run: Run, progress: Progress, report: Report) -> Progress:
    """Measure on the validation photos, log, write model_best.pth when it is, and model_last.pth again."""
    metrics = evaluate(learner, val).metrics if val is not None and len(val) else {}
    score = metrics.get("AP")
    before, progress = progress, progress.after(float(progress.step) if score is None else score)
    if progress.best > before.best:
        save_checkpoint(run.best, learner.model, about=_about(learner, progress, metrics))
    _save_last(learner, run, progress, metrics)
    _tell(run, report, {"step": progress.step, **metrics})
    run.draw()
    return progress


def _save_last(learner: Learner, run: Run, progress: Progress, metrics: Mapping[str, float | None]) -> None:
    """Write model_last.pth, to resume with."""
    about = _about(learner, progress, metrics)
    save_checkpoint(run.last, learner.model, about=about, progress=dataclasses.asdict(progress), **learner.state())


def _about(learner: Learner, progress: Progress, metrics: Mapping[str, float | None]) -> dict[str, Any]:
    return {**learner.config.about(), **environment(), "step": progress.step, "metrics": dict(metrics)}


def _tell(run: Run, report: Report, line: dict[str, Any]) -> None:
    run.log(line)
    report(line)
