"""Face detectors side by side on the same photos: accuracy, time per photo, peak memory.

    python benchmarks/detectors.py --photos DATA [--yunet FILE] [--faster-rcnn FILE] [--out DIR]

DATA is WIDER FACE's own folder (measured by its easy, medium and hard) or a folder made by `facedet prepare` (COCO AP).
Each detector lives in a process of its own, and they take turns photo by photo, so that another load on the machine
meets all of them alike. Times are of `detect` alone, medians over photos, after one photo to warm up. All detectors
return faces from score 0.02 on, as the accuracy needs. Writes detectors.md, detectors.json and detectors.png.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import platform
import resource
import statistics
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from facedet.data.coco import FaceDataset
from facedet.data.images import read_photo
from facedet.data.load import load_data
from facedet.data.wider import is_wider
from facedet.detectors import load_detector
from facedet.evaluate import measure
from facedet.faces import Faces
from facedet.intervals import Interval, Resampled, differences

MIN_SCORE = 0.02
YUNET_NMS_IOU = 0.45
SHOWN = {"wider": ("easy", "medium", "hard"), "coco": ("AP30", "AP50", "AP")}


class YuNet:
    """OpenCV's detector, with its own network file. scale: long side in pixels, None for the photo as it is."""

    name = "yunet"

    def __init__(self, path: str, *, scale: int | None) -> None:
        self._scale = scale
        self._net = cv2.FaceDetectorYN.create(path, "", (320, 320), MIN_SCORE, YUNET_NMS_IOU, 5000)

    def detect(self, images: Sequence[npt.NDArray[np.uint8]]) -> list[Faces]:
        return [self._detect_one(image) for image in images]

    def _detect_one(self, image: npt.NDArray[np.uint8]) -> Faces:
        height, width = image.shape[:2]
        view: Any = image
        if self._scale is not None and max(height, width) > self._scale:
            factor = self._scale / max(height, width)
            size = (max(1, round(width * factor)), max(1, round(height * factor)))
            view = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
        self._net.setInputSize((view.shape[1], view.shape[0]))
        rows = self._net.detect(view)[1]
        rows = np.zeros((0, 15), np.float32) if rows is None else rows
        factors = np.array([width / view.shape[1], height / view.shape[0]] * 2)
        corners = np.hstack([rows[:, :2], rows[:, :2] + rows[:, 2:4]]) * factors
        return Faces.from_raw(corners, rows[:, 14], (width, height))


@dataclass(frozen=True)
class Entry:
    """One line of the table: a detector at a test scale. kind: "yunet" or what `facedet.load_detector` takes."""

    label: str
    kind: str
    path: str = ""
    scale: int | None = None

    def build(self, threads: int) -> Any:
        cv2.setNumThreads(threads)
        if self.kind == "yunet":
            return YuNet(self.path, scale=self.scale)
        return load_detector(self.path or self.kind, scale=self.scale, threads=threads, min_score=MIN_SCORE)


@dataclass
class Result:
    """What an entry reached; ms and peak_mb by thread count."""

    entry: Entry
    metrics: dict[str, float | None] = field(default_factory=dict)
    resampled: Mapping[str, Resampled] = field(default_factory=dict)
    ms: dict[int, float] = field(default_factory=dict)
    peak_mb: dict[int, float] = field(default_factory=dict)


def serve(pipe: Connection, entry: Entry, threads: int) -> None:
    """A detector's process: photo paths come in, (faces, milliseconds) go out, at the end the peak memory in MB."""
    detector = entry.build(threads)
    while (path := pipe.recv()) is not None:
        image = read_photo(path)
        start = time.perf_counter()
        faces = detector.detect([image])[0]
        pipe.send((faces, 1000 * (time.perf_counter() - start)))
    pipe.send(peak_memory_mb())


def peak_memory_mb() -> float:
    """Largest resident size of this process so far."""
    try:
        status = Path("/proc/self/status").read_text()
        return int(status.split("VmHWM:")[1].split()[0]) / 1024
    except (OSError, IndexError):
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak / (1024 * 1024 if sys.platform == "darwin" else 1024)


