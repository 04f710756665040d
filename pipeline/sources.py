"""Which photos a command line means: files, folders, globs, lists and URLs, in a fixed order, each once."""

from __future__ import annotations

import codecs
import glob
import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path, PurePosixPath

from pipeline.errors import UsageError
from pipeline.photos import DEFAULT_MAX_PIXELS, Photo, load_photo, probe_size_wh
from pipeline.web import DEFAULT_LIMITS, WebLimits, fetch, is_url, name_of_url

PHOTO_SUFFIXES = frozenset(
    {".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".heic", ".heif", ".avif"}
)
"""What folders are searched for. HEIC needs the extra `heic`: without it an error line is better than silence."""
URL_PIXELS = 4_000_000
"""What a photo behind a URL is taken for before it is fetched."""


@dataclass(frozen=True)
class Source:
    """One photo to read. at: its path, or its URL as text. name: relative path with "/", unique, valid UTF-8."""

    at: Path | str
    name: str

    def load(self, *, max_pixels: int = DEFAULT_MAX_PIXELS, web: WebLimits = DEFAULT_LIMITS) -> Photo:
        """Fetch and decode it. Raises PhotoError."""
        return load_photo(fetch(self.at, limits=web) if isinstance(self.at, str) else self.at, max_pixels=max_pixels)

    def mark(self) -> tuple[str | int, ...]:
        """What tells it from other photos: name, place and, where there is such a file, bytes and time of change."""
        try:
            status = os.stat(self.at) if isinstance(self.at, Path) else None
        except (OSError, ValueError):  # ValueError: a name with a NUL
            status = None
        return (self.name, str(self.at), *(() if status is None else (status.st_size, status.st_mtime_ns)))

    def probe_pixels(self) -> int:
        """Its size in pixels by its header, 0 when that cannot be read; for URLs a guess."""
        if isinstance(self.at, str):
            return URL_PIXELS
        width, height = probe_size_wh(self.at) or (0, 0)
        return width * height


def find_photos(
    arguments: Sequence[str | os.PathLike[str]], *, listed: Sequence[str] = (), exclude: Path | None = None
) -> list[Source]:
    """The photos that files, folders, glob patterns and URLs mean, in the order given, sorted within a folder.

    listed: more files and URLs, taken as they are: one that does not exist is an error of that photo, not of the run.
    Names are relative to the folder given, or to the deepest folder that holds all that was given, so that two photos
    of one name in different folders stay apart. Hidden files and what a run wrote into `exclude` (the output folder)
    are left out of folders and patterns. A folder below that cannot be listed takes the place of its photos, so that
    reading it tells why. Raises UsageError for what is empty or does not exist, for a folder given that cannot be
    listed, and when there is no photo at all.
    """
    out = None if exclude is None else os.path.realpath(exclude)
    skipped = frozenset() if out is None else frozenset({out, os.path.join(out, "annotated")})
    roots: list[Path] = []
    found: dict[Path | str, None] = {}
    for argument in [os.fspath(argument) for argument in arguments]:
        if is_url(argument):
            found[argument] = None
            continue
        root, paths = _expand(argument, skipped)
        roots.append(root)
        found.update(dict.fromkeys(paths))
    for line in listed:
        at = line if is_url(line) else _absolute(Path(_at_home(line)))
        found[at] = None
        if isinstance(at, Path):
            roots.append(at.parent)
    if not found:
        kinds = ", ".join(sorted(PHOTO_SUFFIXES))
        raise UsageError(f"no photos in {', '.join(map(str, arguments)) or 'the list'} (looked for {kinds})")
    return _named(found, roots)


def _expand(argument: str, skipped: frozenset[str]) -> tuple[Path, list[Path]]:
    """The folder that names are relative to, and the absolute paths, of one argument. skipped: folders' real paths."""
    if not argument:
        raise UsageError("expected photos, folders, globs or URLs, got an empty argument")
    argument = _at_home(argument)
    path = _absolute(Path(argument))
    if os.path.isdir(path):
        try:
            os.scandir(path).close()
        except OSError as error:
            raise UsageError(f"{path}: cannot be listed: {error.strerror}") from error
        return path, sorted(_walk(path, skipped))
    if os.path.lexists(path):
        return path.parent, [path]
    if glob.has_magic(argument):
        matches = [_absolute(Path(match)) for match in glob.iglob(argument, recursive=True)]
        folder = _fixed_part(argument)
        paths = sorted(set(_expand_matches(matches, folder, skipped)))
        return Path(os.path.commonpath([folder, *(path.parent for path in paths)])), paths
    raise UsageError(f"{argument}: {_why_missing(path)}")


def _why_missing(path: Path) -> str:
    """What to tell about a path that is not there, or that lies where nobody may look."""
    try:
        os.lstat(path)
    except (OSError, ValueError) as error:  # ValueError: a name with a NUL
        if not isinstance(error, FileNotFoundError | NotADirectoryError):
            return f"cannot be opened: {getattr(error, 'strerror', None) or error}"
    return "no such file or folder"


def _expand_matches(matches: Iterable[Path], folder: Path, skipped: frozenset[str]) -> Iterator[Path]:
    real_path = cache(os.path.realpath)  # many files lie in one folder
    for match in matches:
        is_folder = os.path.isdir(match)
        places = [match, *match.parents] if is_folder else match.parents
        if any(real_path(place) in skipped for place in places if folder in place.parents):
            continue
        if is_folder:
            yield from _walk(match, skipped)
        elif _is_wanted(match):
            yield match


def _fixed_part(pattern: str) -> Path:
    """The deepest folder of a glob pattern that holds no wildcard."""
    parts = Path(pattern).parts
    fixed = [part for i, part in enumerate(parts) if not any(glob.has_magic(p) for p in parts[: i + 1])]
    return _absolute(Path(*fixed))


def _walk(folder: Path, skipped: frozenset[str]) -> Iterator[Path]:
    """Photos in a folder, and folders that cannot be listed: their photos must not go missing without a word."""
    unlisted: list[Path] = []
    for root, folders, files in os.walk(folder, onerror=lambda error: unlisted.append(Path(error.filename))):
        seen = [name for name in folders if not name.startswith(".")]
        folders[:] = [name for name in seen if os.path.realpath(os.path.join(root, name)) not in skipped]
        yield from (path for name in files if _is_wanted(path := Path(root, name)))
    yield from unlisted


def _is_wanted(path: Path) -> bool:
    return not path.name.startswith(".") and path.suffix.lower() in PHOTO_SUFFIXES


def read_list(path: Path | None) -> list[str]:
    """Paths and URLs out of a file, or of standard input when None: one per line, or ended by NUL (`find -print0`).

    Raises UsageError when it cannot be read or is UTF-16.
    """
    if path is None and sys.stdin is None:
        raise UsageError("standard input: cannot be read: it is closed")
    try:
        data = sys.stdin.buffer.read() if path is None else path.read_bytes()
    except OSError as error:
        raise UsageError(f"{path or 'standard input'}: cannot be read: {error.strerror or error}") from error
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        raise UsageError(f"{path or 'standard input'}: expected UTF-8 text, got UTF-16")
    data = data.removeprefix(codecs.BOM_UTF8)
    parts = data.split(b"\0") if b"\0" in data else data.splitlines()
    return [os.fsdecode(part) for part in parts if part.strip()]


def _named(places: Iterable[Path | str], roots: Sequence[Path]) -> list[Source]:
    base = Path(os.path.commonpath(roots)) if roots else Path()
    sources: dict[str, Source] = {}
    for at in places:
        name = name_of_url(at) if isinstance(at, str) else valid_text(at.relative_to(base).as_posix())
        number = 1
        while name in sources:  # two URLs, or a URL and a path, may come to one name
            number += 1
            name = str(PurePosixPath(name).with_stem(f"{PurePosixPath(name).stem}-{number}"))
        sources[name] = Source(at, name)
    return list(sources.values())


def _at_home(path: str) -> str:
    """`~` and `~user` at the start of a path, where no shell has replaced them and nothing has that name."""
    return os.path.expanduser(path) if path.startswith("~") and not os.path.lexists(path) else path


def _absolute(path: Path) -> Path:
    return Path(os.path.abspath(path))


def valid_text(name: str) -> str:
    """The name with bytes that are not UTF-8 (POSIX file names may hold any) written as \\xNN."""
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
