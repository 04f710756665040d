"""The mean of the weights of two runs, of which one began where the other was (Wortsman et al. 2022, Model soups)."""

from __future__ import annotations

from pathlib import Path

import torch

from emotion.card import ModelCard
from emotion.checkpoint import load_checkpoint, save_whole
from emotion.errors import ConfigError, WeightsError

OF_THE_DATA = ("eval_size", "train_images", "duplicates_dropped")
"""Of a run's metrics those that hold for the mean too; its accuracies and losses do not."""


def average(first: str | Path, second: str | Path, out: str | Path, *, share: float = 0.5) -> None:
    """Write the mean of two trained networks as a checkpoint. share: of the second, above 0 and below 1.

    first, second: run folders or checkpoints of one architecture, input size and view, and the same classes. The
    metadata is the first one's, without its figures, and names both. Raises ConfigError and WeightsError.
    """
    if not 0 < share < 1:
        raise ConfigError([f"share {share}: expected above 0 and below 1"])
    a, b = load_checkpoint(first), load_checkpoint(second)
    if _input(a.card) != _input(b.card):
        raise WeightsError(f"{second}: {_input(b.card)}: expected {_input(a.card)}, as in {first}")
    others = b.network.state_dict()
    mean = {
        name: torch.lerp(value, others[name], share) if value.is_floating_point() else value
        for name, value in a.network.state_dict().items()
    }
    metrics = {name: value for name, value in a.card.training.get("metrics", {}).items() if name in OF_THE_DATA}
    told = {**a.card.training, "metrics": metrics, "averaged": [a.identity, b.identity], "share": share}
    out = Path(out)
    out.parent.mkdir(parents=True, exist_ok=True)
    save_whole({"network": mean, "metadata": told}, out)


def _input(card: ModelCard) -> str:
    """What two networks must have in common."""
    return f"{card.name} for {', '.join(card.labels)}, {card.input_size} px, view {card.view:.4g}"