def run(entries: Sequence[Entry], dataset: FaceDataset, threads: int) -> list[tuple[list[Faces], list[float], float]]:
    """For each entry: faces and milliseconds per photo, and peak memory in MB."""
    os.environ["OMP_NUM_THREADS"] = str(threads)
    context = multiprocessing.get_context("spawn")
    pipes, workers = [], []
    for entry in entries:
        ours, theirs = context.Pipe()
        workers.append(context.Process(target=serve, args=(theirs, entry, threads), daemon=True))
        workers[-1].start()
        theirs.close()
        pipes.append(ours)
    found: list[list[Faces]] = [[] for _ in entries]
    ms: list[list[float]] = [[] for _ in entries]
    for number, photo in enumerate([dataset.photos[0], *dataset.photos]):
        for i, pipe in enumerate(pipes):
            pipe.send(photo.path)
            faces, spent = pipe.recv()
            if number:
                found[i].append(faces)
                ms[i].append(spent)
        print(f"\r{threads} thread(s): photo {number} of {len(dataset)}", end="", file=sys.stderr, flush=True)
    print(file=sys.stderr)
    peaks = []
    for pipe, worker in zip(pipes, workers, strict=True):
        pipe.send(None)
        peaks.append(float(pipe.recv()))
        worker.join()
    return list(zip(found, ms, peaks, strict=True))


def table(results: Sequence[Result], protocol: str) -> str:
    """Markdown."""
    threads = sorted(results[0].ms)
    head = ["detector", *SHOWN[protocol], *(f"ms, {t} thread{'s' * (t > 1)}" for t in threads), "peak MB"]
    lines = ["| " + " | ".join(head) + " |", "|---" + "|---:" * (len(head) - 1) + "|"]
    for r in results:
        values = [r.metrics[name] for name in SHOWN[protocol]]
        cells = [r.entry.label, *("-" if v is None else f"{v:.3f}" for v in values)]
        lines.append("| " + " | ".join([*cells, *(f"{r.ms[t]:.1f}" for t in threads), f"{r.peak_mb[1]:.0f}"]) + " |")
    return "\n".join(lines) + "\n"


def differences_from_yunet(results: Sequence[Result], protocol: str, photos: int) -> str:
    """Markdown: compact less YuNet at the same scale, with 95 % intervals over the photos; empty without a pair."""
    yunet = {r.entry.scale: r for r in results if r.entry.kind == "yunet"}
    pairs = [(r, yunet[r.entry.scale]) for r in results if r.entry.kind == "compact" and r.entry.scale in yunet]
    if not pairs:
        return ""
    lines = [
        "| difference, 95 % interval | " + " | ".join(SHOWN[protocol]) + " |",
        "|---" * (len(SHOWN[protocol]) + 1) + "|",
    ]
    for ours, theirs in pairs:
        ends = differences(ours.resampled, theirs.resampled, photos)
        cells = [
            cell(less(ours.metrics[name], theirs.metrics[name]), ends.get(name), sign="+") for name in SHOWN[protocol]
        ]
        lines.append(f"| {ours.entry.label} less {theirs.entry.label} | " + " | ".join(cells) + " |")
    return "\n" + "\n".join(lines) + "\n"


def cell(value: float | None, ends: Interval | None, *, sign: str = "") -> str:
    """A value and its interval, "-" for what could not be measured. sign: "+" for differences."""
    if value is None or ends is None:
        return "-"
    return f"{value:{sign}.3f} [{ends[0]:{sign}.3f}, {ends[1]:{sign}.3f}]"


def less(ours: float | None, theirs: float | None) -> float | None:
    """ours minus theirs, None where either could not be measured."""
    return None if ours is None or theirs is None else ours - theirs


