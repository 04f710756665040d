"""The compact detector: network, losses, crops, export and the passes over a photo; training is in test_train.py."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import torch

import facedet
from facedet.data.augment import CropRecipe, PhotoCache, cover_faces, random_crop
from facedet.data.coco import Photo
from facedet.detectors.compact import CompactDetector, load_compact
from facedet.detectors.passes import TILE_PX, batches_of, passes_of
from facedet.export import export_compact, load_compact_checkpoint
from facedet.losses import Targets, assign, compact_losses, points_of
from facedet.models.compact import DepthWiseConv, compact


def make_photo(folder: Path, name: str = "a.png", size: int = 160, faces: int = 2) -> Photo:
    """Dark photo with bright discs as "faces"."""
    import cv2

    rng = np.random.default_rng(len(name) + faces)
    image = rng.integers(0, 60, (size, size, 3), np.uint8)
    boxes = []
    for i in range(faces):
        centre = (int(size * (i + 1) / (faces + 1)), size // 2)
        cv2.circle(image, centre, 14, (200, 220, 240), -1)
        boxes.append([centre[0] - 14, centre[1] - 14, centre[0] + 14, centre[1] + 14])
    path = folder / name
    cv2.imwrite(str(path), image)
    return Photo(path, name, size, size, np.array(boxes, np.float32).reshape(-1, 4), np.zeros(faces, np.bool_))


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An untrained network as ONNX, whose head is made bold enough to report boxes."""
    folder = tmp_path_factory.mktemp("compact")
    torch.manual_seed(0)
    network = compact()
    for head in network.heads:
        torch.nn.init.normal_(head.out.weight, std=0.5)  # type: ignore[union-attr, arg-type]
    torch.save({"network": network.state_dict(), "metadata": {"model": "compact"}}, folder / "best.pt")
    export_compact(folder, folder / "compact.onnx")
    return folder / "compact.onnx"


def test_a_network_gives_a_score_and_a_box_per_grid_point() -> None:
    output = compact().eval()(torch.zeros(2, 3, 64, 96))
    assert output.shape == (2, 8 * 12 + 4 * 6 + 2 * 3, 5)


def test_a_compiled_depth_wise_convolution_has_the_same_gradients() -> None:
    torch.manual_seed(0)
    layer, x = DepthWiseConv(6, 5), torch.randn(2, 6, 9, 11, requires_grad=True)
    results = []
    for convolve in (layer, torch.compile(layer, backend="eager", fullgraph=True)):
        out = convolve(x)
        (out * torch.linspace(-1, 1, out.numel()).view_as(out)).sum().backward()
        assert layer.weight.grad is not None
        assert x.grad is not None
        results.append((out.detach(), layer.weight.grad.clone(), x.grad.clone()))
        layer.weight.grad, x.grad = None, None
    for plain, compiled in zip(*results, strict=True):
        torch.testing.assert_close(compiled, plain)


def test_assignment_gives_each_face_at_least_one_point_near_it() -> None:
    points, strides = points_of(128)
    truth = torch.tensor([[10.0, 10, 22, 24], [60, 50, 120, 118]])
    boxes = torch.cat([points - 8, points + 8], 1)
    matched, faces = assign(torch.zeros(len(points)), boxes, truth, points, strides)
    assert set(faces.tolist()) == {0, 1}
    centres = (truth[faces, :2] + truth[faces, 2:]) / 2
    assert ((points[matched] - centres).abs().max(1).values <= 64).all()


def test_assignment_without_faces_is_empty() -> None:
    points, strides = points_of(64)
    matched, faces = assign(torch.zeros(len(points)), torch.zeros(len(points), 4), torch.zeros(0, 4), points, strides)
    assert len(matched) == len(faces) == 0


def test_ignored_faces_neither_reward_nor_cost() -> None:
    points, _ = points_of(64)
    confident = torch.cat([torch.full((len(points), 1), 3.0), points - 8, points + 8], 1)[None]
    everywhere = torch.tensor([[0.0, 0, 64, 64]])
    nothing = torch.zeros(0, 4)
    punished = compact_losses(confident, [Targets(nothing, nothing)], 64)
    ignored = compact_losses(confident, [Targets(nothing, everywhere)], 64)
    assert punished["score"] > 1
    assert ignored["score"] == 0


