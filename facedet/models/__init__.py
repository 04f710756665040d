"""The architectures that `facedet train` can build. Adding one is a builder and a line here."""

from collections.abc import Callable

from torch import nn

from facedet.models.compact import compact
from facedet.models.faster_rcnn import FASTER_RCNNS

MODELS: dict[str, Callable[..., nn.Module]] = {
    "compact": compact,
    **FASTER_RCNNS,
}

__all__ = ["MODELS"]
