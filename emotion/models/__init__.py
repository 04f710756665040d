"""The architectures by name. Adding one is a builder and a line."""

from __future__ import annotations

from collections.abc import Callable

from torch import nn

from emotion.models.fer_resnet import fer_resnet, fer_resnet_large

MODELS: dict[str, Callable[..., nn.Module]] = {
    "fer_resnet": fer_resnet,
    "fer_resnet_large": fer_resnet_large,
}

__all__ = ["MODELS"]