def test_an_ignored_face_between_the_points_costs_nothing() -> None:
    points, strides = points_of(64)
    face = torch.tensor([[5.5, 5.5, 10.5, 10.5]])
    nearest = ((points - 8).abs().max(1).values <= 4) & (strides == 8)
    assert not ((points[nearest] > face[:, :2]) & (points[nearest] < face[:, 2:])).all(1).any()
    logits = torch.where(nearest, 3.0, -30.0)
    prediction = torch.cat([logits[:, None], points - 2.5, points + 2.5], 1)[None]
    nothing = torch.zeros(0, 4)
    assert compact_losses(prediction, [Targets(nothing, nothing)], 64)["score"] > 1
    assert compact_losses(prediction, [Targets(nothing, face)], 64)["score"] < 1e-6
    elsewhere = face + 40
    assert compact_losses(prediction, [Targets(nothing, elsewhere)], 64)["score"] > 1


def test_what_the_earlier_network_sees_is_remembered_where_no_face_is_labelled() -> None:
    points, _ = points_of(64)
    label = torch.tensor([[4.0, 4, 28, 28]])
    logits = torch.full((len(points),), -9.0)
    logits[((points == 20) | (points == 52)).all(1)] = 2.0
    earlier = torch.cat([logits[:, None], points - 10, points + 10], 1)[None]
    nothing = torch.zeros(0, 4)

    def loss(predictions: torch.Tensor, truth: torch.Tensor) -> dict[str, float]:
        found = compact_losses(predictions, [Targets(truth, nothing)], 64, earlier=earlier)
        return {name: value.item() for name, value in found.items()}

    forgotten, moved = earlier.clone(), earlier.clone()
    forgotten[..., 0] = -9
    moved[..., 1:] += 3
    assert loss(earlier, nothing) == {"score": 0, "box": pytest.approx(0, abs=1e-5)}
    assert loss(forgotten, nothing)["score"] > 1
    assert loss(moved, nothing)["box"] > 1
    everywhere = torch.tensor([[0.0, 0, 64, 64]])
    ignored = compact_losses(forgotten, [Targets(nothing, everywhere)], 64, earlier=earlier)
    assert [value.item() for value in ignored.values()] == [0, 0]
    beside = compact_losses(earlier, [Targets(label, nothing)], 64)["score"].item()
    assert loss(earlier, label)["score"] < 0.5 * beside  # the label is learnt by both, the other face unlearnt by one


@pytest.mark.parametrize("faces", [0, 1, 5])
def test_crops_have_the_asked_size_and_boxes_inside(tmp_path: Path, faces: int) -> None:
    photos = [make_photo(tmp_path, faces=faces)]
    rng = np.random.default_rng(0)
    for _ in range(20):
        crop = random_crop(photos, 0, PhotoCache(), CropRecipe(size=96), rng)
        assert crop.image.shape == (96, 96, 3)
        assert crop.image.dtype == np.uint8
        assert ((crop.boxes_xyxy >= 0) & (crop.boxes_xyxy <= 96)).all()
        assert (crop.boxes_xyxy[:, 2:] > crop.boxes_xyxy[:, :2]).all()


def test_turned_and_stretched_boxes_stay_on_their_faces(tmp_path: Path) -> None:
    photos = [make_photo(tmp_path, size=96, faces=1)]
    recipe = CropRecipe(
        size=96, anchored=0, window=(1, 1), mosaic=0, turn=1, turn_degrees=45, quarter_turn=0.3, stretch=0.4
    )
    rng = np.random.default_rng(0)
    for _ in range(30):
        crop = random_crop(photos, 0, PhotoCache(), recipe, rng)
        grey = crop.image.mean(2)
        rows, columns = np.nonzero(grey > 0.8 * grey[48, 48])
        seen = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
        np.testing.assert_allclose(crop.boxes_xyxy, [seen], atol=3)


def test_a_cover_hides_a_part_of_a_face_and_nothing_else() -> None:
    face = np.array([[30, 30, 70, 70]], np.float32)
    noise = np.random.default_rng(0).integers(0, 256, (96, 96, 3), np.uint8)
    for seed in range(20):
        image = noise.copy()
        cover_faces(image, face, 1.0, np.random.default_rng(seed))
        changed = (image != noise).any(2)
        assert 0.15 < changed[30:70, 30:70].mean() <= 0.5
        changed[30:70, 30:70] = False
        assert not changed.any()
    image = noise.copy()
    cover_faces(image, face, 0.0, np.random.default_rng(0))
    cover_faces(image, face * 0.2, 1.0, np.random.default_rng(0))
    assert (image == noise).all()


