"""Muon (Jordan 2024, https://kellerjordan.github.io/posts/muon/): momentum whose every direction weighs the same.

Torch's own and timm's compute in bfloat16, which processors without it only emulate: timm's takes 18 times as long
there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, distributed, nn

from emotion.distributed import Team

MOMENTUM = 0.95
NEWTON_SCHULZ = (3.4445, -4.7750, 2.0315)
"""Coefficients of its quintic iteration: singular values end between 0.7 and 1.2, which is near enough, and soon."""
STEPS = 5
AS_ADAM = 0.2
"""Root mean square of AdamW's usual step at rate 1, to which steps are scaled (Liu et al. 2025, Muon is scalable)."""


class Muon(torch.optim.Optimizer):
    """For weights of convolutions without groups, as matrices [outputs, inputs * kernel]. Rates are AdamW's.

    team: processes with the same gradients; each computes the directions of its share of the weights for all.
    """

    def __init__(self, weights: Iterable[Tensor], lr: float, *, weight_decay: float, team: Team) -> None:
        super().__init__(weights, {"lr": lr, "weight_decay": weight_decay})
        self._team = team

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> None:  # type: ignore[override]
        """One step by the gradients that are there; closure: not used."""
        for group in self.param_groups:
            gradients = {weight: weight.grad for weight in group["params"] if weight.grad is not None}
            for weight, direction in zip(gradients, self._directions(gradients), strict=True):
                weight.mul_(1 - group["lr"] * group["weight_decay"])
                step = group["lr"] * AS_ADAM * max(direction.shape) ** 0.5
                weight.add_(direction.view_as(weight), alpha=-step)

    def _directions(self, gradients: dict[Tensor, Tensor]) -> list[Tensor]:
        """Of each weight's step; the momentum moves on with the gradients."""
        found = []
        for i, (weight, gradient) in enumerate(gradients.items()):
            momentum = self.state[weight].setdefault("momentum", torch.zeros_like(weight))
            momentum.lerp_(gradient, 1 - MOMENTUM)
            ahead = gradient.lerp(momentum, MOMENTUM).flatten(1).contiguous()
            found.append(orthogonal(ahead).contiguous() if i % self._team.size == self._team.rank else ahead)
        if self._team.size > 1:
            for i, direction in enumerate(found):
                distributed.broadcast(direction, src=i % self._team.size)
        return found


def orthogonal(matrix: Tensor) -> Tensor:
    """Floats [M, N]: the same singular vectors with all singular values near 1, by Newton and Schulz's iteration."""
    a, b, c = NEWTON_SCHULZ
    wide = matrix if matrix.shape[0] <= matrix.shape[1] else matrix.T
    x: Tensor = wide / wide.norm().clamp(min=1e-7)
    for _ in range(STEPS):
        gram = x @ x.T
        x = a * x + (b * gram + c * gram @ gram) @ x
    return x if matrix.shape[0] <= matrix.shape[1] else x.T


def matrices_of(model: nn.Module) -> list[Tensor]:
    """Weights float32 [outputs, inputs, kernel, kernel] of convolutions that Muon serves: several channels, no groups.

    Those with a bias are left out: no norm follows them, or they weigh channels (squeeze-and-excitation).
    """
    found = [m for m in model.modules() if isinstance(m, nn.Conv2d) and m.groups == 1 and m.bias is None]
    return [m.weight for m in found if m.in_channels > 1]
