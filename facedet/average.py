"""The mean of the weights of two runs, of which one began where the other was (Wortsman et al. 2022, Model soups)."""

from __future__ import annotations

from pathlib import Path

from facedet.checkpoint import save_whole
from facedet.errors import ConfigError
from facedet.export import load_compact_checkpoint
from facedet.models.compact import deepened, mixed


def average_compact(first: str | Path, second: str | Path, out: str | Path, *, share: float = 0.5) -> None:
    """Write the mean of two compact detectors as a checkpoint. share: of the second, above 0 and below 1.

    first, second: run folders, checkpoints or exported files; a shallower network is deepened first. The metadata is
    the first one's and holds the second's. Raises ConfigError and WeightsError.
    """
    if not 0 < share < 1:
        raise ConfigError([f"share {share}: expected above 0 and below 1"])
    (a, about), (b, about_b) = (load_compact_checkpoint(path) for path in (first, second))
    mean = mixed(deepened(a.state_dict()), deepened(b.state_dict()), share)
    out = Path(out)
    out.parent.mkdir(parents=True, exist_ok=True)
    save_whole({"network": mean, "metadata": {**about, "averaged_with": about_b, "share": share}}, out)
