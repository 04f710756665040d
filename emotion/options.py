"""Options and steps that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from emotion.card import TEST_TIME_MODES
from emotion.data import FerSplit, count_report, load_fer2013

Data = Annotated[Path, typer.Option(help="FER-2013: fer2013.csv, Kaggle's archive.zip or its unpacked folder.")]
SplitName = Annotated[str, typer.Option(help="train, public or private.")]
Weights = Annotated[str, typer.Option(help="Shipped name, .onnx file, .pt checkpoint or run folder.")]
AsJson = Annotated[bool, typer.Option("--json", help="Figures as JSON on standard output.")]
FerPlus = Annotated[Path | None, typer.Option(help="FER+ votes as CSV, keyed by file name.")]
TestTime = Annotated[str | None, typer.Option(help=f"Views per face: {', '.join(TEST_TIME_MODES)}.")]


def check_test_time(mode: str | None) -> None:
    """Bad usage when the mode is not one of `TEST_TIME_MODES`."""
    if mode is not None and mode not in TEST_TIME_MODES:
        raise typer.BadParameter(f"{mode!r}: expected one of {', '.join(TEST_TIME_MODES)}", param_hint="--test-time")


def load_split(data: Path, split: str) -> FerSplit:
    """The split, and a note on standard error when its size is not the official one."""
    loaded = load_fer2013(data, split)
    note = count_report(split, loaded)
    if note:
        typer.echo(f"note: {note}", err=True)
    return loaded
