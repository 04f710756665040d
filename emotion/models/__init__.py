"""The architectures by name. Adding one is a builder and a line."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from emotion.models.baselines import knn, mlp
from emotion.models.fer_resnet import fer_resnet, fer_resnet_large, fer_resnet_plain, fer_resnet_wide
from emotion.models.imagenet import (
    inception_v3,
    load_imagenet,
    resnet18,
    resnet50,
    resnet50_partial,
    resnet101_frozen,
    vgg16,
    vgg16_frozen,
)
from emotion.models.mini_xception import mini_xception
from emotion.models.small_cnn import cnn1, cnn2, cnn6, simple_cnn

BASELINES: dict[str, Callable[..., Any]] = {"knn": knn, "mlp": mlp}
"""Name -> builder of a scikit-learn estimator."""

MODELS: dict[str, Callable[..., Any]] = {
    **BASELINES,
    "simple_cnn": simple_cnn,
    "resnet18": resnet18,
    "resnet50": resnet50,
    "resnet50_partial": resnet50_partial,
    "cnn1": cnn1,
    "cnn2": cnn2,
    "cnn6": cnn6,
    "vgg16_frozen": vgg16_frozen,
    "resnet101_frozen": resnet101_frozen,
    "vgg16": vgg16,
    "inception_v3": inception_v3,
    "mini_xception": mini_xception,
    "fer_resnet": fer_resnet,
    "fer_resnet_plain": fer_resnet_plain,
    "fer_resnet_wide": fer_resnet_wide,
    "fer_resnet_large": fer_resnet_large,
}
"""Name -> builder(num_classes) of a torch module, or of an estimator for the names in `BASELINES`."""

__all__ = ["BASELINES", "MODELS", "load_imagenet"]
