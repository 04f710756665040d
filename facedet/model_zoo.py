"""Start weights from Detectron2's model zoo: fetched once, checked, kept in a cache."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path

import requests

from facedet.data.whole_file import write_whole
from facedet.errors import ConfigError, WeightsError

ZOO_URL = "https://dl.fbaipublicfiles.com/detectron2"
TIMEOUT_S = (10, 60)  # to connect, to wait for the next bytes
CHUNK_BYTES = 1 << 20
MAX_BYTES = 2 << 30


@dataclass(frozen=True)
class ZooFile:
    """A file below ZOO_URL. md5_prefix: from the file's name, where the zoo publishes one; empty elsewhere."""

    path: str
    md5_prefix: str = ""


ZOO: dict[tuple[str, str], ZooFile] = {
    ("faster_rcnn_x101_fpn", "coco"): ZooFile(
        "COCO-Detection/faster_rcnn_X_101_32x8d_FPN_3x/139173657/model_final_68b088.pkl", "68b088"
    ),
    ("faster_rcnn_r50_fpn", "coco"): ZooFile(
        "COCO-Detection/faster_rcnn_R_50_FPN_3x/137849458/model_final_280758.pkl", "280758"
    ),
    ("faster_rcnn_x101_fpn", "imagenet"): ZooFile("ImageNetPretrained/FAIR/X-101-32x8d.pkl"),
    ("faster_rcnn_r50_fpn", "imagenet"): ZooFile("ImageNetPretrained/MSRA/R-50.pkl"),
}


def cache_dir() -> Path:
    """Where fetched files live: $CROWDMOOD_CACHE, else $XDG_CACHE_HOME/crowdmood, else ~/.cache/crowdmood."""
    if "CROWDMOOD_CACHE" in os.environ:
        return Path(os.environ["CROWDMOOD_CACHE"])
    return Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "crowdmood"


def fetch_zoo_file(model: str, kind: str, *, zoo_url: str = ZOO_URL, cache: Path | None = None) -> Path:
    """The local copy of the start weights `kind` ("coco" or "imagenet") for `model`, fetched if it is not there.

    The zoo names the md5 prefix of its detection models, which is checked. It publishes none for ImageNet files; of
    every file the sha256 is stored beside it at the first fetch and checked at each use.
    Raises ConfigError when the zoo has no such weights, WeightsError when they cannot be had or are damaged.
    """
    entry = ZOO.get((model, kind))
    if entry is None:
        known = ", ".join(f"{k} for {m}" for m, k in ZOO)
        raise ConfigError([f"weights {kind!r} for {model}: Detectron2's model zoo has none; it has {known}"])
    target = (cache or cache_dir()) / "detectron2" / entry.path
    note = target.with_name(target.name + ".sha256")
    if not target.is_file() or not note.is_file():
        _download(f"{zoo_url}/{entry.path}", target, entry.md5_prefix)
        write_whole(note, _digest(target, "sha256") + "\n")
    elif _digest(target, "sha256") != note.read_text(encoding="utf-8").strip():
        raise WeightsError(f"{target}: changed since it was fetched; delete it to fetch it anew")
    return target


def _download(url: str, target: Path, md5_prefix: str) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(f"{target.name}.{os.getpid()}.part")  # every process of torchrun may be here
    try:
        with requests.get(url, stream=True, timeout=TIMEOUT_S, headers={"Accept-Encoding": "identity"}) as response:
            response.raise_for_status()
            expected = int(response.headers.get("Content-Length", 0))
            size = 0
            with part.open("wb") as file:
                for chunk in response.iter_content(CHUNK_BYTES):
                    size += file.write(chunk)
                    if size > MAX_BYTES:
                        raise WeightsError(f"{url}: larger than {MAX_BYTES} bytes, given up")
        if expected and size != expected:
            raise WeightsError(f"{url}: expected {expected} bytes, got {size}")
        if not _digest(part, "md5").startswith(md5_prefix):
            raise WeightsError(f"{url}: md5 {_digest(part, 'md5')} does not start with {md5_prefix}")
        os.replace(part, target)
    except (requests.RequestException, OSError) as e:
        raise WeightsError(
            f"cannot fetch {url}: {e}. Fetch it by other means and give its path as weights, or start from none"
        ) from e
    finally:
        part.unlink(missing_ok=True)


def _digest(path: Path, algorithm: str) -> str:
    digest = hashlib.new(algorithm, usedforsecurity=False)
    with path.open("rb") as file:
        while chunk := file.read(CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()
