"""The architectures that `facedet train` can build. Adding one is a builder and a line here."""

from collections.abc import Callable

from torch import nn

from facedet.models.compact import compact
from facedet.models.faster_rcnn import faster_rcnn_r18_fpn, faster_rcnn_r50_fpn, faster_rcnn_x101_fpn

MODELS: dict[str, Callable[..., nn.Module]] = {
    "compact": compact,
    "faster_rcnn_x101_fpn": faster_rcnn_x101_fpn,
    "faster_rcnn_r50_fpn": faster_rcnn_r50_fpn,
    "faster_rcnn_r18_fpn": faster_rcnn_r18_fpn,
}

__all__ = ["MODELS"]
