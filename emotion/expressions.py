"""The one value that leaves this package: seven probabilities per face."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

EMOTIONS = ("angry", "disgust", "fear", "happy", "sad", "surprise", "neutral")
"""FER-2013's own order. Map labels by these names, never by position."""


@dataclass(frozen=True, eq=False)
class Expressions:
    """Emotions of N faces, in the order of the crops that went in.

    probabilities: float32 [N, 7], columns in the order of `EMOTIONS`, each row in [0, 1] with sum 1.
    Raises ValueError when shape, type, range or sum differ.
    """

    probabilities: npt.NDArray[np.float32]

    def __post_init__(self) -> None:
        p = self.probabilities
        if p.ndim != 2 or p.shape[1] != len(EMOTIONS):
            raise ValueError(f"probabilities: expected shape [N, {len(EMOTIONS)}], got {list(p.shape)}")
        if p.dtype != np.float32:
            raise ValueError(f"probabilities: expected float32, got {p.dtype}")
        if p.size and not (np.isfinite(p).all() and p.min() >= 0 and np.allclose(p.sum(1), 1, atol=1e-3)):
            raise ValueError("probabilities: expected rows of values in [0, 1] that sum to 1")
        p.setflags(write=False)

    def __len__(self) -> int:
        return len(self.probabilities)

    @property
    def indices(self) -> npt.NDArray[np.intp]:
        """int [N], column of the likeliest emotion."""
        columns: npt.NDArray[np.intp] = self.probabilities.argmax(1)
        return columns

    @property
    def labels(self) -> list[str]:
        """The likeliest emotion of each face, by name."""
        return [EMOTIONS[i] for i in self.indices]

    @property
    def confidences(self) -> npt.NDArray[np.float32]:
        """float32 [N], probability of the likeliest emotion."""
        likeliest: npt.NDArray[np.float32] = self.probabilities.max(1)
        return likeliest

    @classmethod
    def empty(cls) -> Expressions:
        """No faces."""
        return cls(np.zeros((0, len(EMOTIONS)), np.float32))