def plot(results: Sequence[Result], protocol: str, path: Path, *, title: str) -> None:
    """Time on one thread, logarithmic, against the metrics; a point per entry, a panel per metric."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(12, 4.2), layout="constrained")
    FigureCanvasAgg(figure)
    figure.suptitle(title)
    for axes, name in zip(figure.subplots(1, 3), SHOWN[protocol], strict=True):
        for r in results:
            value = r.metrics[name] or 0.0
            axes.scatter(r.ms[1], value, s=36, label=r.entry.label)
        axes.set(xscale="log", xlabel="ms per photo, 1 thread", ylabel=name, ylim=(0, 1))
        axes.margins(x=0.25)
        axes.grid(alpha=0.3)
    axes.legend(fontsize=8)
    figure.savefig(str(path), dpi=120)


def machine() -> dict[str, str]:
    """Processor and versions, for the report."""
    model = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        names = [
            line.split(":")[1].strip() for line in cpuinfo.read_text().splitlines() if line.startswith("model name")
        ]
        model = names[0] if names else model
    import onnxruntime

    versions = {"opencv": cv2.__version__, "onnxruntime": onnxruntime.__version__, "python": platform.python_version()}
    return {"processor": model, "cores": str(os.cpu_count()), **versions}


def entries_of(args: argparse.Namespace) -> list[Entry]:
    """Lines of the table, in order."""
    compact = str(args.compact or "")
    entries = [Entry("haar", "haar")]
    if args.yunet:
        entries += [Entry("YuNet native", "yunet", str(args.yunet)), Entry("YuNet 640", "yunet", str(args.yunet), 640)]
    entries += [Entry("compact native", "compact", compact), Entry("compact 640", "compact", compact, 640)]
    if args.faster_rcnn:
        entries.append(Entry("faster_rcnn", "faster_rcnn", str(args.faster_rcnn)))
    return entries


def parse(words: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photos", type=Path, required=True, help="data set folder")
    parser.add_argument("--split", default=None, help="train, val or test of a prepared folder; default all photos")
    parser.add_argument("--limit", type=int, default=0, help="measure this many photos, spread over the set")
    parser.add_argument("--yunet", type=Path, help="YuNet's ONNX file")
    parser.add_argument("--compact", type=Path, help="another compact detector than the shipped one (.onnx)")
    parser.add_argument("--faster-rcnn", type=Path, help="Faster R-CNN checkpoint (.pth)")
    parser.add_argument("--only", action="append", help="measure only this label; may be repeated")
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2], help="thread counts; 1 is always measured")
    parser.add_argument("--out", type=Path, default=Path("runs/benchmark-detectors"), help="folder to write")
    args = parser.parse_args(words)
    for file in filter(None, (args.yunet, args.compact, args.faster_rcnn)):
        if not file.is_file():
            parser.error(f"{file}: no such file")
    labels = [entry.label for entry in entries_of(args)]
    if unknown := set(args.only or ()) - set(labels):
        parser.error(f"--only {', '.join(sorted(unknown))}: expected one of {', '.join(labels)}")
    return args


def main(words: Sequence[str] | None = None) -> None:
    args = parse(words)
    dataset, protocol = load_data(args.photos, split=args.split), "wider" if is_wider(args.photos) else "coco"
    if args.limit:
        chosen = np.linspace(0, len(dataset) - 1, min(args.limit, len(dataset))).astype(int)
        dataset = FaceDataset(dataset.name, dataset.images_dir, tuple(dataset.photos[i] for i in chosen))
    results = [Result(entry) for entry in entries_of(args) if not args.only or entry.label in args.only]
    for threads in sorted({1, *args.threads}):
        rows = run([r.entry for r in results], dataset, threads)
        for result, (found, ms, peak) in zip(results, rows, strict=True):
            result.ms[threads], result.peak_mb[threads] = statistics.median(ms), peak
            if threads == 1:
                measured = measure(dataset, found, protocol)
                result.metrics, result.resampled = measured.metrics, measured.resampled
    args.out.mkdir(parents=True, exist_ok=True)
    about = {**machine(), "set": dataset.name, "photos": str(len(dataset)), "protocol": protocol}
    text = table(results, protocol) + differences_from_yunet(results, protocol, len(dataset))
    (args.out / "detectors.md").write_text(text + "\n" + ", ".join(f"{k} {v}" for k, v in about.items()) + "\n")
    rows_json = [{**asdict(r.entry), "metrics": r.metrics, "ms": r.ms, "peak_mb": r.peak_mb} for r in results]
    (args.out / "detectors.json").write_text(json.dumps({"about": about, "results": rows_json}, indent=1))
    plot(results, protocol, args.out / "detectors.png", title=f"{dataset.name}, {len(dataset)} photos")
    print(text)


if __name__ == "__main__":
    main()
