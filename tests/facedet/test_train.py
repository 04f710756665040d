"""Training of the compact detector: what learns, what is kept, what resumes, and what is refused."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

import facedet
from facedet.boxes import iou_matrix
from facedet.compact_config import CompactConfig, fine_tuning
from facedet.data.augment import AUGMENTATIONS, CropRecipe
from facedet.data.coco import Photo
from facedet.data.images import read_photo
from facedet.detectors.faster_rcnn import native_bfloat16
from facedet.export import load_compact_checkpoint
from facedet.models.compact import compact, revived
from facedet.muon import orthogonal
from facedet.run import read_log
from facedet.train import train_compact
from tests.facedet.test_compact import make_photo

FEW_PHOTOS = CompactConfig(batch_size=8, warmup_steps=5, ema_decay=0.8, crop=CropRecipe(size=96, mosaic=0))
needs_bfloat16 = pytest.mark.skipif(
    not native_bfloat16(torch.device("cpu")), reason="emulated bfloat16 takes minutes to learn whole photos"
)


def four_photos(folder: Path) -> list[Photo]:
    return [make_photo(folder, f"{i}.png", faces=i % 3 + 1) for i in range(4)]


@pytest.mark.parametrize("optimiser", ["adamw", "muon"])
def test_training_resumes_exactly(optimiser: str, tmp_path: Path) -> None:
    photos = [make_photo(tmp_path, f"{i}.png", faces=i % 3 + 1) for i in range(4)]
    crop = CropRecipe(size=96, **AUGMENTATIONS["strong"])
    config = CompactConfig(epochs=4, batch_size=2, warmup_steps=2, ema_decay=0.5, optimiser=optimiser, crop=crop)
    train_compact(config, photos, tmp_path / "whole")

    class Killed(Exception):
        pass

    def kill_in_third_epoch(line: dict[str, float]) -> None:
        if line["epoch"] == 2:
            raise Killed

    with pytest.raises(Killed):
        train_compact(config, photos, tmp_path / "killed", report=kill_in_third_epoch)
    train_compact(config, photos, tmp_path / "killed", resume=True)
    logs = [read_log(tmp_path / name / "log.jsonl") for name in ("whole", "killed")]
    assert [line["loss_box"] for line in logs[0]] == [line["loss_box"] for line in logs[1]]
    one, _ = load_compact_checkpoint(tmp_path / "whole")
    two, _ = load_compact_checkpoint(tmp_path / "killed")
    for a, b in zip(one.state_dict().values(), two.state_dict().values(), strict=True):
        assert torch.equal(a, b)


def some_score(network: torch.nn.Module) -> dict[str, float]:
    return {"AP50": sum(float(p.detach().abs().sum()) for p in network.parameters()) % 1}


@pytest.mark.parametrize("stopped_in", [1, 3])
def test_an_epoch_that_could_not_be_measured_is_not_lost(stopped_in: int, tmp_path: Path) -> None:
    photos = [make_photo(tmp_path, f"{i}.png", faces=i % 3 + 1) for i in range(3)]
    config = CompactConfig(epochs=3, batch_size=2, warmup_steps=2, ema_decay=0.5, crop=CropRecipe(size=64))
    train_compact(config, photos, tmp_path / "whole", validate=some_score)
    epochs: list[int] = []

    def fail(network: torch.nn.Module) -> dict[str, float]:
        epochs.append(len(epochs) + 1)
        if epochs[-1] == stopped_in:
            raise facedet.DataError("a photo that cannot be read")
        return some_score(network)

    with pytest.raises(facedet.DataError, match="a photo that cannot be read"):
        train_compact(config, photos, tmp_path / "run", validate=fail)
    steps: list[int] = []
    train_compact(
        config, photos, tmp_path / "run", validate=some_score, resume=True, progress=lambda step, _: steps.append(step)
    )
    assert len(steps) == 3 - stopped_in
    whole, run = ([{**line, "seconds": 0} for line in read_log(tmp_path / n / "log.jsonl")] for n in ("whole", "run"))
    assert whole == run
    (one, about), (two, about_two) = (load_compact_checkpoint(tmp_path / name) for name in ("whole", "run"))
    assert about["metrics"]["epoch"] == about_two["metrics"]["epoch"]
    assert all(torch.equal(a, b) for a, b in zip(one.state_dict().values(), two.state_dict().values(), strict=True))


def test_a_run_of_an_earlier_version_resumes(tmp_path: Path) -> None:
    photos, config = [make_photo(tmp_path)], CompactConfig(epochs=2, batch_size=1, crop=CropRecipe(size=64))
    last, settings = tmp_path / "run" / "last.pt", tmp_path / "run" / "config.json"

    def stop(line: dict[str, float]) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train_compact(config, photos, tmp_path / "run", report=stop)
    saved = torch.load(last, weights_only=True)
    torch.save({**saved, "state": {"epoch": saved["state"]["epoch"], "best": saved["state"]["best"]}}, last)
    kept = {name: value for name, value in json.loads(settings.read_text()).items() if name != "val"}
    settings.write_text(json.dumps(kept))
    train_compact(config, photos, tmp_path / "run", val=photos, resume=True)
    assert [line["epoch"] for line in read_log(tmp_path / "run" / "log.jsonl")] == [1, 2]


@pytest.mark.parametrize(
    ("optimiser", "lr", "precision", "epochs"),
    [
        ("adamw", 4e-3, "float32", 30),
        ("muon", 1.5e-2, "float32", 30),
        pytest.param("adamw", 3e-3, "bfloat16", 45, marks=needs_bfloat16),
    ],
)
def test_training_from_nothing_learns_four_photos(
    optimiser: str, lr: float, precision: str, epochs: int, tmp_path: Path
) -> None:
    photos = four_photos(tmp_path)
    config = replace(FEW_PHOTOS, epochs=epochs, lr=lr, optimiser=optimiser, precision=precision)
    train_compact(config, photos * 4, tmp_path / "run")
    network, _ = load_compact_checkpoint(tmp_path / "run")
    for photo in photos:
        pixels = read_photo(photo.path).transpose(2, 0, 1)[None].astype(np.float32)
        with torch.no_grad():
            found = network.eval()(torch.from_numpy(pixels))[0].numpy()
        best = found[np.argsort(-found[:, 0])[:20], 1:]
        overlaps = iou_matrix(best, photo.boxes_xyxy)
        assert overlaps[0].max() > 0.5
        assert (overlaps.max(0) > 0.5).all()


def test_bfloat16_goes_the_way_of_float32(tmp_path: Path) -> None:
    losses = {}
    for precision in ("float32", "bfloat16"):
        config = replace(FEW_PHOTOS, epochs=12, lr=4e-3, precision=precision)
        train_compact(config, four_photos(tmp_path) * 4, tmp_path / precision)
        log = read_log(tmp_path / precision / "log.jsonl")
        losses[precision] = np.array([line["loss_score"] + line["loss_box"] for line in log])
    assert losses["bfloat16"][:4] == pytest.approx(losses["float32"][:4], rel=0.02)
    assert losses["bfloat16"][-3:].mean() < 0.95 * losses["bfloat16"][:3].mean()


@pytest.mark.parametrize("shape", [(32, 90), (90, 32), (1, 20)])
def test_muons_steps_weigh_every_direction_alike(shape: tuple[int, int]) -> None:
    matrix = torch.randn(shape, generator=torch.Generator().manual_seed(0)) * torch.logspace(-2, 0, shape[1])
    left, _, right = torch.linalg.svd(matrix, full_matrices=False)
    found = orthogonal(matrix)
    assert found.shape == shape
    assert 0.6 < torch.linalg.svdvals(found).min() <= torch.linalg.svdvals(found).max() < 1.3
    agreement = (left.T @ found @ right.T).diagonal()
    assert (agreement > 0.6).all()


def test_a_lost_channel_lets_something_through_again() -> None:
    torch.manual_seed(0)
    network = compact().eval()
    norm = network.get_submodule("stage16.1.residual.1.1")
    with torch.no_grad():
        norm.weight[:3] = torch.tensor([0.01, -0.01, 1.0])
        norm.bias[:3] = torch.tensor([-0.05, -0.05, -0.05])
    before = network.state_dict()
    after = revived(before)
    changed = {name: (before[name] != after[name]).nonzero()[:, 0].tolist() for name in before if before[name].ndim}
    names = ("stage16.1.residual.1.1.weight", "stage16.1.residual.1.1.bias")
    assert {name: where for name, where in changed.items() if where} == {name: [0, 1] for name in names}
    pixels = torch.rand(1, 3, 64, 64) * 255
    stage = network.get_submodule("stage16.1")
    with torch.inference_mode():
        seen = network.get_submodule("stage16.0")(network.stage8(network.stem((pixels - 128) / 64)))
        assert (stage(seen) - seen)[:, :2].abs().max() == 0
        network.load_state_dict(after)
        assert 0 < (stage(seen) - seen)[:, :2].abs().max() < 1


def test_what_is_compiled_takes_the_steps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Compiling takes a minute and a compiler; here it is told by what it was asked for."""
    compiled: list[torch.nn.Module] = []

    def stand_in(network: torch.nn.Module) -> torch.nn.Module:
        compiled.append(network)
        return torch.nn.Sequential(network)

    monkeypatch.setattr(torch, "compile", stand_in)
    monkeypatch.setattr("shutil.which", lambda name: None)
    photos = [make_photo(tmp_path)]
    with pytest.raises(facedet.ConfigError, match=r"compiled: no C\+\+ compiler here"):
        train_compact(CompactConfig(compiled=True), photos, tmp_path / "none")
    monkeypatch.setattr("shutil.which", lambda name: name)
    for asked in (False, True):
        config = CompactConfig(epochs=2, batch_size=1, compiled=asked, crop=CropRecipe(size=64))
        train_compact(config, photos, tmp_path / str(asked))
    assert len(compiled) == 1
    one, two = (load_compact_checkpoint(tmp_path / name)[0].state_dict() for name in ("False", "True"))
    assert all(torch.equal(one[name], two[name]) for name in one)