def test_onnx_equals_torch(exported: Path) -> None:
    """Also at another size than export itself compares."""
    import onnxruntime

    network, _ = load_compact_checkpoint(exported.parent)
    pixels = np.random.default_rng(1).integers(0, 256, (1, 3, 64, 224)).astype(np.float32)
    session = onnxruntime.InferenceSession(exported.read_bytes())
    with torch.inference_mode():
        expected = network(torch.from_numpy(pixels)).numpy()
    np.testing.assert_allclose(session.run(None, {"images": pixels})[0], expected, atol=1e-2)


def test_an_exported_file_can_be_trained_on(exported: Path) -> None:
    original, _ = load_compact_checkpoint(exported.parent)
    again, metadata = load_compact_checkpoint(exported)
    assert metadata == {"model": "compact"}
    for name, value in original.state_dict().items():
        assert torch.equal(again.state_dict()[name], value), name


@pytest.mark.parametrize("size_wh", [(1, 1), (10, 10), (60, 60), (96, 33), (1700, 40), (40, 2000)])
def test_any_photo_size_gives_valid_faces(exported: Path, size_wh: tuple[int, int]) -> None:
    detector = load_compact(exported, threads=1, min_score=0.01)
    image = np.random.default_rng(0).integers(0, 256, (size_wh[1], size_wh[0], 3), np.uint8)
    faces = detector.detect([image])[0]
    assert faces.image_size_wh == size_wh


def test_a_batch_gives_what_single_photos_give(exported: Path) -> None:
    detector = load_compact(exported, threads=1, min_score=0.01)
    rng = np.random.default_rng(0)
    images: list[npt.NDArray[np.uint8]] = [
        rng.integers(0, 256, shape, np.uint8) for shape in ((120, 130, 3), (125, 128, 3), (64, 200, 3))
    ]
    together = detector.detect(images)
    for image, faces in zip(images, together, strict=True):
        alone = detector.detect([image])[0]
        np.testing.assert_allclose(faces.boxes_xyxy, alone.boxes_xyxy, atol=1e-2)
    assert detector.detect([]) == []


def test_looks_of_one_size_share_a_batch() -> None:
    photos = [np.zeros((200, 400, 3), np.uint8)] * 5
    batches = list(batches_of(look for i, photo in enumerate(photos) for look in passes_of(photo, photo=i, scale=None)))
    assert [[look.photo for look in batch] for batch in batches] == [[0, 1, 2, 3, 4]] * 2


@pytest.mark.parametrize(
    ("size_wh", "side", "expected_wh", "factor"),
    [
        ((1024, 768), 800, (800, 600), 0.78125),
        ((1600, 800), 800, (800, 400), 0.5),
        ((1601, 801), 800, (800, 400), 0.5),
        ((3000, 2001), 800, (800, 533), 800 / 3000),
        ((2000, 1), 800, (800, 1), 0.4),
        # What is reduced to less than 768 px is enlarged again, by a fifth at most.
        ((1024, 768), 640, (768, 576), 0.75),
        ((1024, 768), 720, (768, 576), 0.75),
        ((1280, 640), 320, (384, 192), 0.3),
        ((2000, 1), 640, (768, 1), 0.384),
    ],
)
def test_a_photo_is_reduced_to_its_long_side(
    size_wh: tuple[int, int], side: int, expected_wh: tuple[int, int], factor: float
) -> None:
    view = next(passes_of(np.zeros((size_wh[1], size_wh[0], 3), np.uint8), photo=0, scale=side))
    assert view.pixels.shape == (expected_wh[1], expected_wh[0], 3)
    assert view.scale == pytest.approx(factor, rel=2e-3)


def test_a_spot_stays_where_it_is_at_every_size() -> None:
    image = np.zeros((801, 1203, 3), np.uint8)
    image[400:440, 600:640] = 255
    for view in passes_of(image, photo=0, scale=1000):
        y, x = (float(np.mean(axis)) + 0.5 for axis in np.nonzero(view.pixels[:, :, 0] > 127))
        assert (x / view.scale, y / view.scale) == pytest.approx((620, 420), abs=0.7 / view.scale)


