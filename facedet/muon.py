"""Muon (Jordan 2024, https://kellerjordan.github.io/posts/muon/): momentum whose every direction weighs the same."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor

MOMENTUM = 0.95
NEWTON_SCHULZ = (3.4445, -4.7750, 2.0315)
"""Coefficients of its quintic iteration: singular values end between 0.7 and 1.2, which is near enough, and soon."""
STEPS = 5
AS_ADAM = 0.2
"""Root mean square of AdamW's usual step at rate 1, to which steps are scaled (Liu et al. 2025, Muon is scalable)."""


class Muon(torch.optim.Optimizer):
    """For weights of convolutions without groups, as matrices [outputs, inputs * kernel]. Rates are AdamW's.

    precision: what directions are computed in.
    """

    def __init__(
        self, weights: Iterable[Tensor], lr: float, *, weight_decay: float = 0.0, precision: torch.dtype = torch.float32
    ) -> None:
        super().__init__(weights, {"lr": lr, "weight_decay": weight_decay})
        self._precision = precision

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> None:  # type: ignore[override]
        """One step by the gradients that are there; closure: not used."""
        for group in self.param_groups:
            for weight in group["params"]:
                if weight.grad is None:
                    continue
                momentum = self.state[weight].setdefault("momentum", torch.zeros_like(weight))
                momentum.lerp_(weight.grad, 1 - MOMENTUM)
                ahead = weight.grad.lerp(momentum, MOMENTUM).flatten(1)
                weight.mul_(1 - group["lr"] * group["weight_decay"])
                step = group["lr"] * AS_ADAM * max(ahead.shape) ** 0.5
                weight.add_(orthogonal(ahead.to(self._precision)).view_as(weight), alpha=-step)


def orthogonal(matrix: Tensor) -> Tensor:
    """Floats [M, N]: the same singular vectors with all singular values near 1, by Newton and Schulz's iteration."""
    a, b, c = NEWTON_SCHULZ
    wide = matrix if matrix.shape[0] <= matrix.shape[1] else matrix.T
    x: Tensor = wide / wide.norm().clamp(min=1e-7)
    for _ in range(STEPS):
        gram = x @ x.T
        x = a * x + (b * gram + c * gram @ gram) @ x
    return x if matrix.shape[0] <= matrix.shape[1] else x.T