def test_what_is_kept_lies_between_the_start_and_what_was_learnt(tmp_path: Path) -> None:
    photos = [make_photo(tmp_path)]
    start = compact().state_dict()
    kept = {}
    for share in (0.0, 0.25):
        config = CompactConfig(epochs=2, batch_size=1, ema_decay=0.5, start_share=share, crop=CropRecipe(size=64))
        train_compact(config, photos, tmp_path / str(share), initial=start)
        kept[share] = load_compact_checkpoint(tmp_path / str(share))[0].state_dict()
    for name, value in start.items():
        if value.is_floating_point():
            torch.testing.assert_close(kept[0.25][name], 0.75 * kept[0.0][name] + 0.25 * value)
    assert not torch.equal(kept[0.0]["heads.0.out.bias"], start["heads.0.out.bias"])


def test_all_faults_of_a_configuration_are_reported_at_once(tmp_path: Path) -> None:
    config = CompactConfig(
        epochs=0,
        lr=-1,
        freeze="all",
        start_share=1,
        remember=True,
        fit_boxes=True,
        optimiser="sgd",
        precision="float16",
        crop=CropRecipe(size=50, face_px=(9, 5), mosaic=2, turn=-1),
    )
    with pytest.raises(facedet.ConfigError) as caught:
        train_compact(config, [], tmp_path / "run")
    faults = [fault.split(":")[0] for fault in caught.value.faults]
    assert faults == [
        "epochs 0", "lr -1", "freeze 'all'", "start_share 1", "optimiser 'sgd'", "precision 'float16'",
        "crop size 50", "face_px 9 to 5", "mosaic 2", "turn -1", "no photos to train on", "freeze", "start_share",
        "remember", "fit_boxes",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("eval_every", "scores", "best_epoch"), [(2, [0.5, 0.4], 2), (2, [0.0, 0.0], 4), (3, [0.1, 0.3], 4), (0, [], 4)]
)
def test_the_best_checkpoint_is_the_best_measured_one_or_the_last(
    tmp_path: Path, eval_every: int, scores: list[float], best_epoch: int
) -> None:
    config = CompactConfig(epochs=4, batch_size=1, eval_every=eval_every, crop=CropRecipe(size=64, mosaic=0))
    rest = iter(scores)
    photos = [make_photo(tmp_path)]
    best = train_compact(config, photos, tmp_path / "run", validate=lambda network: {"AP50": next(rest)})
    assert load_compact_checkpoint(best)[1]["metrics"]["epoch"] == best_epoch
    assert next(rest, None) is None
    lines = read_log(tmp_path / "run" / "log.jsonl")
    assert [line["AP50"] for line in lines if "AP50" in line] == scores


