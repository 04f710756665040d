"""Files that appear whole: written beside their place under another name, then renamed."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO


@contextmanager
def whole_file(path: Path, *, staging: Path | None = None) -> Iterator[BinaryIO]:
    """Write `path` so that it either is there whole or not at all (or is still the old one). Makes its folders.

    staging: the folder for the unfinished file, on the same file system; None means the folder of `path`.
    Raises OSError, and then leaves nothing behind.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = (staging or path.parent) / f".{secrets.token_hex(8)}.part"
    try:
        with unfinished.open("xb") as stream:
            yield stream
        os.replace(unfinished, path)
    finally:
        unfinished.unlink(missing_ok=True)
