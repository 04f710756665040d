"""What the tests of whole runs start from: weights that load at once, and three photos."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.pipeline.factories import save_photo, tiny_classifier


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_classifier(tmp_path_factory.mktemp("weights") / "tiny.onnx")


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    for i in range(3):
        save_photo(folder / f"{i}.jpg", value=60 * i)
    return folder
