"""`emotion`: train, measure and export expression classifiers."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table
from typer.core import TyperGroup

from emotion.card import TEST_TIME_MODES
from emotion.data import FerSplit, count_report, load_fer2013
from emotion.errors import ConfigError, DataError, EmotionError
from emotion.train_command import train

TRAIN_EXTRA = ("torch", "torchvision", "onnx", "sklearn", "matplotlib")


class _Group(TyperGroup):
    """Prints the errors that are meant for users as one line and exits with 2."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except EmotionError as error:
            typer.echo(f"error: {error}", err=True)
        except ModuleNotFoundError as error:
            if (error.name or "").partition(".")[0] not in TRAIN_EXTRA:
                raise
            typer.echo(f"error: this command needs {error.name}: pip install 'crowdmood[train]'", err=True)
        raise typer.Exit(2)


app = typer.Typer(cls=_Group, no_args_is_help=True, add_completion=False, help=__doc__, pretty_exceptions_enable=False)

Data = Annotated[Path, typer.Option(help="FER-2013: fer2013.csv, Kaggle's archive.zip or its unpacked folder.")]
SplitName = Annotated[str, typer.Option(help="train, public or private.")]
Weights = Annotated[str, typer.Option(help="Shipped name, .onnx file, .pt checkpoint or run folder.")]
AsJson = Annotated[bool, typer.Option("--json", help="Figures as JSON on standard output.")]
FerPlus = Annotated[Path | None, typer.Option(help="FER+ votes as CSV, keyed by file name.")]
TestTime = Annotated[str | None, typer.Option(help=f"Views per face: {', '.join(TEST_TIME_MODES)}.")]


@app.command()
def evaluate(
    data: Data,
    *,
    weights: Weights = "default",
    split: SplitName = "public",
    test_time: TestTime = None,
    ferplus: FerPlus = None,
    report: Annotated[Path | None, typer.Option(help="Folder for an HTML page with diagrams.")] = None,
    as_json: AsJson = False,
) -> None:
    """Accuracy, per-class figures, confusion and calibration of a classifier on one split."""
    from emotion import evaluate as measure
    from emotion.report import write_report

    _check_test_time(test_time)
    scorer = measure.load_scorer(weights)
    loaded = _load(data, split)
    predictions = measure.predict(scorer, loaded, test_time=test_time)
    figures = measure.evaluate(
        predictions, scorer.identity, split=split, test_time=test_time or scorer.card.test_time,
        train=_train_split(data) if split != "train" else None, ferplus=ferplus,
    )  # fmt: skip
    if as_json:
        typer.echo(json.dumps(figures.to_dict()))
    else:
        _print_evaluation(figures)
    if report is not None:
        run = Path(weights) if Path(weights).is_dir() else Path(weights).parent
        page = write_report(predictions, figures, report, run=run if (run / "log.jsonl").is_file() else None)
        typer.echo(f"report: {page}", err=True)


@app.command()
def export(
    run: Annotated[Path, typer.Argument(help="Run folder or .pt checkpoint.")],
    *,
    output: Annotated[Path, typer.Option("--output", "-o", help="The ONNX file to write.")],
    data: Annotated[Path | None, typer.Option(help="FER-2013: fit the temperature on its PublicTest.")] = None,
    half: Annotated[bool, typer.Option(help="Store weights as float16.")] = True,
    test_time: TestTime = None,
) -> None:
    """Write the best checkpoint of a run as one ONNX file that needs no torch."""
    from emotion.calibration import calibrate
    from emotion.checkpoint import load_checkpoint
    from emotion.evaluate import predict
    from emotion.export import export as write

    _check_test_time(test_time)
    temperature = None
    if data is not None:
        predictions = predict(load_checkpoint(run), _load(data, "public"), test_time=test_time)
        fitted = calibrate(predictions.logits, predictions.split.labels)
        temperature = fitted.temperature
        typer.echo(
            f"temperature {temperature:.3f}; calibration error {fitted.ece_before:.4f} before, "
            f"{fitted.ece_after:.4f} after (5-fold, PublicTest)"
        )
    card = write(run, output, half=half, temperature=temperature, test_time=test_time)
    typer.echo(f"{output}: {card.name}, {output.stat().st_size / 1e6:.1f} MB")


