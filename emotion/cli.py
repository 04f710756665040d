"""`emotion`: train, measure and export expression classifiers."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Column, Table
from typer.core import TyperGroup

from emotion.data import load_split_if_any
from emotion.errors import ConfigError, EmotionError
from emotion.export_command import card, export
from emotion.expressions import EMOTIONS
from emotion.options import (
    AsJson,
    Data,
    FerPlus,
    SplitName,
    TestTime,
    Weights,
    check_test_time,
    load_split,
)
from emotion.train_command import train

TRAIN_EXTRA = ("torch", "torchvision", "onnx", "sklearn", "matplotlib")


class _Group(TyperGroup):
    """Prints the errors that are meant for users, files that cannot be had among them, as one line and exits with 2."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except EmotionError as error:
            typer.echo(f"error: {error}", err=True)
        except BrokenPipeError:
            raise
        except OSError as error:
            where = "" if error.filename is None else f"{error.filename}: "
            typer.echo(f"error: {where}{error.strerror or error}", err=True)
        except ModuleNotFoundError as error:
            if (error.name or "").partition(".")[0] not in TRAIN_EXTRA:
                raise
            typer.echo(f"error: this command needs {error.name}: pip install 'crowdmood[train]'", err=True)
        raise typer.Exit(2)


app = typer.Typer(cls=_Group, no_args_is_help=True, add_completion=False, help=__doc__, pretty_exceptions_enable=False)


@app.command()
def evaluate(
    data: Data,
    *,
    weights: Weights = "default",
    split: SplitName = "public",
    test_time: TestTime = None,
    temperature: Annotated[float | None, typer.Option(min=0.01, help="Instead of the one in the weights.")] = None,
    ferplus: FerPlus = None,
    report: Annotated[Path | None, typer.Option(help="Folder for an HTML page with diagrams.")] = None,
    as_json: AsJson = False,
) -> None:
    """Accuracy, per-class figures, confusion and calibration of a classifier on one split."""
    from emotion import evaluate as measure
    from emotion.report import write_report
    from emotion.views import used_test_time

    check_test_time(test_time)
    scorer = measure.load_scorer(weights)
    loaded = load_split(data, split)
    predictions = measure.predict(scorer, loaded, test_time=test_time)
    if temperature is not None:
        predictions = dataclasses.replace(predictions, temperature=temperature)
    figures = measure.evaluate(
        predictions, scorer.identity, split=split, test_time=used_test_time(scorer.card, test_time),
        train=load_split_if_any(data, "train") if split != "train" else None,
        ferplus=None if ferplus is None else measure.ferplus_accuracy(scorer, loaded, ferplus, test_time=test_time),
    )  # fmt: skip
    if as_json:
        typer.echo(json.dumps(figures.to_dict()))
    else:
        _print_evaluation(figures)
    if report is not None:
        page = write_report(predictions, figures, report, run=measure.run_of(weights))
        typer.echo(f"report: {page}", err=True)


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

    rows = side_by_side(weights, load_split(data, split))
    if as_json:
        typer.echo(json.dumps([dataclasses.asdict(row) for row in rows]))
        return
    table = Table(Column("model", overflow="fold"))
    for head in ("accuracy", "95 %\ninterval", "alone\nright", "first\nalone", "McNemar\np", "MB", "ms/\nface"):
        table.add_column(head, no_wrap=True)
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
    from emotion.model_card import robustness_table
    from emotion.robustness import robustness as measure

    rows = measure(load_scorer(weights), load_split(data, split))
    if as_json:
        typer.echo(json.dumps([dataclasses.asdict(row) for row in rows]))
        return
    typer.echo(robustness_table(rows), nl=False)


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
    classes: Annotated[int, typer.Option(min=2, max=len(EMOTIONS), help="Number of outputs.")] = 7,
) -> None:
    """Layers, output shapes and parameters of an architecture, counted as Keras does."""
    from emotion.models import BASELINES, MODELS
    from emotion.presets import PRESETS
    from emotion.summary import summarise, summarise_baseline

    if model not in MODELS:
        raise ConfigError([f"model {model!r}: expected one of {', '.join(MODELS)}"])
    size, built = PRESETS[model].final_size, MODELS[model](classes)
    found = summarise_baseline(built, size * size, classes) if model in BASELINES else summarise(built, size)
    table = Table("layer", "kind", "output", "parameters")
    for layer in found.layers:
        table.add_row(layer.name, layer.kind, "x".join(map(str, layer.output)), f"{layer.parameters:,}")
    Console().print(table)
    typer.echo(f"{found.total:,} parameters, {found.trainable:,} of them trainable")


app.command()(train)


@app.command("average")
def average_(
    first: Annotated[Path, typer.Argument(help="Run folder or checkpoint.")],
    second: Annotated[Path, typer.Argument(help="Another one, which began where the first was, or the other way.")],
    *,
    out: Annotated[Path, typer.Option("--out", "-o", help="Checkpoint to write, .pt.")],
    share: Annotated[float, typer.Option(help="Of the second in the mean, between 0 and 1.")] = 0.5,
) -> None:
    """The mean of the weights of two runs, which is often better than either, as a checkpoint."""
    from emotion.average import average

    average(first, second, out, share=share)
    typer.echo(f"wrote {out}")


app.command()(export)
app.command()(card)


@app.command()
def reproduce(
    *,
    data: Data,
    runs: Annotated[Path, typer.Option(help="Folder for the runs.")] = Path("runs"),
    page: Annotated[Path, typer.Option(help="Markdown page to write the table into.")] = Path("docs/reproduction.md"),
    models: Annotated[str | None, typer.Option(help="Names with commas; the small ones if not given.")] = None,
    epochs: Annotated[int | None, typer.Option(help="Instead of each recipe's.")] = None,
    weights: Annotated[str | None, typer.Option(help="imagenet or none, for the ImageNet networks.")] = None,
) -> None:
    """Train earlier projects' models by their recipes and write published and measured figures side by side."""
    from emotion.reproduce import SMALL, check, read_results, write_page
    from emotion.reproduce import reproduce as train_again

    def tell(model: str, line: dict[str, Any]) -> None:
        typer.echo(f"{model}: epoch {line['epoch']}, PublicTest {line['public_accuracy']:.4f}", err=True)

    names = SMALL if models is None else tuple(name.strip() for name in models.split(","))
    check(names, runs, page, epochs=epochs, weights=weights)
    for name in names:
        (result,) = train_again([name], data, runs, epochs=epochs, weights=weights, report=tell)
        typer.echo(f"{name}: {result.accuracy:.4f}")
        write_page(page, read_results(runs))
    typer.echo(f"table: {page}")


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
