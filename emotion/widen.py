"""A wider network that computes what a narrower one does (Net2WiderNet: Chen, Goodfellow, Shlens 2016).

Each further channel is a copy of an old one; what reads the old channel reads its copies with shares that sum to 1. The
shares differ, so that the copies learn different things.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from emotion.models.fer_resnet import FerResNet

Values = dict[str, torch.Tensor]


@dataclass(frozen=True, eq=False)
class Channels:
    """Where the channels of a wider layer come from: `source` int64 [M], indices below N; `share` float32 [M]."""

    source: torch.Tensor
    share: torch.Tensor

    @classmethod
    def drawn(cls, before: int, after: int, rng: torch.Generator) -> Channels:
        """The first `before` are the old ones in their order; raises ValueError when `after` is fewer."""
        if after < before:
            raise ValueError(f"{after} channels: expected at least the {before} of the narrower network")
        copied = [torch.randperm(before, generator=rng) for _ in range(-(-after // before) - 1)]
        source = torch.cat([torch.arange(before), *copied])[:after]
        weight = 0.25 + torch.rand(after, generator=rng)
        share = weight / torch.zeros(before).index_add_(0, source, weight)[source]
        return cls(source, share)


def widen(saved: Values, wide: FerResNet, rng: torch.Generator) -> Values:
    """Values of a narrower FerResNet, grown to the shapes of `wide`, giving what the narrower network gives.

    saved: the network's values as `network.`, those of a linear layer on its features, if there is one, as
    `auxiliary.`; the result has the same names. Raises ValueError when the blocks differ or a layer has more channels.
    """
    narrow = {key.removeprefix("network."): value for key, value in saved.items()}
    grown: Values = {name: narrow[name] for name in ("mean", "std") if name in narrow}
    shapes = {name: value.shape for name, value in wide.state_dict().items()}

    def layer(
        name: str, inputs: Channels | None, outputs: Channels | None = None, *, norm: str | None = None
    ) -> Channels:
        """A convolution or linear layer and the norm after it; returns its output channels."""
        if f"{name}.weight" not in narrow:
            raise ValueError(f"no layer {name}: expected the same blocks")
        weight = narrow[f"{name}.weight"]
        if outputs is None:
            outputs = Channels.drawn(len(weight), shapes[f"{name}.weight"][0], rng)
        grown[f"{name}.weight"] = _read(weight, inputs)[outputs.source]
        for key in (f"{name}.bias", *(f"{norm}.{part}" for part in ("weight", "bias", "running_mean", "running_var"))):
            if key in narrow:
                grown[key] = narrow[key][outputs.source]
        if norm is not None:
            grown[f"{norm}.num_batches_tracked"] = narrow[f"{norm}.num_batches_tracked"]
        return outputs

    stream = layer("stem.3", layer("stem.0", None, norm="stem.1"), norm="stem.4")
    for i in range(len(wide.blocks)):
        block = f"blocks.{i}"
        entering = stream
        if f"{block}.shortcut.1.weight" in shapes:
            stream = layer(f"{block}.shortcut.1", entering, norm=f"{block}.shortcut.2")
        inner = layer(f"{block}.residual.0", entering, norm=f"{block}.residual.1")
        layer(f"{block}.residual.3", inner, stream, norm=f"{block}.residual.4")
        gate = f"{block}.residual.5.gate"
        if f"{gate}.1.weight" in shapes:
            layer(f"{gate}.3", layer(f"{gate}.1", stream), stream)
    for head in ("head", "auxiliary"):
        if f"{head}.weight" in narrow:
            grown |= {f"{head}.weight": _read(narrow[f"{head}.weight"], stream), f"{head}.bias": narrow[f"{head}.bias"]}
    if surplus := sorted(narrow.keys() - grown.keys()):
        raise ValueError(f"a layer too many, {surplus[0]}: expected the same blocks")
    return {key if key.startswith("auxiliary.") else f"network.{key}": value for key, value in grown.items()}


def _read(weight: torch.Tensor, inputs: Channels | None) -> torch.Tensor:
    """[O, I, ...] with the input channels of the wider layer before."""
    if inputs is None:
        return weight
    return weight[:, inputs.source] * inputs.share.view(1, -1, *[1] * (weight.ndim - 2))
