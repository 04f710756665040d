"""What a network is made of: its layers, and parameters counted as Keras does, with the statistics of batch norms."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from torch import nn


@dataclass(frozen=True)
class Layer:
    """One leaf module: its place in the network, kind, output shape without the batch, and parameters."""

    name: str
    kind: str
    output: tuple[int, ...]
    parameters: int


@dataclass(frozen=True)
class Summary:
    """Layers in the order of the data. total counts batch-norm means and variances too; trainable does not."""

    layers: tuple[Layer, ...]
    total: int
    trainable: int


def summarise_baseline(estimator: Any, inputs: int, num_classes: int) -> Summary:
    """The dense layers of a scikit-learn estimator on `inputs` numbers; one of neighbours has none."""
    widths = [inputs, *np.atleast_1d(getattr(estimator, "hidden_layer_sizes", ())).astype(int).tolist(), num_classes]
    if len(widths) == 2:
        return Summary((), 0, 0)
    sizes = [(n_in + 1) * n_out for n_in, n_out in pairwise(widths)]
    layers = [
        Layer(f"dense{i}", "Dense", (n,), size) for i, (n, size) in enumerate(zip(widths[1:], sizes, strict=True))
    ]
    return Summary(tuple(layers), sum(sizes), sum(sizes))


def summarise(network: nn.Module, size: int) -> Summary:
    """Run one grey face of `size` pixels through the network in evaluation mode and write down what happens."""
    layers: list[Layer] = []

    def watch(name: str, module: nn.Module) -> torch.utils.hooks.RemovableHandle:
        def note(_: nn.Module, __: object, output: torch.Tensor) -> None:
            layers.append(Layer(name, type(module).__name__, tuple(output.shape[1:]), parameter_count(module)[0]))

        return module.register_forward_hook(note)

    handles = [watch(n, m) for n, m in network.named_modules() if not list(m.children())]
    was_training = network.training
    network.eval()
    try:
        with torch.inference_mode():
            network(torch.zeros(1, 1, size, size))
    finally:
        network.train(was_training)
        for handle in handles:
            handle.remove()
    return Summary(tuple(layers), *parameter_count(network))


def parameter_count(network: nn.Module) -> tuple[int, int]:
    """(all, trainable) parameters. Keras counts the running mean and variance of a batch norm among all."""
    parameters = list(network.parameters())
    statistics = [b for n, b in network.named_buffers() if n.rpartition(".")[2] in ("running_mean", "running_var")]
    total = sum(t.numel() for t in [*parameters, *statistics])
    return total, sum(p.numel() for p in parameters if p.requires_grad)