def test_passes_of_a_large_photo_cover_it_in_bounded_tiles() -> None:
    image = np.zeros((2500, 4000, 3), np.uint8)
    covered = np.zeros((2500, 4000), bool)
    whole, half, quarter, *tiles = list(passes_of(image, photo=0, scale=None))
    assert max(whole.pixels.shape) < TILE_PX
    assert (half.scale, quarter.scale) == (whole.scale / 2, whole.scale / 4)
    for tile in tiles:
        assert max(tile.pixels.shape) <= TILE_PX
        x, y = tile.offset_xy
        covered[int(y) : int(y) + tile.pixels.shape[0], int(x) : int(x) + tile.pixels.shape[1]] = True
    assert covered.all()


def test_scale_reduces_and_photos_that_are_small_as_they_come_are_not_enlarged_unless_tiny() -> None:
    (small,) = passes_of(np.zeros((50, 100, 3), np.uint8), photo=0, scale=640)
    (tiny,) = passes_of(np.zeros((48, 40, 3), np.uint8), photo=0, scale=640)
    large, half, quarter = passes_of(np.zeros((500, 2000, 3), np.uint8), photo=0, scale=1000)
    assert small.pixels.shape[1] == 100
    assert (tiny.pixels.shape, tiny.scale) == ((96, 80, 3), 2.0)
    assert large.pixels.shape[:2] == (250, 1000)
    assert large.scale == pytest.approx(0.5)
    assert half.pixels.shape[:2] == (125, 500)
    assert half.scale == pytest.approx(0.25)
    assert quarter.scale == pytest.approx(0.125)


def test_looks_at_an_enlarged_photo_are_thirds() -> None:
    large, third = passes_of(np.zeros((500, 2000, 3), np.uint8), photo=0, scale=640)
    assert (large.pixels.shape[:2], large.size_px) == ((192, 768), (0, 300))
    assert large.scale == pytest.approx(0.384)
    assert (third.pixels.shape[:2], third.size_px) == ((64, 256), (24, float("inf")))
    assert third.scale == pytest.approx(0.128)


@pytest.mark.parametrize("scale", [None, 1000, 640, 300])
def test_each_size_of_face_is_trusted_to_some_look(scale: int | None) -> None:
    for height, width in ((40, 60), (257, 100), (700, 1024), (1664, 1664), (3000, 9000), (1500, 16000)):
        looks = list(passes_of(np.zeros((height, width, 3), np.uint8), photo=0, scale=scale))
        for side in np.geomspace(1, 2 * width, 60):
            trusted = [look.size_px[0] <= side * look.scale <= look.size_px[1] for look in looks]
            assert any(trusted), (height, width, side)


@pytest.mark.parametrize("side", [1800, 6000, 12000, 30000])
def test_no_face_is_cut_by_every_tile_and_too_small_for_the_reduced_look(side: int) -> None:
    reduced, *_ = passes_of(np.zeros((40, side, 3), np.uint8), photo=0, scale=None)
    assert 192 * reduced.scale >= 23.99  # the tiles overlap by 192 px, and this look is believed from 24 px on


def test_a_photo_that_is_still_large_when_reduced_is_tiled_in_its_own_pixels() -> None:
    image = np.zeros((3000, 6000, 3), np.uint8)
    reduced, _, _, *tiles = passes_of(image, photo=0, scale=2000)
    assert reduced.scale == pytest.approx(1024 / 6000)
    ends = [t.offset_xy[0] + t.pixels.shape[1] / t.scale for t in tiles]
    assert max(max(t.pixels.shape) for t in tiles) <= TILE_PX
    assert max(ends) == pytest.approx(6000)


@pytest.mark.parametrize("content", [b"", b"text", bytes(200)])
def test_a_damaged_file_is_named(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "mine.onnx"
    path.write_bytes(content)
    with pytest.raises(facedet.WeightsError, match=r"mine\.onnx"):
        facedet.load_detector(path)


def test_a_foreign_network_is_refused(exported: Path, tmp_path: Path) -> None:
    import onnx

    model = onnx.load(exported)
    del model.metadata_props[:]
    onnx.save(model, tmp_path / "other.onnx")
    with pytest.raises(facedet.WeightsError, match="not a compact detector"):
        CompactDetector((tmp_path / "other.onnx").read_bytes(), where="other.onnx")
