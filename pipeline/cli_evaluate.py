"""`crowdmood evaluate` and `calibrate`: the chain against photos whose faces and emotions are known."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pipeline.errors import OutputError, UsageError
from pipeline.progress import progress

if TYPE_CHECKING:
    from pipeline.crops import CropRule
    from pipeline.crowd_pipeline import CrowdPipeline
    from pipeline.evaluate import Setting
    from pipeline.truth import Truth


def evaluate(
    detectors: Annotated[
        list[str] | None, typer.Argument(help="Face detectors to run and measure, beside those of --detector.")
    ] = None,
    *,
    truth: Annotated[
        Path, typer.Option(help="COCO JSON with emotions (attribute or category) or results.jsonl, or their folder.")
    ],
    photos: Annotated[
        Path | None, typer.Option(help="Folder of the photos; default: images/ beside the truth.")
    ] = None,
    predictions: Annotated[
        list[Path] | None, typer.Option(help="Output of `crowdmood annotate` to measure; repeatable.")
    ] = None,
    detector: Annotated[list[str] | None, typer.Option(help="Face detector to run and measure; repeatable.")] = None,
    emotion: Annotated[list[str] | None, typer.Option(help="Emotion classifier; repeatable. Default: default.")] = None,
    scale: Annotated[
        int | None, typer.Option(min=16, help="Reduce larger photos to this long side for the detector: faster.")
    ] = None,
    min_score: Annotated[float | None, typer.Option(min=0, max=1, help="Leave out faces scored below.")] = None,
    min_face: Annotated[int | None, typer.Option(min=1, help="Leave out smaller faces, in pixels.")] = None,
    min_legible: Annotated[float | None, typer.Option(min=0, help="Give smaller faces no emotion, in pixels.")] = None,
    truth_crop: Annotated[
        str | None, typer.Option(help="Detector whose crop rule fits the true boxes. Default: they are the crops.")
    ] = None,
    threads: Annotated[int | None, typer.Option(min=1, help="Processor threads per model.")] = None,
    report: Annotated[Path | None, typer.Option(help="Folder for the figures as JSON and text, and for plots.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="The figures as JSON on standard output.")] = False,
) -> None:
    """Count correct, wrong and missed faces and false alarms; say what the detector, the crop and the classifier lose.

    Each detector with each --emotion is one setting, each --predictions another; all are measured on the same photos.
    """
    from pipeline.crowd_pipeline import CrowdPipeline
    from pipeline.evaluate import evaluate as measure
    from pipeline.evaluate_report import as_dict, to_text, write_report
    from pipeline.truth import load_truth

    known = load_truth(truth)
    default: list[str | None] = [] if predictions else [None]
    wanted = [*(detector or []), *(detectors or [])] or default

    def load(name: str | None, classifier: str) -> CrowdPipeline:
        return CrowdPipeline.default(
            name,
            classifier,
            scale=scale,
            min_score=min_score,
            min_face_px=min_face,
            min_legible_px=min_legible,
            threads=threads,
            fallback=False,
        )

    rule = _rule(truth_crop)
    classifiers = emotion or ["default"]
    settings = _read(known, predictions or [], photos=photos, emotion=classifiers[0], rule=rule, threads=threads)
    settings += _run(known, [load(d, e) for e in classifiers for d in wanted], photos=photos, rule=rule)
    evaluations = measure(known, settings)
    figures = as_dict(known, evaluations)
    typer.echo(json.dumps(figures, ensure_ascii=False) if as_json else to_text(known, evaluations))
    if report is not None:
        try:
            write_report(report, known, evaluations)
        except OSError as error:
            raise OutputError(f"{report}: cannot be written: {error.strerror or error}") from error


def _rule(name: str | None) -> CropRule:
    """How the true boxes become crops."""
    from pipeline.crops import CROP_RULES
    from pipeline.evaluate_run import AS_GIVEN

    if name is not None and name not in CROP_RULES:
        raise UsageError(f"--truth-crop {name}: expected one of {', '.join(CROP_RULES)}")
    return AS_GIVEN if name is None else CROP_RULES[name]


def _read(
    truth: Truth,
    predictions: list[Path],
    *,
    photos: Path | None,
    emotion: str,
    rule: CropRule,
    threads: int | None,
) -> list[Setting]:
    """Results that are there already. Only with the photos can the classifier be asked about the true boxes."""
    import emotion as stage2
    from pipeline.evaluate_run import check_same_classifier, read_setting, say_on_true_boxes
    from pipeline.truth import photo_paths

    settings = [read_setting(out, truth) for out in predictions]
    if photos is None or not settings:
        return settings
    classifier = stage2.load_classifier(emotion, threads=threads)
    for setting in settings:
        check_same_classifier(setting, classifier)
    paths = photo_paths(truth, photos)
    with progress(len(paths)) as advance:
        said = say_on_true_boxes(classifier, truth, paths, rule=rule, on_photo=partial(advance, "true boxes"))
    return [replace(setting, said_on_true_boxes=said) for setting in settings]


def _run(truth: Truth, pipelines: list[CrowdPipeline], *, photos: Path | None, rule: CropRule) -> list[Setting]:
    """Run every pipeline on the photos; each classifier is asked about the true boxes once."""
    from pipeline.evaluate_run import run_setting, say_on_true_boxes
    from pipeline.truth import photo_paths

    paths = photo_paths(truth, photos) if pipelines else []
    classifiers = {pipeline.classifier.identity: pipeline.classifier for pipeline in pipelines}
    with progress(len(paths) * (len(classifiers) + len(pipelines))) as advance:
        said = {
            identity: say_on_true_boxes(classifier, truth, paths, rule=rule, on_photo=partial(advance, "true boxes"))
            for identity, classifier in classifiers.items()
        }
        settings = []
        for pipeline in pipelines:
            identity = pipeline.classifier.identity
            name = pipeline.detectors.wanted + (f", {identity}" if len(classifiers) > 1 else "")
            setting = run_setting(name, pipeline, truth, paths, on_photo=partial(advance, name))
            settings.append(replace(setting, said_on_true_boxes=said[identity]))
    return settings


def calibrate(
    *,
    truth: Annotated[
        Path, typer.Option(help="COCO JSON with emotions whose boxes are the squares to cut, or its folder.")
    ],
    detector: Annotated[list[str], typer.Option(help="Face detector to find the crop rule of; repeatable.")],
    photos: Annotated[
        Path | None, typer.Option(help="Folder of the photos; default: images/ beside the truth.")
    ] = None,
    scale: Annotated[int | None, typer.Option(min=16, help="Test scale of the detector: long side in pixels.")] = None,
    emotion: Annotated[str, typer.Option(help="Emotion classifier: a name or an .onnx file.")] = "default",
    faces: Annotated[int, typer.Option(min=40, help="Use this many faces at most.")] = 2000,
    all_sides: Annotated[
        bool, typer.Option("--all-sides", help="Search with every side rule; five times the work.")
    ] = False,
    threads: Annotated[int | None, typer.Option(min=1, help="Processor threads per model.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="The figures as JSON on standard output.")] = False,
) -> None:
    """Fit where a detector's boxes should be cut (CROP_RULES in pipeline/crops.py), and measure what that gains.

    Half of the photos are fitted on, the other half is measured on. Made for datasets/crowd_mosaic.
    """
    from typing import get_args

    import emotion as stage2
    import facedet
    from pipeline.calibrate import calibrate as fit
    from pipeline.calibrate import collect
    from pipeline.crops import Side
    from pipeline.truth import load_truth, photo_paths

    known = load_truth(truth)
    paths = photo_paths(known, photos)
    classifier = stage2.load_classifier(emotion, threads=threads)
    found = []
    for name in detector:
        finder = facedet.load_detector(name, scale=scale, threads=threads)
        with progress(len(paths)) as advance:
            samples = collect(finder, known, paths, limit=faces, on_photo=partial(advance, name))
        found.append(fit(samples, classifier, finder.name, starts=get_args(Side) if all_sides else None))
        if not as_json:
            typer.echo(found[-1].to_text() + "\n")
    if as_json:
        typer.echo(json.dumps([calibration.to_dict() for calibration in found]))
