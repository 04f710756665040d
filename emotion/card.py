"""What a weight file says of itself: stored as text inside the ONNX file, read by the classifier."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from emotion.errors import WeightsError
from emotion.expressions import EMOTIONS

FORMAT = "crowdmood-emotion/1"
"""Value of the ONNX metadata entry `format`; a file without it is not ours."""
TEST_TIME_MODES = ("none", "flip", "ten")
"""Views per face at prediction: the centre; it and its mirror image; five crops and their mirror images.

"ten" needs a view below 1; of a whole face it is "flip"."""


@dataclass(frozen=True)
class ModelCard:
    """How to feed a classifier and what its outputs mean.

    name: architecture. labels: output columns, names out of `EMOTIONS`. input_size: side of the input in pixels.
    view: part of the 48-pixel face that the input shows, in (0, 1]. mean, std: applied inside the network, per channel,
    to grey in [0, 1]. temperature: divides the logits. test_time: one of `TEST_TIME_MODES`.
    training: the settings, metrics and commit of the run. Raises ValueError when a value cannot be.
    """

    name: str
    labels: tuple[str, ...]
    input_size: int
    view: float
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    temperature: float = 1.0
    test_time: str = "none"
    training: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        unknown = set(self.labels) - set(EMOTIONS)
        if unknown or len(self.labels) < 2 or len(set(self.labels)) < len(self.labels):
            raise ValueError(f"labels {list(self.labels)}: expected different names out of {', '.join(EMOTIONS)}")
        if self.input_size < 8:
            raise ValueError(f"input_size {self.input_size}: expected at least 8 pixels")
        if not 0 < self.view <= 1:
            raise ValueError(f"view {self.view}: expected a part of the face side in (0, 1]")
        if not 0.01 <= self.temperature <= 100:
            raise ValueError(f"temperature {self.temperature}: expected 0.01 to 100")
        if self.test_time not in TEST_TIME_MODES:
            raise ValueError(f"test_time {self.test_time!r}: expected one of {', '.join(TEST_TIME_MODES)}")

    def to_properties(self) -> dict[str, str]:
        """The card as ONNX `metadata_props`: each field as JSON, and `format`."""
        return {"format": FORMAT, **{key: json.dumps(value) for key, value in asdict(self).items()}}

    @classmethod
    def from_properties(cls, properties: Mapping[str, str], where: str) -> ModelCard:
        """The card of an ONNX file. `where` names the file in errors. Raises WeightsError when it is not ours."""
        found = properties.get("format")
        if found != FORMAT:
            raise WeightsError(
                f"{where}: not an expression classifier: expected an ONNX file made by `emotion export` "
                f"(metadata format {FORMAT!r}), found {found!r}"
            )
        try:
            values = {f.name: json.loads(properties[f.name]) for f in fields(cls)}
            for key in ("labels", "mean", "std"):
                values[key] = tuple(values[key])
            return cls(**values)
        except KeyError as error:
            raise WeightsError(f"{where}: metadata {error} is missing: expected one made by `emotion export`") from None
        except (TypeError, ValueError) as error:
            raise WeightsError(f"{where}: damaged metadata: {error}") from None
