"""crowdmood beside the package `fer` (25.10.3), both its modes, on the same photos and the same machine.

    python3.11 -m venv /tmp/fer && /tmp/fer/bin/pip install fer==25.10.3 "setuptools<80"
    python benchmarks/against_fer.py --fer-python /tmp/fer/bin/python --data DATA [--write docs]

Nothing else is needed for both modes, but an environment of its own is: `fer` brings numpy 1.26, OpenCV, TensorFlow
and torch 2.2 (so Python 3.10 to 3.12; 7.5 GB with CUDA's libraries), and imports setuptools' pkg_resources.
DATA holds wider_face/dev and fer2013/archive.zip; default $CROWDMOOD_DATASETS. Every photo goes to all contenders in
turn, in changing order, so that whatever else the machine does hits all alike. Each contender is a process of its own
(contender.py); the first photo is read once before the clock runs. Time is decoding, detection and emotions.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from emotion import EMOTIONS
from emotion.data import load_fer2013
from facedet import Faces
from facedet.data.coco import Photo
from facedet.data.load import load_data
from facedet.operating_point import match_faces

HERE = Path(__file__).resolve().parent
TOLD = {"fer-haar": "fer 25.10.3, Haar", "fer-mtcnn": "fer 25.10.3, MTCNN"}


@dataclass
class Contender:
    """A running contender and what it reached. ms: per photo. accuracy: on FER-2013's PublicTest, in [0, 1]."""

    name: str
    process: subprocess.Popen[str]
    ms: list[float] = field(default_factory=list)
    hits: int = 0
    false_alarms: int = 0
    accuracy: float | None = None

    def ask(self, request: dict[str, str]) -> dict[str, Any]:
        """Send a request and wait for the answer. Raises RuntimeError when the process has ended."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        try:
            self.process.stdin.write(json.dumps(request) + "\n")
            self.process.stdin.flush()
        except BrokenPipeError:
            pass  # then there is no answer either
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError(f"{self.name}: ended with exit code {self.process.wait()}; its errors are above")
        answer: dict[str, Any] = json.loads(line)
        return answer


def main(options: argparse.Namespace) -> None:
    """Run everything, print the table, write it if asked to."""
    dataset = load_data(options.data / "wider_face" / "dev")
    photos = [photo.ignoring_small(options.min_face) for photo in dataset.photos[: options.photos]]
    if options.write is not None:
        options.write.mkdir(parents=True, exist_ok=True)
    contenders = [start(kind, options) for kind in [*(options.fer_mode or TOLD), *options.detector]]
    for contender in contenders:
        contender.ask({"photo": str(photos[0].path)})
    for number, photo in enumerate(photos):
        turn = number % len(contenders)
        for contender in contenders[turn:] + contenders[:turn]:
            measure_photo(contender, photo)
        if sys.stderr.isatty():
            print(f"\r{number + 1} of {len(photos)} photos", end="", file=sys.stderr)
    faces = measure_accuracy(contenders, options)
    text = as_markdown(contenders, photos, faces, options)
    print(text)
    if options.write is not None:
        (options.write / "against_fer.md").write_text(text + "\n", encoding="utf-8")
        draw(contenders, photos, options.write / "against_fer.png")
    for contender in contenders:
        contender.process.communicate()


def start(kind: str, options: argparse.Namespace) -> Contender:
    """Start a contender in its environment, with as many threads as the others."""
    python = options.fer_python if kind in TOLD else sys.executable
    threads = str(options.threads)
    environment = {
        **os.environ,
        "OMP_NUM_THREADS": threads,
        "TF_NUM_INTRAOP_THREADS": threads,
        "TF_CPP_MIN_LOG_LEVEL": "2",
    }
    environment["PYTHONPATH"] = str(HERE.parent) if kind not in TOLD else ""
    command = [str(python), "-W", "ignore", str(HERE / "contender.py"), kind, threads]
    command += [] if kind in TOLD else [options.emotion]
    pipe = subprocess.PIPE
    process = subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True, env=environment)
    return Contender(TOLD.get(kind, f"crowdmood, {Path(kind).stem}"), process)


def measure_photo(contender: Contender, photo: Photo) -> None:
    """One photo through one contender. Boxes have no scores there: the order in which they come is taken."""
    answer = contender.ask({"photo": str(photo.path)})
    boxes = np.array(answer["boxes"], np.float32).reshape(-1, 4)
    faces = Faces.from_raw(boxes, np.linspace(1, 0.5, len(boxes)), (photo.width, photo.height))
    match = match_faces(faces, photo, min_iou=0.5)
    contender.ms.append(answer["ms"])
    contender.hits += int(match.hits.sum())
    contender.false_alarms += int((~match.hits & ~match.neutral).sum())


def measure_accuracy(contenders: list[Contender], options: argparse.Namespace) -> int:
    """Seven-way accuracy of each classifier on the same images; returns their number."""
    split = load_fer2013(options.data / "fer2013" / "archive.zip", "public")
    chosen = np.random.default_rng(0).permutation(len(split))[: options.faces]  # the split is sorted by emotion
    images, labels = split.images[chosen], split.labels[chosen]
    with tempfile.TemporaryDirectory() as folder:
        np.save(f"{folder}/faces.npy", images)
        for contender in contenders:
            said = contender.ask({"faces": f"{folder}/faces.npy"})["labels"]
            contender.accuracy = float(np.mean([EMOTIONS.index(name) for name in said] == labels))
    return len(images)


def as_markdown(contenders: list[Contender], photos: list[Photo], faces: int, options: argparse.Namespace) -> str:
    """The table, and how it was measured."""
    true_faces = sum(int((~photo.ignore).sum()) for photo in photos)
    rows = [
        f"| {c.name} | {np.mean(c.ms):.0f} | {np.median(c.ms):.0f} | {c.hits + c.false_alarms} | {c.hits} "
        f"| {100 * c.hits / max(true_faces, 1):.1f} % | {100 * (c.accuracy or 0):.1f} % |"
        for c in contenders
    ]
    return "\n".join(
        [
            "| | ms per photo | median | faces reported | of them true | of all true faces | emotion accuracy |",
            "|---|---|---|---|---|---|---|",
            *rows,
            "",
            f"{len(photos)} photos of WIDER FACE (dev), {true_faces:,} faces of {options.min_face} px and more; true "
            "means IoU 0.5 with one of them; smaller and ignored faces count for nobody. Accuracy is seven-way on "
            f"{faces:,} images of FER-2013's PublicTest. {options.threads} thread(s) per contender, "
            f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}. "
            f"Load of the machine before the run: {options.load:.1f}.",
        ]
    )


def draw(contenders: list[Contender], photos: list[Photo], path: Path) -> None:
    """Time against true faces found."""
    from matplotlib.figure import Figure

    plot = Figure(figsize=(7, 4), layout="constrained")
    axes = plot.subplots()
    for c in contenders:
        axes.scatter(np.mean(c.ms), c.hits, s=80, zorder=3)
        axes.annotate(f"{c.name}\n{c.hits} faces, {np.mean(c.ms):.0f} ms", (np.mean(c.ms), c.hits), xytext=(8, 4),
                      textcoords="offset points", fontsize="small")  # fmt: skip
    axes.set(xlabel="ms per photo", ylabel="true faces found", title=f"{len(photos)} photos of WIDER FACE")
    axes.set_xlim(0, 1.35 * max(np.mean(c.ms) for c in contenders))
    axes.set_ylim(0, 1.2 * max(1, *(c.hits for c in contenders)))
    axes.grid(alpha=0.3)
    plot.savefig(path, dpi=120)


def parse() -> argparse.Namespace:
    """The command line."""
    root = os.environ.get("CROWDMOOD_DATASETS")
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--fer-python", type=Path, required=True, help="Python of the environment with `fer`")
    parser.add_argument("--fer-mode", action="append", choices=list(TOLD), help="one of its modes only; default: both")
    parser.add_argument("--data", type=Path, default=Path(root) if root else None, required=root is None)
    parser.add_argument("--detector", action="append", help="crowdmood detector, repeatable; default: the default one")
    parser.add_argument("--emotion", default="default")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--photos", type=int, help="only the first so many photos")
    parser.add_argument("--faces", type=int, help="only so many images of PublicTest, drawn at random")
    parser.add_argument("--min-face", type=int, default=16)
    parser.add_argument("--write", type=Path, help="folder for against_fer.md and against_fer.png")
    options = parser.parse_args()
    if not options.detector:
        from facedet.detectors import DEFAULT_DETECTOR

        options.detector = [DEFAULT_DETECTOR]
    options.load = os.getloadavg()[0]
    return options


if __name__ == "__main__":
    main(parse())
