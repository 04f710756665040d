"""The mean of the weights of two runs, of which one began where the other was (Wortsman et al. 2022, Model soups)."""

from __future__ import annotations

from pathlib import Path

import torch

from emotion.checkpoint import load_checkpoint, save_whole
from emotion.errors import ConfigError, WeightsError


def average(first: str | Path, second: str | Path, out: str | Path, *, share: float = 0.5) -> None:
    """Write the mean of two trained networks as a checkpoint. share: of the second, above 0 and below 1.

    first, second: run folders or checkpoints of one architecture and the same classes. The metadata is the first one's
    and names both. Raises ConfigError and WeightsError.
    """
    if not 0 < share < 1:
        raise ConfigError([f"share {share}: expected above 0 and below 1"])
    a, b = load_checkpoint(first), load_checkpoint(second)
    if (a.card.name, a.card.labels) != (b.card.name, b.card.labels):
        raise WeightsError(
            f"{second}: {b.card.name} for {', '.join(b.card.labels)}: expected {a.card.name} for "
            f"{', '.join(a.card.labels)}, as in {first}"
        )
    others = b.network.state_dict()
    mean = {
        name: torch.lerp(value, others[name], share) if value.is_floating_point() else value
        for name, value in a.network.state_dict().items()
    }
    told = {**a.card.training, "averaged": [a.identity, b.identity], "share": share}
    out = Path(out)
    out.parent.mkdir(parents=True, exist_ok=True)
    save_whole({"network": mean, "metadata": told}, out)
