"""The parts of Faster R-CNN beside plain versions of themselves, and the detector over a checkpoint."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from facedet.checkpoint import read_checkpoint, save_checkpoint
from facedet.detectors import load_detector
from facedet.detectors.faster_rcnn import FasterRCNNDetector, find_faces, inferred_about, network_size_wh
from facedet.errors import ConfigError, WeightsError
from facedet.models import MODELS
from facedet.models.anchors import Anchors, decode_boxes, encode_boxes
from facedet.models.compact import compact
from facedet.models.faster_rcnn import (
    PRESETS,
    FasterRCNN,
    Preset,
    faster_rcnn_compact_fpn,
    faster_rcnn_r18_fpn,
    faster_rcnn_x101_fpn,
)
from facedet.models.inference import prepare_for_inference
from facedet.models.matching import BACKGROUND, IGNORE, match, sample
from facedet.models.resnet import ConvNorm
from facedet.models.roi_heads import Detections, pool_regions
from facedet.models.winograd import WinogradConv

WEIGHTS = (10.0, 10.0, 5.0, 5.0)


def lively_model(min_score: float = 0.05) -> FasterRCNN:
    """The narrow model with random batch statistics and a head that is sure of some regions."""
    torch.manual_seed(3)
    model = faster_rcnn_r18_fpn(min_score=min_score)
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.uniform_(-0.2, 0.2)
            module.running_var.uniform_(0.5, 1.5)
    torch.nn.init.normal_(model.roi_heads.box_predictor.cls_score.weight, std=0.3)
    return model.eval()


def photo(height: int = 120, width: int = 170, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


def test_stages_of_compact_give_what_compact_gives() -> None:
    torch.manual_seed(0)
    network, model = compact().eval(), faster_rcnn_compact_fpn().eval()
    model.backbone.bottom_up.load_state_dict(network.state_dict(), strict=False)
    pixels = torch.randint(0, 256, (3, 64, 96)).float()
    with torch.no_grad():
        expected = network.stage16(network.stage8(network.stem((pixels[None] - 128) / 64)))
        found = model.backbone.bottom_up(model.normalised_batch([pixels]))
    assert torch.equal(found["res4"], expected)
    assert [f.shape[1] for f in found.values()] == list(model.backbone.bottom_up.channels)
    assert [96 // f.shape[3] for f in found.values()] == [4, 8, 16, 32]


def test_a_checkpoint_on_shallower_stages_of_compact_loads(tmp_path: Path) -> None:
    model = faster_rcnn_compact_fpn(depths=(1, 2, 2))
    save_checkpoint(tmp_path / "earlier.pth", model, about={"model": "faster_rcnn_compact_fpn"})
    detector = load_detector(tmp_path / "earlier.pth", min_score=0)
    assert len(detector.detect([photo()])[0])


@pytest.mark.parametrize(("freeze_at", "first_learning"), [(0, "stem"), (1, "stage8"), (2, "stage8"), (4, "stage32")])
def test_frozen_stages_of_compact(freeze_at: int, first_learning: str) -> None:
    stages = faster_rcnn_compact_fpn(freeze_at=freeze_at).backbone.bottom_up.train()
    assert next(n for n, p in stages.named_parameters() if p.requires_grad).startswith(first_learning)
    before = {name: value.clone() for name, value in stages.state_dict().items()}
    stages(torch.rand(2, 3, 64, 64))
    moved = {n.split(".")[0] for n, v in stages.state_dict().items() if not torch.equal(v, before[n])}
    order = ["stem", "stage8", "stage16", "stage32"]
    assert moved == set(order[order.index(first_learning) :])


def test_anchors_are_centred_on_multiples_of_the_stride() -> None:
    anchors = Anchors(sizes_px=[16, 32], ratios=[1.0, 4.0], strides=[4, 8])
    small, large = anchors([torch.zeros(1, 1, 2, 3), torch.zeros(1, 1, 1, 1)])
    assert small.shape == (2 * 3 * 2, 4)
    assert small[0].tolist() == [-8, -8, 8, 8]
    assert small[1].tolist() == [-4, -16, 4, 16]
    assert small[2].tolist() == [-4, -8, 12, 8]
    assert small[6].tolist() == [-8, -4, 8, 12]
    assert large.tolist() == [[-16, -16, 16, 16], [-8, -32, 8, 32]]


def test_encoded_boxes_decode_to_themselves() -> None:
    rng = np.random.default_rng(0)
    corner, size = rng.uniform(0, 90, (2, 50, 2)), rng.uniform(3, 60, (2, 50, 2))
    boxes, truth = (torch.from_numpy(np.concatenate([c, c + s], 1)).float() for c, s in zip(corner, size, strict=True))
    assert torch.allclose(decode_boxes(encode_boxes(truth, boxes, WEIGHTS), boxes, WEIGHTS), truth, atol=1e-3)


def test_decoding_bounds_growth() -> None:
    box = decode_boxes(torch.tensor([[0.0, 0.0, 1e6, 0.0]]), torch.tensor([[0.0, 0.0, 16.0, 16.0]]), (1, 1, 1, 1))
    assert box.tolist() == [pytest.approx([-492, 0, 508, 16], abs=1e-3)]


@pytest.mark.parametrize(
    ("truth", "ignored", "best", "expected"),
    [
        ([], [], False, [BACKGROUND] * 4),
        ([[0, 0, 10, 10]], [], False, [0, IGNORE, BACKGROUND, BACKGROUND]),
        ([[0, 0, 10, 10], [22, 20, 40, 30]], [], False, [0, IGNORE, IGNORE, BACKGROUND]),
        ([[0, 0, 10, 10], [22, 20, 40, 30]], [], True, [0, IGNORE, 1, BACKGROUND]),
        ([[0, 0, 10, 10]], [[55, 50, 90, 90]], False, [0, IGNORE, BACKGROUND, IGNORE]),
    ],
)
def test_match(truth: list[list[float]], ignored: list[list[float]], best: bool, expected: list[int]) -> None:
    boxes = torch.tensor([[0, 0, 10, 11], [0, 0, 10, 20], [20, 20, 30, 30], [50, 50, 60, 60.0]])
    matches = match(
        boxes,
        torch.tensor(truth, dtype=torch.float32).reshape(-1, 4),
        torch.tensor(ignored, dtype=torch.float32).reshape(-1, 4),
        low=0.3,
        high=0.7,
        keep_best_of_each_truth=best,
    )
    assert matches.tolist() == expected


@pytest.mark.parametrize(
    ("positives", "negatives", "expected"), [(0, 0, (0, 0)), (9, 90, (5, 15)), (2, 90, (2, 18)), (9, 3, (5, 3))]
)
def test_sample_keeps_the_share(positives: int, negatives: int, expected: tuple[int, int]) -> None:
    matches = torch.tensor([4] * positives + [BACKGROUND] * negatives + [IGNORE] * 7, dtype=torch.int64)
    chosen, rest = sample(matches, count=20, positive_share=0.25)
    assert (len(chosen), len(rest)) == expected
    assert (matches[chosen] == 4).all()
    assert (matches[rest] == BACKGROUND).all()
    assert len(set(chosen.tolist()) | set(rest.tolist())) == sum(expected)


@pytest.mark.parametrize(("side", "level"), [(8, 0), (111, 0), (113, 1), (225, 2), (449, 3), (900, 3)])
def test_regions_are_read_from_the_level_of_their_size(side: int, level: int) -> None:
    pyramid = [torch.full((1, 1, 256 >> i, 256 >> i), float(i)) for i in range(5)]
    box = torch.tensor([[10.0, 10.0, 10.0 + side, 10.0 + side]])
    assert torch.allclose(pool_regions(pyramid, [box]), torch.full((1, 1, 7, 7), float(level)))
    assert pool_regions(pyramid, [box[:0]]).shape == (0, 1, 7, 7)


def test_regions_of_bfloat16_features_are_read_from_where_their_boxes_are() -> None:
    across = torch.arange(200, dtype=torch.float32).expand(1, 1, 8, 200)
    pyramid = [across, *[torch.zeros(1, 1, 8, 200)] * 3]
    box = torch.tensor([[701.0, 4.0, 729.0, 28.0]])
    with torch.autocast("cpu", torch.bfloat16):
        pooled = pool_regions([level.bfloat16() for level in pyramid], [box])
    assert torch.allclose(pooled, pool_regions(pyramid, [box]), atol=0.05)
    assert pooled.mean().item() == pytest.approx((701 + 729) / 2 / 4 - 0.5, abs=0.05)


def test_training_gives_four_losses_and_gradients_where_they_belong() -> None:
    torch.manual_seed(0)
    model = faster_rcnn_r18_fpn(freeze_at=2).train()
    images = [torch.from_numpy(photo().transpose(2, 0, 1).copy()), torch.zeros(3, 64, 90)]
    targets = [{"boxes": torch.tensor([[20.0, 20, 60, 80]])}, {"boxes": torch.zeros(0, 4)}]
    losses = model(images, targets)
    assert set(losses) == {"loss_rpn_cls", "loss_rpn_loc", "loss_cls", "loss_box_reg"}
    sum(losses.values()).backward()
    without = {n.split(".")[2] for n, p in model.named_parameters() if p.grad is None and "bottom_up" in n}
    assert without == {"stem", "res2"}
    assert all(p.grad is not None for n, p in model.named_parameters() if "bottom_up" not in n)


def test_training_without_targets_is_an_error() -> None:
    with pytest.raises(ValueError, match="one target per image"):
        faster_rcnn_r18_fpn().train()([torch.zeros(3, 64, 64)])


def test_ignored_faces_change_no_positive_but_spare_background() -> None:
    boxes = torch.tensor([[20.0, 20, 60, 80]])
    target = {"boxes": boxes, "ignore": torch.tensor([True])}
    torch.manual_seed(0)
    model = faster_rcnn_r18_fpn().train()
    losses = model([torch.zeros(3, 96, 96)], [target])
    assert float(losses["loss_rpn_loc"].detach()) == 0
    assert float(losses["loss_box_reg"].detach()) == 0


def test_folding_changes_no_output_and_leaves_no_norm() -> None:
    model = lively_model()
    images = [torch.from_numpy(photo().transpose(2, 0, 1).copy())]
    with torch.inference_mode():
        before = model.detect(images)[0]
        after = prepare_for_inference(model).detect(images)[0]
    assert len(before.boxes) > 20
    assert len(before.boxes) == len(after.boxes)
    distance = (before.boxes[:, None] - after.boxes[None]).abs().amax(dim=2)
    distance[(before.scores[:, None] - after.scores[None]).abs() > 1e-4] = torch.inf  # equal scores may swap places
    assert distance.amin(dim=1).max() < 0.01
    assert all(m.norm is None for m in model.modules() if isinstance(m, ConvNorm))


def test_a_batch_finds_what_its_photos_find_alone() -> None:
    model = prepare_for_inference(lively_model())
    photos = [photo(96, 128, 1), photo(128, 96, 2)]  # padding differs: rows and columns of zeros
    with torch.inference_mode():
        together = find_faces(model, photos, lambda w, h: (w, h))
        alone = [find_faces(model, [p], lambda w, h: (w, h))[0] for p in photos]
    for one, other in zip(together, alone, strict=True):
        assert one.image_size_wh == other.image_size_wh
        assert abs(len(one) - len(other)) <= 0.2 * len(other)


@pytest.mark.parametrize(
    ("size_wh", "expected"), [((1000, 750), (1067, 800)), ((3000, 1000), (1333, 444)), ((100, 100), (800, 800))]
)
def test_network_size(size_wh: tuple[int, int], expected: tuple[int, int]) -> None:
    assert network_size_wh(*size_wh, short_px=800, long_px=1333) == expected


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"preset": "faces"}, "preset: expected one of face, face8, coco, got 'faces'"),
        ({"min_score": 2.0, "nms_iou": -1.0}, r"min_score.*2.0; nms_iou.*-1.0"),
        ({"freeze_at": 6}, "freeze_at: expected 0"),
        ({"norm": "batch"}, "norm: expected one of"),
    ],
)
def test_builders_refuse_what_cannot_work(settings: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        MODELS["faster_rcnn_r18_fpn"](**settings)


def test_builders_refuse_misspelt_settings() -> None:
    with pytest.raises(TypeError, match="box_score_thresh"):
        MODELS["faster_rcnn_r18_fpn"](box_score_thresh=0.5)


def test_face_preset_suits_crowds() -> None:
    with torch.device("meta"):
        model = faster_rcnn_x101_fpn(preset="face8")
    assert model.roi_heads.max_detections == 1000
    assert model.roi_heads.box_predictor.cls_score.weight.shape[0] == 2


ABOUT = {
    "model": "faster_rcnn_r18_fpn",
    "preset": "face",
    "norm": "bn",
    "test_scale": {"short_px": 128, "long_px": 256},
}


def test_detector_of_a_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("facedet.detectors.faster_rcnn.native_bfloat16", lambda device: False)  # as what is expected
    save_checkpoint(tmp_path / "m.pth", lively_model(), about=ABOUT)
    detector = load_detector(tmp_path / "m.pth", threads=1, min_score=0.3)
    assert detector.name == "faster_rcnn_r18_fpn"
    found = detector.detect([photo(), photo(60, 60)])
    assert [f.image_size_wh for f in found] == [(170, 120), (60, 60)]
    assert len(found[0]) > 0
    assert found[0].scores.min() >= 0.3
    assert detector.detect([]) == []
    with torch.inference_mode():
        expected = find_faces(lively_model(0.3), [photo()], lambda w, h: (181, 128))[0]
    np.testing.assert_allclose(found[0].boxes_xyxy, expected.boxes_xyxy, atol=0.05)


def test_of_several_classes_the_first_is_faces() -> None:
    class Finder:
        def detect(self, images: list[torch.Tensor]) -> list[Detections]:
            boxes = torch.tensor([[0.0, 0, 20, 20], [30, 30, 60, 60], [5, 5, 15, 15]])
            return [Detections(boxes, torch.tensor([0.9, 0.8, 0.7]), torch.tensor([0, 3, 0]))]

    found = find_faces(Finder(), [photo(60, 60)], lambda w, h: (w, h))[0]  # type: ignore[arg-type]
    assert found.scores.tolist() == pytest.approx([0.9, 0.7])


def test_detector_options(tmp_path: Path) -> None:
    save_checkpoint(tmp_path / "m.pth", lively_model(), about=ABOUT)
    everything = FasterRCNNDetector(tmp_path / "m.pth", min_score=0.05).detect([photo()])[0]
    large = FasterRCNNDetector(tmp_path / "m.pth", min_score=0.05, min_face_px=40).detect([photo()])[0]
    sides = (everything.boxes_xyxy[:, 2:] - everything.boxes_xyxy[:, :2]).min(axis=1)
    assert 0 < len(large) == (sides >= 40).sum() < len(everything)
    small = FasterRCNNDetector(tmp_path / "m.pth", min_score=0.05, scale=64).detect([photo()])[0]
    assert small.image_size_wh == (170, 120)


def test_checkpoints_that_are_no_face_detector(tmp_path: Path) -> None:
    save_checkpoint(tmp_path / "other.pth", lively_model(), about={"model": "yolo"})
    with pytest.raises(WeightsError, match="holds model 'yolo'; expected one of faster_rcnn_x101_fpn"):
        load_detector(tmp_path / "other.pth")
    save_checkpoint(tmp_path / "later.pth", lively_model(), about={"model": "faster_rcnn_r18_fpn", "preset": "face4"})
    with pytest.raises(WeightsError, match=r"later.pth: preset: expected one of face, face8, coco, got 'face4'"):
        load_detector(tmp_path / "later.pth")
    save_checkpoint(tmp_path / "coco.pth", faster_rcnn_r18_fpn(preset="coco"), about={})
    with pytest.raises(WeightsError, match="tells 80 classes apart"):
        load_detector(tmp_path / "coco.pth")
    torch.save({"model": {"weight": torch.zeros(1)}}, tmp_path / "tiny.pth")
    with pytest.raises(WeightsError, match="not a Faster R-CNN"):
        load_detector(tmp_path / "tiny.pth")


def test_model_of_an_unlabelled_checkpoint_is_told_by_its_tensors(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    save_checkpoint(tmp_path / "m.pth", lively_model(), about={})
    assert inferred_about(read_checkpoint(tmp_path / "m.pth")) == {"model": "faster_rcnn_r18_fpn", "preset": "face"}
    assert "m.pth: names no preset and holds no anchors: the anchors of preset face are assumed" in caplog.text


def test_an_unlabelled_checkpoint_with_norms_of_groups_is_a_detector(tmp_path: Path) -> None:
    save_checkpoint(tmp_path / "m.pth", faster_rcnn_r18_fpn(norm="gn"), about={})
    assert load_detector(tmp_path / "m.pth").name == "faster_rcnn_r18_fpn"


@pytest.mark.parametrize("preset", ["face", "face8"])
def test_preset_of_an_unlabelled_checkpoint_is_told_by_its_anchors(
    tmp_path: Path, preset: str, caplog: pytest.LogCaptureFixture
) -> None:
    held = read_checkpoint(saved_with_anchors(tmp_path / "m.pth", PRESETS[preset]))
    assert inferred_about(held)["preset"] == preset
    assert not caplog.text


def test_anchors_of_no_preset_are_refused(tmp_path: Path) -> None:
    held = read_checkpoint(saved_with_anchors(tmp_path / "m.pth", PRESETS["coco"]))
    with pytest.raises(WeightsError, match=r"its anchors, of \[32.0, 64.0, 128.0, 256.0, 512.0\] px, are not those of"):
        inferred_about(held)


def saved_with_anchors(path: Path, preset: Preset) -> Path:
    tensors = dict(lively_model().state_dict())
    for level, size in enumerate(preset.anchor_sizes_px):
        sides = [(size / ratio**0.5, size * ratio**0.5) for ratio in preset.anchor_ratios]
        corners = torch.tensor([[-w / 2, -h / 2, w / 2, h / 2] for w, h in sides])
        tensors[f"proposal_generator.anchor_generator.cell_anchors.{level}"] = corners
    torch.save({"model": tensors}, path)
    return path


@pytest.mark.parametrize("size_hw", [(1, 1), (4, 4), (5, 7), (33, 20)])
def test_winograd_equals_the_plain_convolution(size_hw: tuple[int, int]) -> None:
    torch.manual_seed(0)
    conv = torch.nn.Conv2d(16, 24, 3, padding=1)
    images = torch.randn(2, 16, *size_hw)
    with torch.inference_mode():
        assert torch.allclose(WinogradConv(conv)(images), conv(images), atol=2e-5)


def test_winograd_refuses_other_convolutions() -> None:
    with pytest.raises(ValueError, match="3x3 convolution of stride 1"):
        WinogradConv(torch.nn.Conv2d(8, 8, 3, stride=2, padding=1))


@pytest.mark.parametrize("norm", ["bn", "gn"])
def test_layout_for_float32_on_a_cpu_changes_no_output(norm: str) -> None:
    images = [torch.from_numpy(photo().transpose(2, 0, 1).copy())]
    torch.manual_seed(3)
    model = faster_rcnn_r18_fpn(norm=norm).eval()
    with torch.inference_mode():
        before = model.backbone(model.normalised_batch(images))
        fast = prepare_for_inference(model, float32_cpu=True)
        after = fast.backbone(fast.normalised_batch(images))
        assert len(fast.detect(images)) == 1
    for one, other in zip(before, after, strict=True):
        assert torch.allclose(one, other, atol=1e-4 * float(one.abs().max()))
