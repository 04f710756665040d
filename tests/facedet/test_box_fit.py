"""The boxes' sizes that fine-tuning begins with: fitted to a set's labels by stride, where there are enough."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from facedet.box_fit import BoxFit, measure_box_fits, with_box_fits
from facedet.compact_config import CompactConfig
from facedet.data.augment import CropRecipe
from facedet.data.coco import Photo
from facedet.export import load_compact_checkpoint
from facedet.models.compact import compact
from facedet.train import train_compact
from tests.facedet.test_compact import make_photo


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
    fits = measure_box_fits(values, photos, grey)
    assert [(fit.stride, fit.faces) for fit in fits] == [(16, 100)]
    assert fits[0].wider == pytest.approx(1.25, abs=1e-5)
    assert fits[0].taller == pytest.approx(1.125, abs=1e-5)
    fitted = with_box_fits(values, fits)
    network = compact().eval()
    network.load_state_dict(fitted)
    with torch.inference_mode():
        points = network(torch.zeros(1, 3, 64, 64))[0]
    surest = points[points[:, 0].argmax(), 1:]
    assert (surest[2:] - surest[:2]).tolist() == pytest.approx([40, 36], abs=1e-3)
    changed = {name for name in values if not torch.equal(values[name], fitted[name])}
    assert changed == {"heads.1.out.bias"}


def test_a_stride_with_few_faces_keeps_its_boxes() -> None:
    assert measure_box_fits(values_of_boxes_everywhere(), [labelled(99)], grey) == []


def test_a_photo_of_one_row_is_no_fault() -> None:
    boxes = np.array([[0, 0, 9, 1]], np.float32)
    line = Photo(Path("x.png"), "x.png", 5000, 1, boxes, np.zeros(1, bool))
    assert measure_box_fits(values_of_boxes_everywhere(), [line], grey) == []


def test_a_run_begins_with_the_fit_and_resumes_with_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    start, photos = values_of_boxes_everywhere(), [make_photo(tmp_path)]
    crop = CropRecipe(size=64)
    config = CompactConfig(
        epochs=2, batch_size=1, lr=1e-9, ema_decay=0.5, start_share=0.5, remember=True, fit_boxes=True, crop=crop
    )
    told: list[dict[str, float]] = []

    def kill(line: dict[str, float]) -> None:
        told.append(line)
        if "epoch" in line:
            raise KeyboardInterrupt

    monkeypatch.setattr("facedet.train.measure_box_fits", lambda values, photos, read: [BoxFit(16, 120, 1.25, 1.125)])
    with pytest.raises(KeyboardInterrupt):
        train_compact(config, photos, tmp_path / "run", initial=start, report=kill)
    assert told[0] == {"boxes_of_stride": 16, "labels": 120, "wider": 1.25, "taller": 1.125}
    monkeypatch.undo()
    best = train_compact(config, photos, tmp_path / "run", initial=start, resume=True)
    network, about = load_compact_checkpoint(best)
    assert about["box_fits"] == [{"stride": 16, "faces": 120, "wider": 1.25, "taller": 1.125}]
    sizes = network.get_parameter("heads.1.out.bias")[3:].exp().tolist()
    assert sizes == pytest.approx([2 * 1.25, 2 * 1.125], abs=1e-4)


def test_many_photos_are_looked_at_in_part(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("facedet.box_fit.MOST_PHOTOS", 2)
    seen: list[int] = []

    def read(photo: Photo) -> np.ndarray:
        seen.append(photo.width)
        return grey(photo)

    photos = [labelled(50, photo_px=320 + 32 * i) for i in range(6)]
    photos.insert(1, labelled(0, ignored=5))
    assert measure_box_fits(values_of_boxes_everywhere(), photos, read) == [BoxFit(16, 100, 1.25, 1.125)]
    assert seen == [320, 416]
