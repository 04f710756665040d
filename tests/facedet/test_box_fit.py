"""The boxes' sizes that fine-tuning begins with: fitted to a set's labels by stride, where there are enough."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from facedet.box_fit import BoxFit, fit_box_sizes
from facedet.data.coco import Photo
from facedet.models.compact import compact


def values_of_boxes_everywhere() -> dict[str, torch.Tensor]:
    """A network that answers every photo alike: at stride 16 a box of 32x32 around each grid point, else nothing."""
    values = compact().state_dict()
    for level, bias in enumerate([[-9.0, 0, 0, 0, 0], [2.0, 0, 0, np.log(2), np.log(2)], [-9.0, 0, 0, 0, 0]]):
        values[f"heads.{level}.out.weight"].zero_()
        values[f"heads.{level}.out.bias"].copy_(torch.tensor(bias))
    return values


def labelled(labels: int, *, photo_px: int = 320, ignored: int = 0, scale: float = 1.0) -> Photo:
    """Labels of 40x36 px, times `scale`, around as many grid points of stride 16; the ignored ones are narrow."""
    grid = np.array([(8 + 16 * (i % 18), 8 + 16 * (i // 18)) for i in range(labels + ignored)], np.float32).reshape(
        -1, 2
    )
    half = np.where(np.arange(labels + ignored)[:, None] < labels, [[20, 18]], [[12, 16]])
    boxes = (np.concatenate([grid - half, grid + half], axis=1) * scale).astype(np.float32)
    return Photo(Path("x.png"), "x.png", photo_px, photo_px, boxes, np.arange(labels + ignored) >= labels)


def grey(photo: Photo) -> np.ndarray:
    return np.full((photo.height, photo.width, 3), 114, np.uint8)


@pytest.mark.parametrize(
    "photos",
    [
        [labelled(100, ignored=150)],
        [labelled(60), labelled(0), labelled(40)],
        [labelled(100, photo_px=2560, scale=2.0)],
    ],
)
def test_boxes_become_as_wide_and_tall_as_the_labels(photos: list[Photo]) -> None:
    values = values_of_boxes_everywhere()
    fitted, fits = fit_box_sizes(values, photos, grey)
    assert [(fit.stride, fit.faces) for fit in fits] == [(16, 100)]
    assert fits[0].wider == pytest.approx(1.25, abs=1e-5)
    assert fits[0].taller == pytest.approx(1.125, abs=1e-5)
    network = compact().eval()
    network.load_state_dict(fitted)
    with torch.inference_mode():
        points = network(torch.zeros(1, 3, 64, 64))[0]
    surest = points[points[:, 0].argmax(), 1:]
    assert (surest[2:] - surest[:2]).tolist() == pytest.approx([40, 36], abs=1e-3)
    changed = {name for name in values if not torch.equal(values[name], fitted[name])}
    assert changed == {"heads.1.out.bias"}


def test_a_stride_with_few_faces_keeps_its_boxes() -> None:
    values = values_of_boxes_everywhere()
    fitted, fits = fit_box_sizes(values, [labelled(99)], grey)
    assert fits == []
    assert all(torch.equal(values[name], fitted[name]) for name in values)


def test_many_photos_are_looked_at_in_part(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("facedet.box_fit.MOST_PHOTOS", 2)
    seen: list[int] = []

    def read(photo: Photo) -> np.ndarray:
        seen.append(photo.width)
        return grey(photo)

    photos = [labelled(50, photo_px=320 + 32 * i) for i in range(6)]
    assert fit_box_sizes(values_of_boxes_everywhere(), photos, read)[1] == [BoxFit(16, 100, 1.25, 1.125)]
    assert seen == [320, 416]
