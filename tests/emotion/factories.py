"""Small FER-2013 look-alikes, made on the spot: a face of class k is a bright square whose place depends on k."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import onnx

from emotion import EMOTIONS
from emotion.card import ModelCard
from emotion.data import FerSplit

FERPLUS = ("anger", "disgust", "fear", "happiness", "sadness", "surprise", "neutral")
"""FER+'s names of `EMOTIONS`."""
USAGES = {"train": "Training", "public": "PublicTest", "private": "PrivateTest"}


def make_face(label: int, rng: np.random.Generator) -> npt.NDArray[np.uint8]:
    """uint8 [48, 48]: noise, and a bright square at one of nine places."""
    face = rng.integers(40, 110, (48, 48)).astype(np.uint8)
    top, left = 4 + 14 * (label // 3), 4 + 14 * (label % 3)
    face[top : top + 12, left : left + 12] = rng.integers(210, 250)
    return face


def make_split(per_class: int = 2, seed: int = 0) -> FerSplit:
    """`per_class` faces of each of the seven emotions."""
    rng = np.random.default_rng(seed)
    labels = np.repeat(np.arange(len(EMOTIONS)), per_class)
    images = np.stack([make_face(int(label), rng) for label in labels])
    names = tuple(f"x/{EMOTIONS[label]}/face_{i}.png" for i, label in enumerate(labels))
    return FerSplit(images, labels.astype(np.int64), names)


def png_bytes(face: npt.NDArray[np.uint8]) -> bytes:
    return cv2.imencode(".png", face)[1].tobytes()


def members(split: FerSplit, usage: str) -> dict[str, bytes]:
    """Kaggle's layout: path -> content. PNG content under the .jpg names, to keep the pixels."""
    top = "train" if usage == "Training" else "test"
    return {
        f"{top}/{EMOTIONS[label]}/{usage}_{i:05d}.jpg": png_bytes(image)
        for i, (image, label) in enumerate(zip(split.images, split.labels, strict=True))
    }


def write_zip(path: Path, splits: dict[str, FerSplit]) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for name, split in splits.items():
            for member, content in members(split, USAGES[name]).items():
                archive.writestr(member, content)
    return path


def write_folder(path: Path, splits: dict[str, FerSplit]) -> Path:
    for name, split in splits.items():
        for member, content in members(split, USAGES[name]).items():
            (path / member).parent.mkdir(parents=True, exist_ok=True)
            (path / member).write_bytes(content)
    return path


def csv_row(label: int | str, face: npt.NDArray[np.uint8], usage: str) -> str:
    return f"{label},{' '.join(map(str, face.ravel()))},{usage}\n"


def write_csv(path: Path, splits: dict[str, FerSplit]) -> Path:
    rows = ["emotion,pixels,Usage\n"]
    for name, split in splits.items():
        rows += [csv_row(int(k), f, USAGES[name]) for f, k in zip(split.images, split.labels, strict=True)]
    path.write_text("".join(rows))
    return path


def write_votes(path: Path, names: tuple[str, ...], winners: list[str]) -> Path:
    """A FER+ file with nine votes for the winner and one for neutral or happiness."""
    columns = ["neutral", "happiness", "surprise", "sadness", "anger", "disgust", "fear", "contempt", "unknown", "NF"]
    rows = ["file," + ",".join(columns)]
    for name, winner in zip(names, winners, strict=True):
        other = "happiness" if winner == "neutral" else "neutral"
        rows.append(f"{name}," + ",".join(str(9 * (c == winner) + (c == other)) for c in columns))
    path.write_text("\n".join(rows) + "\n")
    return path


def write_microsofts_votes(path: Path, winners: list[str], usages: list[str]) -> Path:
    """As `write_votes`, with a line for every line of fer2013.csv, as Microsoft's fer2013new.csv has them."""
    names = tuple(f"fer{i:07d}.png" for i in range(len(winners)))
    head, *rows = write_votes(path, names, winners).read_text().splitlines()
    rows = [f"{usage},{row}" for usage, row in zip(usages, rows, strict=True)]
    path.write_text("\n".join([head.replace("file", "Usage,Image name"), *rows]) + "\n")
    return path


def square_templates(labels: tuple[str, ...], size: int) -> npt.NDArray[np.float32]:
    """float32 [len(labels), size * size]: each row answers to the bright square of its label in `make_face`."""
    rows = []
    for label in labels:
        index = EMOTIONS.index(label)
        weight = np.full((48, 48), -0.01, np.float32)
        top, left = 4 + 14 * (index // 3), 4 + 14 * (index % 3)
        weight[top : top + 12, left : left + 12] = 0.15
        margin = (48 - size) // 2
        rows.append(weight[margin : 48 - margin, margin : 48 - margin].ravel())
    return np.stack(rows)


def write_onnx(path: Path, labels: tuple[str, ...] = EMOTIONS, *, size: int = 44, **card: Any) -> Path:
    """A linear classifier that knows `make_face`, as `emotion export` would write it."""
    weight = onnx.numpy_helper.from_array(square_templates(labels, size), "weight")
    graph = onnx.helper.make_graph(
        [
            onnx.helper.make_node("Flatten", ["faces"], ["flat"]),
            onnx.helper.make_node("Gemm", ["flat", "weight"], ["logits"], transB=1),
        ],
        "linear",
        [onnx.helper.make_tensor_value_info("faces", onnx.TensorProto.FLOAT, ["n", 1, size, size])],
        [onnx.helper.make_tensor_value_info("logits", onnx.TensorProto.FLOAT, ["n", len(labels)])],
        [weight],
    )
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=9)
    settings = {"name": "linear", "labels": labels, "input_size": size, "view": size / 48, **card}
    onnx.helper.set_model_props(model, ModelCard(**settings).to_properties())
    onnx.save(model, path)
    return path


def write_checkpoint(run: Path, model: str = "fer_resnet", *, seed: int = 0) -> Path:
    """best.pt of an untrained network in the format of `emotion train`; returns its path."""
    import torch

    from emotion.models import MODELS

    run.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(seed)
    network = MODELS[model](len(EMOTIONS))
    metadata = {
        "config": {"model": model, "eval_size": 44}, "metrics": {"epoch": 1}, "labels": list(EMOTIONS),
        "torch": "any", "commit": "unknown",
    }  # fmt: skip
    torch.save({"network": network.state_dict(), "metadata": metadata}, run / "best.pt")
    return run / "best.pt"
