"""Every error that `emotion` raises on purpose.

EmotionError
├── ConfigError        a training or evaluation setting that cannot work (all faults at once)
├── DataError          a data set, row or image that is not what was expected
│   └── EmptySplit     a data set without images of the wanted split
├── WeightsError       a weight file that is missing, damaged or not ours
├── MissingExtra       a feature whose optional dependency is not installed
└── TrainingDiverged   the loss is not finite
"""


class EmotionError(Exception):
    """Base of all errors of this package; its text is fit for a user."""


class ConfigError(EmotionError):
    """A setting that cannot work. `faults` holds one sentence per fault."""

    def __init__(self, faults: list[str]) -> None:
        self.faults = faults
        super().__init__("; ".join(faults))


class DataError(EmotionError):
    """Data that is not what was expected; names the file and the row or image."""


class EmptySplit(DataError):
    """A data set that holds no image of the wanted split; some downloads lack PrivateTest."""


class WeightsError(EmotionError):
    """A weight file that is missing, damaged or not made by `emotion export`."""


class MissingExtra(EmotionError):
    """A feature needs an optional dependency; the text names the install command."""


class TrainingDiverged(EmotionError):
    """The loss is not finite; the text gives its parts and the step."""
