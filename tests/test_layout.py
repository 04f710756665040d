"""The rules of ARCHITECTURE.md about who may import what, held by reading the source."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("facedet", "emotion", "pipeline")
IMPORT_NAME_OF = {
    "opencv-python": "cv2",
    "scikit-learn": "sklearn",
    "scikit-image": "skimage",
    "pillow": "PIL",
    "pillow-heif": "pillow_heif",
    "pyyaml": "yaml",
}
"""Distribution -> import name, where the two differ."""


def sources(folder: str) -> list[Path]:
    return sorted(path for path in (ROOT / folder).rglob("*.py") if "__pycache__" not in path.parts)


def imported_modules(source: str, module: str) -> Iterator[str]:
    """Full names of all that a module imports, at top level and inside functions."""
    package = module.split(".")
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level] if node.level else []
            yield ".".join([*base, *([node.module] if node.module else [])])
            yield from (".".join([*base, *([node.module] if node.module else []), alias.name]) for alias in node.names)


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts)


def imports_of(path: Path) -> set[str]:
    return set(imported_modules(path.read_text(encoding="utf-8"), module_name(path)))


def offences(folder: str, forbidden: tuple[str, ...]) -> list[str]:
    """Every import below `folder` of a forbidden module or of something inside it."""
    return [
        f"{path.relative_to(ROOT)} imports {name}"
        for path in sources(folder)
        for name in sorted(imports_of(path))
        if any(name == module or name.startswith(module + ".") for module in forbidden)
    ]


def declared_distributions() -> set[str]:
    """Names in BASE and EXTRAS of setup.py, without versions."""
    tree = ast.parse((ROOT / "setup.py").read_text(encoding="utf-8"))
    values = {
        target.id: ast.literal_eval(node.value)
        for node in tree.body
        if isinstance(node, ast.Assign)
        for target in node.targets
        if isinstance(target, ast.Name)
    }
    requirements = [*values["BASE"], *(line for extra in values["EXTRAS"].values() for line in extra)]
    return {re.split(r"[^A-Za-z0-9_.-]", line, maxsplit=1)[0] for line in requirements}


def test_the_reader_sees_relative_and_local_imports() -> None:
    source = "import a.b\nfrom . import c\nfrom ..d import e\ndef f():\n    from g.h import i\n"
    assert set(imported_modules(source, "p.q.r")) == {"a.b", "p.q", "p.q.c", "p.d", "p.d.e", "g.h", "g.h.i"}


@pytest.mark.parametrize(
    ("folder", "forbidden"),
    [
        ("facedet", ("emotion", "pipeline")),
        ("emotion", ("facedet", "pipeline")),
        ("facedet/models", ("facedet.data", "facedet.train", "facedet.cli", "facedet.evaluate")),
        ("emotion/models", ("emotion.data", "emotion.train", "emotion.cli", "emotion.evaluate")),
        ("facedet", ("tests", "examples", "benchmarks", "datasets")),
        ("emotion", ("tests", "examples", "benchmarks", "datasets")),
        ("pipeline", ("tests", "examples", "benchmarks", "datasets")),
    ],
)
def test_a_package_knows_nothing_of(folder: str, forbidden: tuple[str, ...]) -> None:
    assert sources(folder), f"{folder}: no source found, the rule would hold for nothing"
    assert offences(folder, forbidden) == []


def test_every_foreign_import_is_declared_in_setup_py() -> None:
    declared = {IMPORT_NAME_OF.get(name, name) for name in declared_distributions()}
    assert {"numpy", "cv2", "onnxruntime", "torch"} <= declared
    allowed = declared | set(PACKAGES) | set(sys.stdlib_module_names)
    undeclared = [
        f"{path.relative_to(ROOT)} imports {name}"
        for package in PACKAGES
        for path in sources(package)
        for name in sorted({name.split(".")[0] for name in imports_of(path)} - allowed)
    ]
    assert undeclared == []


@pytest.mark.parametrize("statement", ["import facedet, emotion, pipeline", "import pipeline.cli"])
def test_annotating_does_not_import_the_training_stack(statement: str) -> None:
    heavy = ("torch", "torchvision", "onnx", "sklearn", "scipy", "matplotlib", "pycocotools", "supervision")
    program = f"{statement}\nimport sys\nprint([name for name in {heavy!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout.strip()) == (0, "[]"), done.stderr


def test_no_module_is_a_drawer_for_everything() -> None:
    drawers = {"utils", "util", "helpers", "misc", "common", "tools"}
    found = [path for package in PACKAGES for path in (ROOT / package).rglob("*") if path.stem in drawers]
    assert found == []


def test_datasets_is_not_a_package_but_tests_are() -> None:
    assert list((ROOT / "datasets").rglob("__init__.py")) == []
    without = [path.parent for path in sources("tests") if not (path.parent / "__init__.py").exists()]
    assert without == []


@pytest.mark.parametrize("package", PACKAGES)
def test_a_package_is_whole(package: str) -> None:
    assert (ROOT / package / "py.typed").exists()
    assert (ROOT / package / "__main__.py").exists()
    without = [path.parent for path in sources(package) if not (path.parent / "__init__.py").exists()]
    assert without == []
