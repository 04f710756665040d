"""Everything that decides a run of the compact detector."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from facedet.data.augment import CropRecipe
from facedet.models.compact import STAGES

OPTIMISERS = ("adamw", "muon")
PRECISIONS = ("float32", "bfloat16")

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
