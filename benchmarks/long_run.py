"""Long runs of `crowdmood annotate`: photos per second with one and two workers, peak memory at 100 and 1,000 photos.

    python benchmarks/long_run.py PHOTOS [--detector haar] [--emotion default] [--photos 100 1000] [--workers 1 2]

PHOTOS is a folder of any number of photos; they are linked as often as needed. Every measurement is a process of its
own, and its peak memory is what the system says of that process. Prints a Markdown table.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import platform
import subprocess
import sys
import tempfile
from pathlib import Path

from pipeline.sources import find_photos


def link_photos(folder: Path, count: int, target: Path) -> Path:
    """A folder with `count` links to the photos of another, taken in turn."""
    target.mkdir()
    photos = itertools.cycle(find_photos([folder]))
    for number in range(count):
        source = next(photos).at
        (target / f"{number:05d}{Path(source).suffix}").symlink_to(source)
    return target


def measure(photos: Path, out: Path, options: list[str]) -> tuple[dict[str, float], float]:
    """The run's own summary, and its peak memory in MB."""
    words = [sys.executable, "-m", "pipeline", "annotate", str(photos), "-o", str(out), "--json", *options]
    process = subprocess.Popen(words, stdout=subprocess.PIPE)
    assert process.stdout is not None
    text = process.stdout.read()
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode not in (0, 1):
        raise SystemExit(f"the run failed with exit code {process.returncode}")
    unit = 1 if sys.platform == "darwin" else 1024
    return json.loads(text), usage.ru_maxrss * unit / 1e6


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--detector", default=None)
    parser.add_argument("--emotion", default="default")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--photos", type=int, nargs="+", default=[100, 1000])
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2])
    arguments = parser.parse_args()
    model = [
        "--no-fallback",
        "--emotion",
        arguments.emotion,
        *(["--detector", arguments.detector] if arguments.detector else []),
    ]
    machine = platform.processor() or platform.machine()
    load = os.getloadavg()[0]
    print(f"{machine}, {os.cpu_count()} cores, load {load:.1f}, {arguments.threads} thread(s) per model and worker\n")
    print("| photos | workers | photos per second | faces | peak memory, MB |")
    print("|---:|---:|---:|---:|---:|")
    with tempfile.TemporaryDirectory() as folder:
        for count in arguments.photos:
            photos = link_photos(arguments.folder, count, Path(folder) / f"{count}")
            for workers in arguments.workers:
                options = [*model, "--threads", str(arguments.threads), "--workers", str(workers)]
                summary, megabytes = measure(photos, Path(folder) / f"out-{count}-{workers}", options)
                speed, faces = summary["photos_per_second"], summary["faces"]
                print(f"| {count} | {workers} | {speed:.1f} | {faces} | {megabytes:.0f} |", flush=True)


if __name__ == "__main__":
    main()
