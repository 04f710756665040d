"""ImageNet networks of torchvision with heads of their own, partly frozen where their authors froze them.

All take grey faces, float32 [N, 1, S, S] in [0, 1], copy grey to three channels scaled as the weights expect, and give
logits [N, num_classes]. Builders start at random; `load_imagenet` fetches the weights.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from pathlib import Path
from typing import Any

import torch
from torch import nn

from emotion.errors import WeightsError
from emotion.models.standardise import IMAGENET_MEAN, IMAGENET_STD, Standardise


class ImageNetClassifier(nn.Module):
    """standardise -> body -> head.

    source: torchvision's name of the network; prefix: of the body's keys in torchvision's checkpoint. standardise: the
    scaling that those weights were trained with, ImageNet's mean and deviation if not told. frozen: the whole body does
    not learn and its batch norms keep their statistics; upper: the modules that `free_upper` lets learn.
    """

    def __init__(
        self, body: nn.Module, head: nn.Module, *, source: str, prefix: str = "",
        standardise: Standardise | None = None, frozen: bool = False, upper: tuple[str, ...] = (),
    ) -> None:  # fmt: skip
        super().__init__()
        self.standardise = standardise or Standardise(IMAGENET_MEAN, IMAGENET_STD)
        self.body = body
        self.head = head
        self.source, self.prefix = source, prefix
        self._upper = [body.get_submodule(name) for name in upper]
        self._frozen = frozen
        self._upper_is_free = False
        if frozen:
            self.body.requires_grad_(False)

    def free_upper(self) -> None:
        """Let the upper part of a frozen body learn. Its batch norms learn too. Does nothing the second time."""
        self._upper_is_free = True
        for module in self._upper:
            module.requires_grad_(True)
        self.train(self.training)

    def train(self, mode: bool = True) -> ImageNetClassifier:
        """As in Keras, a frozen part runs in inference mode: its batch norms use and keep their statistics."""
        super().train(mode)
        if self._frozen:
            self.body.eval()
            for module in self._upper if self._upper_is_free else ():
                module.train(mode)
        return self

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.head(self.body(self.standardise(x)))
        return logits


def resnet18(num_classes: int = 7) -> ImageNetClassifier:
    """ImageNet ResNet18, all layers trained; published 62.8 % (validation)."""
    return ImageNetClassifier(_resnet("resnet18"), _pooled_head(512, num_classes), source="resnet18")


def resnet50(num_classes: int = 7) -> ImageNetClassifier:
    """ImageNet ResNet50, all layers trained; published 62.5 % (validation)."""
    return ImageNetClassifier(_resnet("resnet50"), _pooled_head(2048, num_classes), source="resnet50")


def resnet50_partial(num_classes: int = 7) -> ImageNetClassifier:
    """ImageNet ResNet50, frozen up to Keras layer 155, dropout 0.2; published "86.3 %", which is binary accuracy.

    `layers[:155]` of Keras' ResNet50 ends with conv5_block1_out (number 154): what is freed later are conv5_block2
    and conv5_block3, torchvision's layer4.1 and layer4.2.
    """
    head = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(0.2), nn.Linear(2048, num_classes))
    return ImageNetClassifier(
        _resnet("resnet50"), head, source="resnet50", frozen=True, upper=("layer4.1", "layer4.2")
    )  # fmt: skip


def resnet101_frozen(num_classes: int = 7) -> ImageNetClassifier:
    """Frozen ResNet101 (its slide says V2, the counts are V1's), head 256-128-64 on 2x2x2048; published about 32 %."""
    return ImageNetClassifier(
        _resnet("resnet101"), _dense_head(2 * 2 * 2048, num_classes), source="resnet101", frozen=True
    )  # fmt: skip


def vgg16_frozen(num_classes: int = 7) -> ImageNetClassifier:
    """Frozen VGG16, head 256-128-64 with batch norm; published about 50 %."""
    return ImageNetClassifier(
        _vgg16(), _dense_head(512, num_classes), source="vgg16", prefix="features.", frozen=True
    )  # fmt: skip


def vgg16(num_classes: int = 7) -> ImageNetClassifier:
    """ImageNet VGG16, all layers trained; published 43.8 %."""
    return ImageNetClassifier(_vgg16(), _pooled_head(512, num_classes), source="vgg16", prefix="features.")


def inception_v3(num_classes: int = 7) -> ImageNetClassifier:
    """ImageNet InceptionV3 on 75x75, average pool, dropout 0.5, dense 1024; published 66.3 % (test).

    Its weights are Google's, made for [-1, 1]; torchvision gets there from ImageNet's scaling by `transform_input`.
    """
    from torchvision import models

    body = models.inception_v3(weights=None, aux_logits=False, transform_input=False, init_weights=False)
    body.dropout, body.fc = nn.Identity(), nn.Identity()
    head = nn.Sequential(nn.Dropout(0.5), nn.Linear(2048, 1024), nn.ReLU(inplace=True), nn.Linear(1024, num_classes))
    scaling = Standardise((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
    return ImageNetClassifier(body, head, source="inception_v3", standardise=scaling)


def load_imagenet(network: nn.Module) -> None:
    """Put torchvision's ImageNet weights into the body.

    Raises WeightsError when there are none, they cannot be had, or the file that is there has another digest than its
    name says.
    """
    if not isinstance(network, ImageNetClassifier):
        raise WeightsError("this architecture has no ImageNet weights: train it with --weights none")
    from torchvision.models import get_model_weights

    state = _imagenet_state(get_model_weights(network.source).IMAGENET1K_V1, network.source)
    wanted = network.body.state_dict()
    found = {key: state[network.prefix + key] for key in wanted if network.prefix + key in state}
    missing = [key for key in wanted if key not in found and not key.endswith("num_batches_tracked")]
    if missing:
        raise WeightsError(f"ImageNet weights of {network.source}: no value for {missing[0]}")
    network.body.load_state_dict(found, strict=False)


def _imagenet_state(weights: Any, source: str) -> dict[str, torch.Tensor]:
    """torchvision checks the digest of what it fetches, but not of what is there already."""
    file = Path(torch.hub.get_dir()) / "checkpoints" / weights.url.rpartition("/")[2]
    if file.is_file():
        digest, expected = hashlib.sha256(file.read_bytes()).hexdigest(), file.stem.rpartition("-")[2]
        if not digest.startswith(expected):
            raise WeightsError(
                f"{file}: damaged or another file: expected a SHA-256 that begins with {expected}, got "
                f"{digest[: len(expected)]}: delete it to have it fetched again, or start at random with --weights none"
            )
    try:
        state: dict[str, torch.Tensor] = weights.get_state_dict(progress=False, check_hash=True)
    except (OSError, RuntimeError) as error:
        raise WeightsError(
            f"ImageNet weights of {source} cannot be had from {weights.url} ({error}): put the file into "
            f"{file.parent}, or start at random with --weights none"
        ) from None
    return state


def _resnet(name: str) -> nn.Sequential:
    from torchvision import models

    whole = models.get_model(name, weights=None)
    parts = [(n, m) for n, m in whole.named_children() if n not in ("avgpool", "fc")]
    return nn.Sequential(OrderedDict(parts))


def _vgg16() -> nn.Module:
    """The convolutions alone: torchvision's dense layers would be 124 million parameters made for nothing."""
    from torchvision.models.vgg import cfgs, make_layers

    features: nn.Module = make_layers(cfgs["D"])
    for module in features.modules():
        if isinstance(module, nn.Conv2d) and module.bias is not None:
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
            nn.init.zeros_(module.bias)
    return features


def _pooled_head(channels: int, num_classes: int) -> nn.Sequential:
    return nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, num_classes))


def _dense_head(values: int, num_classes: int) -> nn.Sequential:
    """Dense 256, 128 and 64, batch norm on the last: the parameter counts leave no other place for it."""
    return nn.Sequential(
        nn.Flatten(),
        nn.Linear(values, 256), nn.ReLU(inplace=True),
        nn.Linear(256, 128), nn.ReLU(inplace=True),
        nn.Linear(128, 64), nn.BatchNorm1d(64), nn.ReLU(inplace=True),
        nn.Linear(64, num_classes),
    )  # fmt: skip