@pytest.mark.parametrize(("photos", "batch_size", "epochs"), [(258, 16, 12), (50, 16, 50), (3, 16, 150), (50, 4, 13)])
def test_fine_tuning_takes_enough_steps_of_small_sets(photos: int, batch_size: int, epochs: int) -> None:
    config = fine_tuning(photos, batch_size=batch_size)
    assert (config.epochs, config.batch_size) == (epochs, batch_size)
    assert config.faults() == []


def test_a_run_resumes_only_with_its_own_photos_and_start_weights(tmp_path: Path) -> None:
    config, photos = CompactConfig(epochs=1, batch_size=1, crop=CropRecipe(size=64)), [make_photo(tmp_path)]
    first = {name: value.clone() for name, value in compact().state_dict().items()}
    other = {name: value + 1 if value.is_floating_point() else value for name, value in first.items()}
    train_compact(config, photos, tmp_path / "run", initial=first)
    with pytest.raises(facedet.ConfigError, match=r"weights 'sha256 .*': the run in .*run has 'sha256 .*, and resumes"):
        train_compact(config, photos, tmp_path / "run", initial=other, resume=True)
    with pytest.raises(facedet.ConfigError, match=r"data '2 photos, .*': the run in .*run has '1 photos, "):
        train_compact(config, photos * 2, tmp_path / "run", initial=first, resume=True)


