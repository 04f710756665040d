"""Every error that `facedet` raises on purpose.

FacedetError
├── ConfigError        a training or evaluation setting that cannot work (all faults at once)
├── DataError          a data set, annotation or image that is not what was expected
├── WeightsError       a weight file that is missing, damaged or of another model
├── TrainingDiverged   a loss that is not finite
└── MissingExtra       a feature whose optional dependency is not installed
"""


class FacedetError(Exception):
    """Base of all errors of this package; its text is fit for a user."""


class ConfigError(FacedetError):
    """A setting that cannot work. `faults` holds one sentence per fault."""

    def __init__(self, faults: list[str]) -> None:
        self.faults = faults
        super().__init__("; ".join(faults))


class DataError(FacedetError):
    """Data that is not what was expected; names the file and the box or row."""


class WeightsError(FacedetError):
    """A weight file that is missing, damaged or of another model."""


class TrainingDiverged(FacedetError):
    """The loss is not finite; the text gives its parts and the step."""


class MissingExtra(FacedetError):
    """A feature needs an optional dependency; the text names the install command."""
