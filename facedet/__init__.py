"""Stage 1: photos in, faces out. Importing this package never imports torch."""

from facedet.detectors import DEFAULT_DETECTOR, DETECTORS, FaceDetector, load_detector
from facedet.errors import ConfigError, DataError, FacedetError, MissingExtra, WeightsError
from facedet.faces import Faces

__all__ = [
    "DEFAULT_DETECTOR",
    "DETECTORS",
    "ConfigError",
    "DataError",
    "FaceDetector",
    "FacedetError",
    "Faces",
    "MissingExtra",
    "WeightsError",
    "load_detector",
]
