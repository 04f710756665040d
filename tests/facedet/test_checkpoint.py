"""Checkpoints: nothing in a file is run, everything that does not fit is named, zoo files are fetched once."""

from __future__ import annotations

import hashlib
import os
import pickle
import threading
from collections import OrderedDict
from collections.abc import Iterator
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from facedet.checkpoint import Checkpoint, load_into, read_checkpoint, save_checkpoint
from facedet.errors import ConfigError, WeightsError
from facedet.model_zoo import ZOO, ZooFile, fetch_zoo_file
from facedet.models.faster_rcnn import FasterRCNN, faster_rcnn_r18_fpn
from facedet.zoo_pickle import caffe2_name


def narrow(preset: str = "face") -> FasterRCNN:
    torch.manual_seed(0)
    return faster_rcnn_r18_fpn(preset=preset)


class Payload:
    """Runs a shell command when it is unpickled by an ordinary unpickler."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (f"touch {self.marker}",)


class BuiltinPayload:
    def __reduce__(self) -> tuple[Any, ...]:
        return eval, ("1 + 1",)


def write_pickle(path: Path, content: object, protocol: int = 2) -> Path:
    path.write_bytes(pickle.dumps(content, protocol=protocol))
    return path


@pytest.mark.parametrize("wrap", [lambda p: p, lambda p: {"model": p, "__author__": "x"}, lambda p: {"a_w": p}])
def test_pickle_with_a_command_is_refused_and_not_run(tmp_path: Path, wrap: Any) -> None:
    marker = tmp_path / "ran"
    path = write_pickle(tmp_path / "zoo.pkl", wrap(Payload(marker)))
    with pytest.raises(WeightsError, match=r"refused.*system, which weights never need"):
        read_checkpoint(path)
    assert not marker.exists()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (BuiltinPayload(), "eval"),
        (partial(print, "x"), "functools"),
        ([1, 2], "expected a dictionary"),
        ({"model": [1], "__author__": "x"}, "expected arrays by name"),
        ({"model": {"a": "text"}, "__author__": "x"}, "expected arrays of numbers"),
        ({"model": {"a": np.array([None])}, "__author__": "x"}, "expected arrays of numbers"),
    ],
)
def test_pickle_of_anything_else_is_refused(tmp_path: Path, content: object, message: str) -> None:
    with pytest.raises(WeightsError, match=message):
        read_checkpoint(write_pickle(tmp_path / "zoo.pkl", content))


def test_damaged_and_missing_files(tmp_path: Path) -> None:
    (tmp_path / "short.pkl").write_bytes(pickle.dumps({"a_w": np.ones(9)})[:20])
    (tmp_path / "noise.pth").write_bytes(b"no checkpoint")
    for name in ("short.pkl", "noise.pth"):
        with pytest.raises(WeightsError, match=rf"{name}: refused"):
            read_checkpoint(tmp_path / name)
    with pytest.raises(WeightsError, match="no such weight file"):
        read_checkpoint(tmp_path / "absent.pth")


def test_pth_with_a_command_is_refused_and_not_run(tmp_path: Path) -> None:
    marker = tmp_path / "ran"
    torch.save({"model": Payload(marker)}, tmp_path / "bad.pth")
    with pytest.raises(WeightsError, match="refused"):
        read_checkpoint(tmp_path / "bad.pth")
    assert not marker.exists()


@pytest.mark.parametrize("protocol", [2, 4])
def test_zoo_pickle_in_detectron2_form(tmp_path: Path, protocol: int) -> None:
    model = narrow()
    arrays = OrderedDict((n, t.numpy()) for n, t in model.state_dict().items())
    path = write_pickle(tmp_path / "model_final.pkl", {"model": arrays, "__author__": "Detectron2"}, protocol)
    other = faster_rcnn_r18_fpn()
    report = load_into(other, read_checkpoint(path), strict=True)
    assert report.sentences() == []
    for name, tensor in other.state_dict().items():
        assert torch.equal(tensor, model.state_dict()[name]), name


def test_imagenet_pickle_with_caffe2_names_fills_the_backbone(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    blobs = {
        "conv1_w": rng.normal(size=(64, 3, 7, 7)).astype(np.float32),
        "res_conv1_bn_gamma": rng.normal(size=64).astype(np.float32),
        "res_conv1_bn_running_mean": rng.normal(size=64).astype(np.float32),
        "res3_0_branch1_w": rng.normal(size=(128, 64, 1, 1)).astype(np.float32),
        "res2_1_branch2b_bn_beta": rng.normal(size=64).astype(np.float32),
        "fc1000_w": rng.normal(size=(1000, 512)).astype(np.float32),
        "conv1_w_momentum": np.zeros(1, np.float32),
    }
    model = narrow()
    report = load_into(model, read_checkpoint(write_pickle(tmp_path / "R.pkl", {"blobs": blobs})))
    state = model.state_dict()
    for name, blob in (
        ("stem.conv1.weight", "conv1_w"),
        ("stem.conv1.norm.weight", "res_conv1_bn_gamma"),
        ("stem.conv1.norm.running_mean", "res_conv1_bn_running_mean"),
        ("res3.0.shortcut.weight", "res3_0_branch1_w"),
        ("res2.1.conv2.norm.bias", "res2_1_branch2b_bn_beta"),
    ):
        assert np.array_equal(state[f"backbone.bottom_up.{name}"].numpy(), blobs[blob]), name
    assert len(report.loaded) == 5
    assert report.unexpected == ("fc1000.weight",)


@pytest.mark.parametrize(
    ("caffe2", "expected"),
    [
        ("res4_22_branch2c_bn_s", "res4.22.conv3.norm.weight"),
        ("res2_0_branch1_bn_riv", "res2.0.shortcut.norm.running_var"),
        ("res2_0_branch2a_w", "res2.0.conv1.weight"),
        ("conv1_b", "stem.conv1.bias"),
    ],
)
def test_caffe2_name(caffe2: str, expected: str) -> None:
    assert caffe2_name(caffe2) == expected


def test_save_and_read_back(tmp_path: Path) -> None:
    model = narrow()
    save_checkpoint(tmp_path / "a.pth", model, about={"model": "faster_rcnn_r18_fpn"}, iteration=7)
    checkpoint = read_checkpoint(tmp_path / "a.pth")
    assert checkpoint.about == {"model": "faster_rcnn_r18_fpn"}
    assert checkpoint.rest == {"iteration": 7}
    assert load_into(faster_rcnn_r18_fpn(), checkpoint, strict=True).sentences() == []
    assert [p.name for p in tmp_path.iterdir()] == ["a.pth"]


def test_head_of_another_class_count_starts_anew_and_is_said() -> None:
    source, model = narrow("coco"), narrow("face")
    before = model.roi_heads.box_predictor.cls_score.weight.clone()
    report = load_into(model, Checkpoint(Path("coco.pth"), source.state_dict()))
    assert report.sentences() == ["class head initialised anew: the file has 80 classes, the model 1"]
    assert torch.equal(model.roi_heads.box_predictor.cls_score.weight, before)
    assert "proposal_generator.rpn_head.objectness_logits.weight" in report.loaded


def test_what_does_not_fit_is_listed() -> None:
    model = narrow()
    tensors = dict(model.state_dict())
    tensors["extra.weight"] = torch.zeros(1)
    tensors["proposal_generator.anchor_generator.cell_anchors.0"] = torch.zeros(3, 4)
    tensors["roi_heads.box_head.fc2.bias"] = torch.zeros(5)
    del tensors["backbone.fpn_lateral2.weight"]
    report = load_into(model, Checkpoint(Path("x.pth"), tensors))
    assert report.sentences() == [
        "initialised anew, of another shape: roi_heads.box_head.fc2.bias [5] in the file, [256] in the model",
        "1 tensors missing in the file: backbone.fpn_lateral2.weight",
        "1 unexpected tensors in the file: extra.weight",
    ]
    with pytest.raises(WeightsError, match=r"of another model: .*fc2.bias.*fpn_lateral2"):
        load_into(model, Checkpoint(Path("x.pth"), tensors), strict=True)


def test_a_checkpoint_of_something_else_is_an_error() -> None:
    with pytest.raises(WeightsError, match="not one tensor of this model in it: weight, bias"):
        load_into(narrow(), Checkpoint(Path("x.pth"), dict(nn.Linear(2, 2).state_dict())))


CONTENT = pickle.dumps({"model": {"a": np.ones(3)}, "__author__": "test"}, protocol=2)


@pytest.fixture
def zoo() -> Iterator[tuple[str, list[str]]]:
    """A local server that serves CONTENT for every path but those with "absent", and the paths asked for."""
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_response(404 if "absent" in self.path else 200)
            self.send_header("Content-Length", str(len(CONTENT) + ("short" in self.path)))
            self.end_headers()
            self.wfile.write(CONTENT)

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}", asked
    server.shutdown()
    thread.join()
    server.server_close()


def test_zoo_file_is_fetched_once_and_checked(
    tmp_path: Path, zoo: tuple[str, list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    url, asked = zoo
    md5 = hashlib.md5(CONTENT, usedforsecurity=False).hexdigest()
    monkeypatch.setitem(ZOO, ("faster_rcnn_x101_fpn", "coco"), ZooFile("x/model.pkl", md5[:6]))
    of_another_process = tmp_path / "detectron2" / "x" / "model.pkl.1.part"
    of_another_process.parent.mkdir(parents=True)
    of_another_process.write_bytes(b"half of it")
    monkeypatch.setattr(os, "getpid", lambda: 2)
    for _ in range(2):
        path = fetch_zoo_file("faster_rcnn_x101_fpn", "coco", zoo_url=url, cache=tmp_path)
    assert asked == ["/x/model.pkl"]
    assert of_another_process.read_bytes() == b"half of it"
    assert {p.name for p in path.parent.iterdir()} == {"model.pkl", "model.pkl.sha256", "model.pkl.1.part"}
    assert path.read_bytes() == CONTENT
    path.write_bytes(b"tampered")
    with pytest.raises(WeightsError, match="changed since it was fetched"):
        fetch_zoo_file("faster_rcnn_x101_fpn", "coco", zoo_url=url, cache=tmp_path)


@pytest.mark.parametrize(
    ("path", "md5", "message"),
    [
        ("x/model.pkl", "000000", "md5 [0-9a-f]+ does not start with 000000"),
        ("x/absent.pkl", "", "cannot fetch .*404.*start from none"),
        ("x/short.pkl", "", "cannot fetch|expected [0-9]+ bytes"),
    ],
)
def test_zoo_file_that_is_wrong_leaves_nothing(
    tmp_path: Path, zoo: tuple[str, list[str]], monkeypatch: pytest.MonkeyPatch, path: str, md5: str, message: str
) -> None:
    monkeypatch.setitem(ZOO, ("faster_rcnn_x101_fpn", "coco"), ZooFile(path, md5))
    with pytest.raises(WeightsError, match=message):
        fetch_zoo_file("faster_rcnn_x101_fpn", "coco", zoo_url=zoo[0], cache=tmp_path)
    assert [p for p in tmp_path.rglob("*") if p.is_file()] == []


def test_zoo_without_such_weights() -> None:
    with pytest.raises(ConfigError, match="'coco' for faster_rcnn_r18_fpn: Detectron2's model zoo has none"):
        fetch_zoo_file("faster_rcnn_r18_fpn", "coco")


def test_zoo_files_of_detection_models_name_their_md5() -> None:
    detection_models = [file for (_, kind), file in ZOO.items() if kind == "coco"]
    assert len(detection_models) == 2
    for file in detection_models:
        assert len(file.md5_prefix) == 6
        assert file.path.endswith(f"_{file.md5_prefix}.pkl")
