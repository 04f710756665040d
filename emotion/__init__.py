"""Stage 2 of crowdmood: face crops in, seven probabilities per face out.

>>> expressions = emotion.load_classifier("default").classify(crops)  # uint8 [H, W] grey or [H, W, 3] BGR, any size

Importing this package imports neither torch nor onnxruntime.
"""

from emotion.classifier import ExpressionClassifier, load_classifier, shipped_classifiers
from emotion.errors import ConfigError, DataError, EmotionError, MissingExtra, WeightsError
from emotion.expressions import EMOTIONS, Expressions

__all__ = [
    "EMOTIONS",
    "ConfigError",
    "DataError",
    "EmotionError",
    "ExpressionClassifier",
    "Expressions",
    "MissingExtra",
    "WeightsError",
    "load_classifier",
    "shipped_classifiers",
]
