"""Everything that decides a fine-tuning run of Faster R-CNN, for both engines."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from facedet.engines.distributed import asked_size
from facedet.model_zoo import ZOO
from facedet.models.faster_rcnn import FASTER_RCNNS, PRESETS
from facedet.models.resnet import NORMS
from facedet.run import plain

ENGINES = ("torchvision", "detectron2")
PRECISIONS = ("auto", "float32", "bfloat16", "float16")


@dataclass(frozen=True)
class FasterRCNNConfig:
    """One run. Defaults are Detectron2's schedule for two photos per step.

    weights: "coco" or "imagenet" where the zoo has them (model_zoo.ZOO), "none" or a .pth or .pkl file; of
    faster_rcnn_compact_fpn "bundled", "none" or any of these files or an .onnx file of `compact`. freeze_at: first
    backbone stages that do not learn, 0 to 5; None means 2, or 0 for "none". batch_size: photos per step over all
    processes. lr_drops: shares of the run after which the rate is divided by 10. clip_norm: of the whole gradient, 0
    for none. short_px: short sides of photos in training, one drawn each time, unless the long one would pass long_px.
    crop_px: train on square crops of this side instead, drawn as in facedet.data.augment; 0 for whole photos. light:
    strength of changes of light and colour, in [0, 1]. test_short_px, test_long_px: the scale at which is measured.
    eval_every and log_every: in steps. patience: measurements without a better AP before stopping, 0 for never. norm:
    None means "frozen_bn" for _x101_fpn and _r50_fpn with weights, else "bn", which _compact_fpn always has.
    """

    model: str = "faster_rcnn_x101_fpn"
    preset: str = "face"
    weights: str = "coco"
    freeze_at: int | None = None
    norm: str | None = None
    steps: int = 9000
    batch_size: int = 2
    lr: float = 0.0025
    momentum: float = 0.9
    weight_decay: float = 1e-4
    warmup_steps: int = 500
    lr_drops: tuple[float, ...] = (0.7, 0.9)
    clip_norm: float = 10.0
    short_px: tuple[int, ...] = (640, 672, 704, 736, 768, 800)
    long_px: int = 1333
    crop_px: int = 0
    flip: float = 0.5
    light: float = 0.3
    test_short_px: int = 800
    test_long_px: int = 1333
    eval_every: int = 500
    log_every: int = 20
    patience: int = 0
    precision: str = "auto"
    seed: int = 0

    def faults(self) -> list[str]:
        """Every setting that cannot work, one sentence each; files are not looked for."""
        return [message for good, message in (*self._names(), *self._numbers(), *self._sizes()) if not good]

    def start_faults(self) -> list[str]:
        """That the file to start from is not there; a run that is resumed needs none."""
        a_file = Path(self.weights).suffix != ""
        return [f"weights {self.weights}: no such file"] if a_file and not Path(self.weights).is_file() else []

    def _names(self) -> list[tuple[bool, str]]:
        on_compact = self.model == "faster_rcnn_compact_fpn"
        in_zoo = [kind for model, kind in ZOO if model == self.model or self.model not in FASTER_RCNNS]
        names = (*(["bundled"] if on_compact else dict.fromkeys(in_zoo)), "none")
        suffixes = (".pth", ".pkl", *((".onnx",) if on_compact else ()))
        return [
            (
                self.model in FASTER_RCNNS,
                f"model {self.model!r}: expected one of {', '.join(FASTER_RCNNS)}, or compact with its own settings",
            ),
            (self.preset in PRESETS, f"preset {self.preset!r}: expected one of {', '.join(PRESETS)}"),
            (self.normalisation() in NORMS, f"norm {self.norm!r}: expected one of {', '.join(NORMS)}"),
            (not on_compact or self.normalisation() == "bn", f"norm {self.norm!r}: {self.model} has bn"),
            (self.precision in PRECISIONS, f"precision {self.precision!r}: expected one of {', '.join(PRECISIONS)}"),
            (
                self.weights in names or Path(self.weights).suffix in suffixes,
                f"weights {self.weights!r} for {self.model}: expected {', '.join(names)}, "
                f"or a file: {', '.join(suffixes)}",
            ),
            (
                self.weights != "none" or self.normalisation() != "frozen_bn",
                "weights none: frozen batch norms cannot learn from scratch, expected norm bn or gn",
            ),
        ]

    def _numbers(self) -> list[tuple[bool, str]]:
        return [
            (self.steps >= 1, f"steps {self.steps}: expected at least 1"),
            (
                self.freeze_at is None or 0 <= self.freeze_at <= 5,
                f"freeze_at {self.freeze_at}: expected 0 to 5",
            ),
            (
                self.batch_size >= 1 and self.batch_size % asked_size() == 0,
                f"batch_size {self.batch_size}: expected a multiple of the {asked_size()} processes",
            ),
            (0 < self.lr < math.inf, f"lr {self.lr}: expected a number above 0"),
            (0 <= self.momentum < 1, f"momentum {self.momentum}: expected 0 to below 1"),
            (0 <= self.weight_decay < math.inf, f"weight_decay {self.weight_decay}: expected a number of at least 0"),
            (self.warmup_steps >= 0, f"warmup_steps {self.warmup_steps}: expected at least 0"),
            (
                all(0 < drop < 1 for drop in self.lr_drops) and list(self.lr_drops) == sorted(self.lr_drops),
                f"lr_drops {list(self.lr_drops)}: expected rising shares between 0 and 1",
            ),
            (self.clip_norm >= 0, f"clip_norm {self.clip_norm}: expected at least 0"),
            (0 <= self.flip <= 1, f"flip {self.flip}: expected 0 to 1"),
            (0 <= self.light <= 1, f"light {self.light}: expected 0 to 1"),
            (self.eval_every >= 1, f"eval_every {self.eval_every}: expected at least 1"),
            (self.log_every >= 1, f"log_every {self.log_every}: expected at least 1"),
            (self.patience >= 0, f"patience {self.patience}: expected at least 0"),
            (0 <= self.seed < 2**63, f"seed {self.seed}: expected 0 to below 2**63"),
        ]

    def _sizes(self) -> list[tuple[bool, str]]:
        longest = max(self.short_px, default=0)
        return [
            (
                len(self.short_px) > 0 and min(self.short_px) >= 32,
                f"short_px {list(self.short_px)}: expected sides of at least 32",
            ),
            (self.long_px >= longest, f"long_px {self.long_px}: expected at least the largest short side, {longest}"),
            (
                self.crop_px == 0 or (self.crop_px >= 64 and self.crop_px % 32 == 0),
                f"crop_px {self.crop_px}: expected 0, or a multiple of 32 of at least 64",
            ),
            (self.test_short_px >= 32, f"test_short_px {self.test_short_px}: expected at least 32"),
            (
                self.test_long_px >= self.test_short_px,
                f"test_long_px {self.test_long_px}: expected at least test_short_px, {self.test_short_px}",
            ),
        ]

    def frozen_stages(self) -> int:
        """`freeze_at`, or its default: nothing can stay as it is when everything starts from nothing."""
        if self.freeze_at is not None:
            return self.freeze_at
        return 0 if self.weights == "none" else 2

    def normalisation(self) -> str:
        """`norm`, or its default: frozen statistics are those of trained weights."""
        if self.norm is not None:
            return self.norm
        of_zoo = self.model in ("faster_rcnn_x101_fpn", "faster_rcnn_r50_fpn")
        return "frozen_bn" if of_zoo and self.weights != "none" else "bn"

    def rate(self, step: int) -> float:
        """The learning rate of a step: linear warm-up from a thousandth, then a tenth after each drop."""
        warm = min(1.0, 0.001 + 0.999 * step / self.warmup_steps) if self.warmup_steps else 1.0
        drops = sum(step >= drop * self.steps for drop in self.lr_drops)
        return self.lr * warm * float(0.1**drops)

    def about(self) -> dict[str, Any]:
        """What a checkpoint of this run says of itself, enough to build the detector."""
        return {
            "model": self.model,
            "preset": self.preset,
            "norm": self.normalisation(),
            "test_scale": {"short_px": self.test_short_px, "long_px": self.test_long_px},
            "config": plain(self),
        }
