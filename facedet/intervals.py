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
    return {name: middle(ap(drawn)) for name, ap in aps.items()}


def differences(ours: Mapping[str, Resampled], theirs: Mapping[str, Resampled], photos: int) -> dict[str, Interval]:
    """The 95 % interval of ours minus theirs, of each metric that both have."""
    drawn = draws(photos)
    return {name: middle(ours[name](drawn) - theirs[name](drawn)) for name in ours if name in theirs}


def draws(photos: int, count: int = DRAWS, *, seed: int = 0) -> FloatArray:
    """float64 [count, photos], how often each draw has each photo; always the same for so many photos and one seed."""
    if photos == 0:
        return np.zeros((count, 0))
    return np.random.default_rng(seed).multinomial(photos, np.full(photos, 1 / photos), count).astype(np.float64)


def middle(values: FloatArray) -> Interval:
    """Where the middle 95 % of the values begins and ends."""
    low, high = np.percentile(values, [2.5, 97.5])
    return float(low), float(high)
