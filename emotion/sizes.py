"""Which sizes of faces a network takes, found by showing it some."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import nn

from emotion.presets import PRESETS


def size_faults(network: nn.Module, model: str, sizes: Iterable[int]) -> list[str]:
    """A sentence for every size, in pixels, at which two grey faces do not pass. Leaves the network as it was.

    model: the network's name in `MODELS`.
    """
    was_training, faults = network.training, []
    network.eval()
    with torch.no_grad():
        for size in sizes:
            try:
                network(torch.zeros(2, 1, size, size))
            except RuntimeError as error:
                faults.append(
                    f"size {size}: {model} does not take faces of {size} px: expected {PRESETS[model].final_size} px, "
                    f"its recipe's ({str(error).splitlines()[0]})"
                )
    network.train(was_training)
    return faults
