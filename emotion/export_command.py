"""`emotion export` and `emotion card`: a trained network as one file, and the page that says what it is."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from emotion.data import load_split_if_any
from emotion.options import Data, FerPlus, SplitName, TestTime, check_test_time, load_split


def export(
    run: Annotated[Path, typer.Argument(help="Run folder or .pt checkpoint.")],
    *,
    output: Annotated[Path, typer.Option("--output", "-o", help="The ONNX file to write.")],
    data: Annotated[Path | None, typer.Option(help="FER-2013: fit the temperature on its PublicTest.")] = None,
    half: Annotated[bool, typer.Option(help="Store weights as float16.")] = True,
    test_time: TestTime = None,
    input_size: Annotated[int | None, typer.Option(min=24, help="Side of the input, if not the run's.")] = None,
) -> None:
    """Write the best checkpoint of a run as one ONNX file that needs no torch."""
    from emotion.calibration import calibrate
    from emotion.checkpoint import load_checkpoint, resized
    from emotion.evaluate import predict
    from emotion.export import export as write

    check_test_time(test_time)
    temperature = None
    if data is not None:
        scorer = load_checkpoint(run)
        if input_size is not None:
            scorer = resized(scorer, input_size)
        predictions = predict(scorer, load_split(data, "public"), test_time=test_time)
        fitted = calibrate(predictions.logits, predictions.split.labels)
        temperature = fitted.temperature
        typer.echo(
            f"PublicTest accuracy {predictions.right.mean():.4f}; "
            f"temperature {temperature:.3f}; calibration error {fitted.ece_before:.4f} before, "
            f"{fitted.ece_after:.4f} after (5-fold, PublicTest)"
        )
    card = write(run, output, half=half, temperature=temperature, test_time=test_time, input_size=input_size)
    told = "; temperature 1, not fitted: --data fits it" if data is None else ""
    typer.echo(f"{output}: {card.name}, {output.stat().st_size / 1e6:.1f} MB{told}")


def card(
    weights: Annotated[str, typer.Argument(help="Shipped name, or an ONNX file of `emotion export`.")],
    *,
    data: Data,
    output: Annotated[Path, typer.Option("--output", "-o", dir_okay=False, help="The Markdown file to write.")],
    split: SplitName = "public",
    ferplus: FerPlus = None,
) -> None:
    """Measure an exported classifier and write its model card; hand-written sections of an earlier card stay."""
    from emotion import evaluate as measure
    from emotion.calibration import calibrate
    from emotion.classifier import load_classifier
    from emotion.compare import megabytes, ms_per_face
    from emotion.model_card import model_card, write_card
    from emotion.robustness import robustness as robustness_of
    from emotion.views import used_test_time

    output.parent.mkdir(parents=True, exist_ok=True)
    classifier, loaded = load_classifier(weights, threads=1), load_split(data, split)
    predictions = measure.predict(classifier, loaded)
    figures = measure.evaluate(
        predictions, classifier.identity, split=split, test_time=used_test_time(classifier.card),
        train=load_split_if_any(data, "train") if split != "train" else None,
        ferplus=None if ferplus is None else measure.ferplus_accuracy(classifier, loaded, ferplus),
    )  # fmt: skip
    fitted = calibrate(predictions.logits, predictions.split.labels)
    text = model_card(
        classifier, figures, robustness_of(classifier, loaded), megabytes=megabytes(weights),
        ms=ms_per_face(classifier, loaded.images), ece_crossed=fitted.ece_after,
    )  # fmt: skip
    write_card(output, text)
    typer.echo(f"card: {output}")
