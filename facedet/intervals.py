"""How far chance reaches into a detector's AP: 95 % intervals, by taking the photos again, with replacement.

Photos and not faces are drawn, as those of one photo have much in common. Two detectors on the same photos are compared
on the same draws: their difference is far surer than either.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]
Resampled = Callable[[FloatArray], FloatArray]
"""From draws, float64 [S, P] (how often each of them has each photo), to the AP of each, float64 [S]."""
Interval = tuple[float, float]

DRAWS = 500


def intervals(aps: Mapping[str, Resampled], photos: int) -> dict[str, Interval]:
    """The 95 % interval of each metric. photos: how many were measured."""
    drawn = draws(photos)
    return {name: _middle(ap(drawn)) for name, ap in aps.items()}


def differences(ours: Mapping[str, Resampled], theirs: Mapping[str, Resampled], photos: int) -> dict[str, Interval]:
    """The 95 % interval of ours minus theirs, of each metric that both have."""
    drawn = draws(photos)
    return {name: _middle(ours[name](drawn) - theirs[name](drawn)) for name in ours if name in theirs}


def draws(photos: int) -> FloatArray:
    """float64 [DRAWS, photos], always the same for so many photos."""
    if photos == 0:
        return np.zeros((DRAWS, 0))
    return np.random.default_rng(0).multinomial(photos, np.full(photos, 1 / photos), DRAWS).astype(np.float64)


def _middle(values: FloatArray) -> Interval:
    low, high = np.percentile(values, [2.5, 97.5])
    return float(low), float(high)
