"""Stages 1 and 2 on photographs: the only package that imports both `facedet` and `emotion`.

>>> reading = pipeline.CrowdPipeline.default().read("crowd.jpg")  # PhotoReading

Importing this package imports nothing heavy; its names are loaded when they are first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pipeline.crowd_pipeline import CrowdPipeline as CrowdPipeline
    from pipeline.draw import draw_faces as draw_faces
    from pipeline.errors import DataError as DataError
    from pipeline.errors import DetectorError as DetectorError
    from pipeline.errors import MissingExtra as MissingExtra
    from pipeline.errors import OutputError as OutputError
    from pipeline.errors import PhotoError as PhotoError
    from pipeline.errors import PipelineError as PipelineError
    from pipeline.errors import UsageError as UsageError
    from pipeline.reading import FaceReading as FaceReading
    from pipeline.reading import PhotoReading as PhotoReading

_HOMES = {
    "CrowdPipeline": "crowd_pipeline",
    "DataError": "errors",
    "DetectorError": "errors",
    "FaceReading": "reading",
    "MissingExtra": "errors",
    "OutputError": "errors",
    "PhotoError": "errors",
    "PhotoReading": "reading",
    "PipelineError": "errors",
    "UsageError": "errors",
    "draw_faces": "draw",
}

__all__ = [
    "CrowdPipeline",
    "DataError",
    "DetectorError",
    "FaceReading",
    "MissingExtra",
    "OutputError",
    "PhotoError",
    "PhotoReading",
    "PipelineError",
    "UsageError",
    "draw_faces",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'pipeline' has no attribute {name!r}")
    return getattr(import_module(f"pipeline.{_HOMES[name]}"), name)
