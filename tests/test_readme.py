"""The README holds: its Python runs, its links lead somewhere, its commands and options exist."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import typer

import emotion.cli
import facedet.cli
import pipeline.cli

ROOT = Path(__file__).resolve().parents[1]
TEXTS = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")), ROOT / "datasets" / "crowd_mosaic" / "README.md"]
APPS = {"crowdmood": pipeline.cli.app, "facedet": facedet.cli.app, "emotion": emotion.cli.app}


def commands(text: str) -> list[list[str]]:
    """Every line of an indented block that calls one of the three commands, as words."""
    lines = re.findall(r"^    (?:\S*/bin/)?((?:crowdmood|facedet|emotion) .*)$", text.replace("\\\n", " "), re.M)
    return [shlex.split(line.split("  #")[0]) for line in lines]


def test_the_python_example_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    (example,) = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), re.S)
    known: dict[str, object] = {}
    exec(example, known)
    reading = known["reading"]
    assert isinstance(reading, pipeline.PhotoReading)
    assert len(reading.faces) > 10
    assert isinstance(known["expressions"], emotion.Expressions)


@pytest.mark.parametrize("path", TEXTS, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_links_lead_somewhere(path: Path) -> None:
    links = re.findall(r"\]\(([^)\s]+)\)", path.read_text(encoding="utf-8"))
    gone = [link for link in links if ":" not in link and not (path.parent / link.split("#")[0]).exists()]
    assert gone == []


@pytest.mark.parametrize("path", TEXTS, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_commands_and_options_exist(path: Path) -> None:
    for program, *words in commands(path.read_text(encoding="utf-8")):
        found: Any = typer.main.get_command(APPS[program])
        while words and words[0] in getattr(found, "commands", {}):
            found = found.commands[words.pop(0)]
        assert not hasattr(found, "commands"), f"{program} {words}"
        known = {option for parameter in found.params for option in (*parameter.opts, *parameter.secondary_opts)}
        asked = {word.split("=")[0] for word in words if re.match(r"--?[a-z]", word)}
        assert asked <= known | {"--help"}, f"{program} {words}: {asked - known}"