@pytest.mark.parametrize("content", [b"no checkpoint", None])
def test_a_damaged_last_checkpoint_is_told(content: bytes | None, tmp_path: Path) -> None:
    config, photos = CompactConfig(epochs=2, batch_size=1, crop=CropRecipe(size=64)), [make_photo(tmp_path)]
    train_compact(config, photos, tmp_path / "run")
    last = tmp_path / "run/last.pt"
    if content is None:
        torch.save({"model": {}}, last)
    else:
        last.write_bytes(content)
    with pytest.raises(facedet.WeightsError, match=r"last\.pt: (damaged|not the last checkpoint)"):
        train_compact(config, photos, tmp_path / "run", resume=True)


def test_a_run_resumes_only_with_its_own_settings(tmp_path: Path) -> None:
    config = CompactConfig(epochs=1, batch_size=1, crop=CropRecipe(size=64))
    train_compact(config, [make_photo(tmp_path)], tmp_path / "run")
    with pytest.raises(facedet.ConfigError, match=r"lr 0\.1: the run in .* has 0\.002"):
        train_compact(replace(config, lr=0.1), [make_photo(tmp_path)], tmp_path / "run", resume=True)


def test_a_foreign_checkpoint_is_refused(tmp_path: Path) -> None:
    (tmp_path / "best.pt").write_bytes(b"not a checkpoint")
    with pytest.raises(facedet.WeightsError, match=r"best\.pt: expected weights"):
        load_compact_checkpoint(tmp_path)
