"""A run's memory in its output folder: what is done so far, so that a killed run can go on, and a lock.

`OUT/.crowdmood/journal.jsonl` begins with a line that says which run this is; then each line holds the readings of one
block of photos, in order. A line is whole or it does not count. The folder is removed when the run has finished.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from io import FileIO
from pathlib import Path
from typing import IO, Any

from pipeline.errors import OutputError
from pipeline.reading import PhotoReading

STATE_FOLDER = ".crowdmood"


class Journal:
    """The state folder of one run, locked while the object lives. Use as a context manager."""

    def __init__(self, out: Path) -> None:
        """Make `out` if needed and lock it. Raises OutputError when it cannot be written or another run has it."""
        self._out = out
        self.folder = out / STATE_FOLDER
        self._path = self.folder / "journal.jsonl"
        self._lines: FileIO | None = None
        self._finished = False
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            self._lock = _lock(self.folder / "lock")
        except BlockingIOError:
            raise OutputError(f"{out}: another run is writing here; wait for it, or choose another folder") from None
        except OSError as error:
            raise OutputError(f"{out}: cannot be written: {error.strerror or error}") from error

    def __enter__(self) -> Journal:
        return self

    def __exit__(self, *_: object) -> None:
        if self._lines is not None:
            self._lines.close()
        if not self._finished and self.folder.exists() and not self._path.exists():
            shutil.rmtree(self.folder)  # nothing to go on from: locked only
        self._lock.close()

    def begin(self, run: Mapping[str, Any]) -> None:
        """Start afresh; `run` says which run this is."""
        self._lines = self._path.open("wb", buffering=0)
        self._write({"run": dict(run)})

    def resume(self, run: Mapping[str, Any]) -> int:
        """Go on with what is there, or begin when nothing is; returns how many photos are done.

        Raises OutputError when what is there belongs to a run of other photos or settings.
        """
        length, before, done = self._scan()
        if before is None:
            self.begin(run)
            return 0
        changed = sorted(key for key in {*before, *run} if before.get(key) != run.get(key))
        if changed:
            was = ", ".join(f"{key} {before.get(key)!r} is now {run.get(key)!r}" for key in changed)
            raise OutputError(f"{self._out}: holds another unfinished run: {was}; give the same, or leave out --resume")
        self._lines = self._path.open("r+b", buffering=0)
        self._lines.truncate(length)
        self._lines.seek(length)
        return done

    @property
    def unfinished(self) -> int:
        """How many photos an earlier run left here, done but not finished."""
        return self._scan()[2]

    def append(self, readings: Sequence[PhotoReading]) -> None:
        """Note one block of photos as done."""
        self._write({"readings": [reading.to_dict() for reading in readings]})

    def readings(self) -> Iterator[PhotoReading]:
        """All readings noted so far, in order, one block in memory at a time."""
        for _, block in self._blocks():
            yield from (PhotoReading.from_dict(reading) for reading in block.get("readings", ()))

    def finish(self) -> None:
        """Forget: the results are written."""
        if self._lines is not None:
            self._lines.close()
            self._lines = None
        self._finished = True  # a folder of that name is another run's from now on
        shutil.rmtree(self.folder)

    def _write(self, entry: Mapping[str, Any]) -> None:
        if self._lines is None:
            raise RuntimeError("begin or resume comes first")
        line = memoryview(json.dumps(entry, ensure_ascii=False).encode() + b"\n")
        while line:  # unbuffered, so that nothing is left to be written again when the disk is full
            line = line[self._lines.write(line) :]

    def _scan(self) -> tuple[int, dict[str, Any] | None, int]:
        """Length in bytes of the whole lines, the run they belong to (None: there is none), photos done."""
        length, run, done = 0, None, 0
        for end, block in self._blocks():
            length = end
            run = block.get("run", run)
            done += len(block.get("readings", ()))
        return length, run, done

    def _blocks(self) -> Iterator[tuple[int, dict[str, Any]]]:
        """Each whole line, and where it ends; a line cut off by a kill, and all after it, do not count."""
        if not self._path.exists():
            return
        with self._path.open("rb") as lines:
            for line in lines:
                try:
                    block = json.loads(line) if line.endswith(b"\n") else None
                except ValueError:
                    block = None
                if not isinstance(block, dict):
                    return
                yield lines.tell(), block


def _lock(path: Path) -> IO[bytes]:
    """An exclusive lock that the system lifts when this process ends, however it ends. Raises BlockingIOError."""
    while True:
        lock = path.open("ab")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if path.exists() and os.fstat(lock.fileno()).st_ino == path.stat().st_ino:
                return lock
        except BaseException:
            lock.close()
            raise
        lock.close()  # a run that finished just now has removed the file that we locked
        path.parent.mkdir(parents=True, exist_ok=True)