@app.command()
def compare(
    weights: Annotated[list[str], typer.Argument(help="Two or more shipped names, .onnx files or run folders.")],
    *,
    data: Data,
    split: SplitName = "public",
    as_json: AsJson = False,
) -> None:
    """Models side by side: accuracy, McNemar's test against the first, size, time per face on one thread."""
    from emotion.compare import compare as side_by_side

    rows = side_by_side(weights, _load(data, split))
    if as_json:
        typer.echo(json.dumps([dataclasses.asdict(row) for row in rows]))
        return
    table = Table("model", "accuracy", "95 % interval", "alone right", "first alone", "McNemar p", "MB", "ms/face")
    for r in rows:
        paired = ["-"] * 3 if r.mcnemar_p is None else [str(r.only_this), str(r.only_first), f"{r.mcnemar_p:.3g}"]
        interval = f"{r.interval[0]:.4f}-{r.interval[1]:.4f}"
        table.add_row(r.model, f"{r.accuracy:.4f}", interval, *paired, f"{r.megabytes:.1f}", f"{r.ms_per_face:.2f}")
    Console().print(table)


@app.command()
def robustness(
    data: Data, *, weights: Weights = "default", split: SplitName = "public", as_json: AsJson = False
) -> None:
    """Accuracy under shifted and scaled boxes, small, blurred, compressed, dark and tilted faces, as Markdown."""
    from emotion.evaluate import load_scorer
    from emotion.robustness import robustness as measure

    rows = measure(load_scorer(weights), _load(data, split))
    if as_json:
        typer.echo(json.dumps([dataclasses.asdict(row) for row in rows]))
        return
    typer.echo("| change | accuracy | difference |\n|---|---|---|")
    for row in rows:
        typer.echo(f"| {row.change} | {row.accuracy:.4f} | {100 * row.difference:+.1f} points |")


@app.command()
def zoo() -> None:
    """The architectures that `emotion train --model` knows."""
    from emotion.models import MODELS

    for name, build in MODELS.items():
        typer.echo(f"{name:20} {(build.__doc__ or '').strip().splitlines()[0]}")


@app.command()
def summary(
    model: Annotated[str, typer.Argument(help="A name of `emotion zoo`.")],
    *,
    classes: Annotated[int, typer.Option(help="Number of outputs.")] = 7,
) -> None:
    """Layers, output shapes and parameters of an architecture, counted as Keras does."""
    from emotion.models import BASELINES, MODELS
    from emotion.presets import PRESETS
    from emotion.summary import summarise

    if model not in MODELS or model in BASELINES:
        raise ConfigError([f"model {model!r}: expected one of {', '.join(n for n in MODELS if n not in BASELINES)}"])
    found = summarise(MODELS[model](classes), PRESETS[model].eval_size)
    table = Table("layer", "kind", "output", "parameters")
    for layer in found.layers:
        table.add_row(layer.name, layer.kind, "x".join(map(str, layer.output)), f"{layer.parameters:,}")
    Console().print(table)
    typer.echo(f"{found.total:,} parameters, {found.trainable:,} of them trainable")


app.command()(train)


def _check_test_time(mode: str | None) -> None:
    if mode is not None and mode not in TEST_TIME_MODES:
        raise typer.BadParameter(f"{mode!r}: expected one of {', '.join(TEST_TIME_MODES)}", param_hint="--test-time")


def _load(data: Path, split: str) -> FerSplit:
    loaded = load_fer2013(data, split)
    note = count_report(split, loaded)
    if note:
        typer.echo(f"note: {note}", err=True)
    return loaded


def _train_split(data: Path) -> FerSplit | None:
    """Training, for the duplicates; None where the data has none."""
    try:
        return load_fer2013(data, "train")
    except DataError:
        return None


def _print_evaluation(figures: Any) -> None:
    from emotion.report import class_rows, summary_rows

    console = Console()
    overall = Table(show_header=False, title=f"{figures.model} on {figures.split}")
    for row in summary_rows(figures):
        overall.add_row(*row)
    head, *body = class_rows(figures)
    classes = Table(*head)
    for row in body:
        classes.add_row(*row)
    names = [c.name for c in figures.per_class]
    confusion = Table("label \\ predicted", *names)
    for name, counts in zip(names, figures.confusion, strict=True):
        confusion.add_row(name, *[str(count) for count in counts])
    for table in (overall, classes, confusion):
        console.print(table)
