"""Read the pickled weights of Detectron2's model zoo without running what is in them.

A pickle is a program. Here it may build dictionaries, strings, numbers and numpy arrays, and call nothing else.
"""

from __future__ import annotations

import pickle
import re
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from facedet.errors import WeightsError

# numpy's own constructors, asked of numpy itself, since their module has moved between its versions
_RECONSTRUCT = np.zeros(1).__reduce__()[0]
_SCALAR = np.float32(0).__reduce__()[0]


def _latin1(text: str, encoding: str) -> bytes:
    """What Python 3 writes for bytes in old pickle protocols; stands in for `_codecs.encode`."""
    if encoding != "latin1":
        raise pickle.UnpicklingError(f"encoding {encoding!r}")
    return text.encode("latin1")


_ALLOWED: dict[tuple[str, str], Any] = {
    ("collections", "OrderedDict"): OrderedDict,
    ("numpy", "ndarray"): np.ndarray,
    ("numpy", "dtype"): np.dtype,
    ("numpy.core.multiarray", "_reconstruct"): _RECONSTRUCT,
    ("numpy._core.multiarray", "_reconstruct"): _RECONSTRUCT,
    ("numpy.core.multiarray", "scalar"): _SCALAR,
    ("numpy._core.multiarray", "scalar"): _SCALAR,
    ("_codecs", "encode"): _latin1,
}


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        try:
            return _ALLOWED[module, name]
        except KeyError:
            raise pickle.UnpicklingError(f"it names {module}.{name}, which weights never need") from None


def read_zoo_pickle(path: Path) -> tuple[dict[str, Tensor], bool]:
    """The tensors of a .pkl file by name, and whether the names leave out the path to the backbone.

    Accepts Detectron2's own form {"model": ..., "__author__": ...} and Caffe2's {"blobs": ...} or plain names, which
    are translated. Raises WeightsError for anything that is not arrays of numbers, without running any of it.
    """
    try:
        with path.open("rb") as file:
            content = _Unpickler(file, encoding="latin1").load()
    except OSError as e:
        raise WeightsError(f"{path}: cannot read: {e.strerror}") from e
    except Exception as e:  # a damaged pickle can raise almost anything
        raise WeightsError(f"{path}: refused, not a plain pickle of arrays: {e}") from e
    if not isinstance(content, dict):
        raise WeightsError(f"{path}: expected a dictionary of arrays, got {type(content).__name__}")
    if "model" in content and "__author__" in content:
        partial_names = bool(content.get("matching_heuristics", False))
        return _tensors(content["model"], path), partial_names
    blobs = content.get("blobs", content)
    if not isinstance(blobs, dict):
        raise WeightsError(f"{path}: expected arrays by name, got {type(blobs).__name__}")
    kept = {caffe2_name(str(n)): v for n, v in blobs.items() if not str(n).endswith("_momentum")}
    return _tensors(kept, path), True


def _tensors(arrays: Any, path: Path) -> dict[str, Tensor]:
    if not isinstance(arrays, dict):
        raise WeightsError(f"{path}: expected arrays by name, got {type(arrays).__name__}")
    tensors = {}
    for name, array in arrays.items():
        numeric = isinstance(array, (np.ndarray, np.generic)) and array.dtype.kind in "fiub"
        if not isinstance(name, str) or not numeric:
            raise WeightsError(f"{path}: expected arrays of numbers by name, got {type(array).__name__} for {name!r}")
        tensors[name] = torch.from_numpy(np.array(array))
    return tensors


def caffe2_name(name: str) -> str:
    """Detectron2's name, below the backbone, for a Caffe2 one: res2_0_branch2a_bn_s -> res2.0.conv1.norm.weight."""
    name = name.replace("_", ".")
    for pattern, replacement in (
        (r"\.b$", ".bias"),
        (r"\.w$", ".weight"),
        (r"bn\.(s|gamma)$", "norm.weight"),
        (r"bn\.(bias|beta)$", "norm.bias"),
        (r"bn\.(rm|running\.mean)$", "norm.running_mean"),
        (r"bn\.(riv|running\.var)$", "norm.running_var"),
        (r"^res\.conv1\.norm\.", "conv1.norm."),
        (r"^conv1\.", "stem.conv1."),
        (r"\.branch1\.", ".shortcut."),
        (r"\.branch2a\.", ".conv1."),
        (r"\.branch2b\.", ".conv2."),
        (r"\.branch2c\.", ".conv3."),
    ):
        name = re.sub(pattern, replacement, name)
    return name
