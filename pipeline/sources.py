"""Which photos a command line means: files, folders (recursive) and globs, in a fixed order, each once."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from pipeline.errors import UsageError

PHOTO_SUFFIXES = frozenset(
    {".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".heic", ".heif", ".avif"}
)
"""What folders are searched for. The last three cannot be decoded: an error line is better than silence."""


@dataclass(frozen=True)
class Source:
    """One photo to read. path: where it is. name: relative path with "/", unique within a run, valid UTF-8."""

    path: Path
    name: str


def find_photos(arguments: Sequence[str | os.PathLike[str]], *, exclude: Path | None = None) -> list[Source]:
    """The photos that files, folders and glob patterns mean, in the order given, sorted within a folder or pattern.

    Names are relative to the folder given, or to the deepest folder that holds all that was given, so that two photos
    of one name in different folders stay apart. Hidden files and what a run wrote into `exclude` (the output folder)
    are left out of folders and patterns. Raises UsageError for what does not exist, and when there is no photo at all.
    """
    skipped = frozenset() if exclude is None else frozenset({_absolute(exclude), _absolute(exclude) / "annotated"})
    roots: list[Path] = []
    found: dict[Path, None] = {}
    for argument in arguments:
        root, paths = _expand(os.fspath(argument), skipped)
        roots.append(root)
        found.update(dict.fromkeys(paths))
    if not found:
        kinds = ", ".join(sorted(PHOTO_SUFFIXES))
        raise UsageError(f"no photos in {', '.join(str(a) for a in arguments) or 'nothing'} (looked for {kinds})")
    return _named(found, roots)


def _expand(argument: str, skipped: frozenset[Path]) -> tuple[Path, list[Path]]:
    """The folder that names are relative to, and the absolute paths, of one argument."""
    path = _absolute(Path(argument))
    if path.is_dir():
        return path, sorted(_walk(path, skipped))
    if os.path.lexists(path):
        return path.parent, [path]
    if glob.has_magic(argument):
        matches = [_absolute(Path(match)) for match in glob.iglob(argument, recursive=True)]
        folder = _fixed_part(argument)
        return folder, sorted(set(_expand_matches(matches, folder, skipped)))
    raise UsageError(f"{argument}: no such file or folder")


def _expand_matches(matches: Iterable[Path], folder: Path, skipped: frozenset[Path]) -> Iterator[Path]:
    for match in matches:
        if match.is_dir():
            yield from _walk(match, skipped)
        elif _is_wanted(match, folder, skipped):
            yield match


def _fixed_part(pattern: str) -> Path:
    """The deepest folder of a glob pattern that holds no wildcard."""
    parts = Path(pattern).parts
    fixed = [part for i, part in enumerate(parts) if not any(glob.has_magic(p) for p in parts[: i + 1])]
    return _absolute(Path(*fixed))


def _walk(folder: Path, skipped: frozenset[Path]) -> Iterator[Path]:
    for root, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".") and Path(root, name) not in skipped]
        yield from (path for name in files if _is_wanted(path := Path(root, name), folder, skipped))


def _is_wanted(path: Path, folder: Path, skipped: frozenset[Path]) -> bool:
    if path.name.startswith(".") or path.suffix.lower() not in PHOTO_SUFFIXES:
        return False
    below = path.relative_to(folder).parents
    return not any(folder / parent in skipped for parent in below if parent != Path())


def _named(paths: Iterable[Path], roots: Sequence[Path]) -> list[Source]:
    base = Path(os.path.commonpath(roots))
    return [Source(path, valid_text(path.relative_to(base).as_posix())) for path in paths]


def _absolute(path: Path) -> Path:
    return Path(os.path.abspath(path))


def valid_text(name: str) -> str:
    """The name with bytes that are not UTF-8 (POSIX file names may hold any) written as \\xNN."""
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
