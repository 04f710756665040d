"""Pascal VOC: one XML file per photo.

Read here and not by supervision, which gives up at the first photo that cannot be decoded and forgets `difficult`.
Coordinates are VOC's: pixels counted from 1, the far corner included, so only the near corner moves by one.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from xml.etree import ElementTree

import numpy as np

from facedet.data.coco import SPLITS
from facedet.data.raw import RawPhoto, corners_array, read_text
from facedet.data.source_files import find_files, find_photos, split_of_place
from facedet.errors import DataError

PHOTO_FOLDERS = ("JPEGImages", "images")
LABEL_FOLDERS = ("Annotations", "annotations")


def read_voc(
    folder: str | Path,
    *,
    images: str | Path | None = None,
    classes: Collection[str] = ("face",),
    without: Path | None = None,
) -> list[RawPhoto]:
    """Every XML file below `folder`. Photos are looked up in `images` (default: `folder`).

    A photo lies in the same subfolder as its XML file (JPEGImages for Annotations, images for annotations), else in the
    one that <filename> or <folder> names, and is called as declared or as the XML file; else it is the only one called
    so, and no other XML file's. Where several files declare one photo, it is that of the file that is called as it is.
    In the set it is named by its path, without JPEGImages and images.
    classes: names that count as faces, any case. `difficult` faces are to be ignored.
    without: folder that is no part of the set, as other prepared folders are not.
    A photo's split is that of ImageSets/Main/, else the one that a folder of its XML file or of itself is called by.
    Raises DataError naming the file, also when there is none, and when several photos or files fit.
    """
    folder = Path(folder)
    files = [file for file in find_files(folder, without=without) if file.suffix == ".xml"]
    if not files:
        raise DataError(f"{folder}: expected Pascal VOC XML files, found none")
    photos = _Photos(Path(images or folder), without)
    splits = _listed_splits(folder)
    labels = [_read_file(file, file.relative_to(folder), {c.lower() for c in classes}) for file in files]
    exact = [photos.at_its_place(label) for label in labels]
    while stale := _stale(labels, exact):
        for i in stale:
            labels[i] = labels[i].by_own_name()
            exact[i] = photos.at_its_place(labels[i])
    alone = [None if place else photos.by_name_alone(label) for label, place in zip(labels, exact, strict=True)]
    claims = Counter([*exact, *alone])
    places = [place or (other if claims[other] == 1 else None) for place, other in zip(exact, alone, strict=True)]
    raws = []
    for label, place in zip(labels, places, strict=True):
        split = splits.get(label.file.with_suffix("")) or split_of_place(label.file.relative_to(folder).as_posix())
        raw = replace(label.raw, split=split or split_of_place(place or ""))
        raws.append(replace(raw, name=photos.names[place], path=photos.root / place) if place else raw)
    return raws


@dataclass(frozen=True, eq=False)
class _Labels:
    """One XML file: its faces, and where it says its photo is. folders: the likeliest first, "" for the top."""

    file: Path
    raw: RawPhoto
    folders: tuple[str, ...]
    file_name: str

    def by_own_name(self) -> _Labels:
        """The same, its photo being called as the XML file instead of as it says."""
        name = PurePosixPath(self.raw.name).with_name(self.file.stem).as_posix()
        return replace(self, raw=replace(self.raw, name=name), file_name="")


class _Photos:
    """The photos below `root` by their place, a relative path with forward slashes. names: place -> name in the set."""

    def __init__(self, root: Path, without: Path | None) -> None:
        self.root = root
        places = [photo.relative_to(root).as_posix() for photo in find_photos(root, without=without)]
        short = {place: _without(place, PHOTO_FOLDERS) for place in places}
        shared = Counter(short.values())
        self.names = {place: name if shared[name] == 1 else place for place, name in short.items()}
        self._places = {place: [place] for place in places}
        self._stems = _grouped(places, lambda place: str(place.with_suffix("")))
        self._names_alone = _grouped(places, lambda place: place.name)
        self._stems_alone = _grouped(places, lambda place: place.stem)

    def at_its_place(self, label: _Labels) -> str | None:
        """The photo where the XML file and its <folder> say; None when it is not there."""
        for at in label.folders:
            prefix = f"{at}/" if at else ""
            place = self._one(label, self._places, prefix + label.file_name)
            if place := place or self._one(label, self._stems, prefix + label.file.stem):
                return place
        return None

    def by_name_alone(self, label: _Labels) -> str | None:
        """The only photo with that file name, wherever it is."""
        place = self._one(label, self._names_alone, label.file_name)
        return place or self._one(label, self._stems_alone, label.file.stem)

    def _one(self, label: _Labels, index: dict[str, list[str]], key: str) -> str | None:
        found = index.get(key, [])
        if len(found) > 1:
            raise DataError(
                f"{label.file}: {len(found)} photos below {self.root} are called {key}, among them {found[0]} and "
                f"{found[1]}: expected the XML file in its photo's subfolder, or a <folder> that names it"
            )
        return found[0] if found else None


def _stale(labels: Sequence[_Labels], places: Sequence[str | None]) -> list[int]:
    """Which of the labels have one photo with others and another name; DataError where two have its name."""
    owners: dict[str, list[int]] = {}
    for i, place in enumerate(places):
        if place:
            owners.setdefault(place, []).append(i)
    stale = []
    for place, several in owners.items():
        if len(several) > 1:
            of_its_name = [labels[i].file for i in several if labels[i].file.stem == PurePosixPath(place).stem]
            if len(of_its_name) > 1:
                raise DataError(
                    f"{of_its_name[0]} and {of_its_name[1]}: both are of {place}: expected one file a photo"
                )
            stale += [i for i in several if labels[i].file not in of_its_name]
    return stale


def _listed_splits(folder: Path) -> dict[Path, str]:
    """XML file without its suffix -> its split by ImageSets/Main/train.txt, val.txt or test.txt; in two it has none."""
    listed: dict[Path, set[str]] = {}
    for split in SPLITS:
        for file in folder.rglob(f"ImageSets/Main/{split}.txt"):
            for line in read_text(file).splitlines():
                for labels in LABEL_FOLDERS:
                    listed.setdefault(file.parents[2] / labels / line.strip(), set()).add(split)
    return {name: min(splits) for name, splits in listed.items() if len(splits) == 1}


def _grouped(places: Sequence[str], key: Callable[[PurePosixPath], str]) -> dict[str, list[str]]:
    groups: dict[str, list[str]] = {}
    for place in places:
        groups.setdefault(key(PurePosixPath(place)), []).append(place)
    return groups


def _without(place: str, folders: Collection[str]) -> str:
    return "/".join(part for part in place.split("/") if part not in folders)


def _read_file(file: Path, place: Path, classes: set[str]) -> _Labels:
    try:
        data = file.read_bytes()
        if any(mark in data.replace(b"\0", b"") for mark in (b"<!DOCTYPE", b"<!ENTITY")):  # zeros: of UTF-16
            raise DataError(f"{file}: expected plain Pascal VOC XML, found a document type (entities are not read)")
        root = ElementTree.fromstring(_utf8(data) or data)
        rows, ignore = [], []
        for item in root.iter("object"):
            if _text(item, "name").strip().lower() in classes:
                x1, y1, x2, y2 = (float(_text(item, f"bndbox/{side}")) for side in ("xmin", "ymin", "xmax", "ymax"))
                rows.append([min(x1, x2) - 1, min(y1, y2) - 1, max(x1, x2), max(y1, y2)])
                ignore.append(item.findtext("difficult", "0").strip() == "1")
        width, height = (int(float(root.findtext(f"size/{side}", "0"))) for side in ("width", "height"))
    except (OSError, LookupError, ElementTree.ParseError, ValueError, OverflowError) as e:
        raise DataError(f"{file}: not Pascal VOC as expected: {e}") from e
    declared = (width, height) if width and height else None
    at, _, file_name = root.findtext("filename", "").replace("\\", "/").strip().rpartition("/")
    own = place.parent.as_posix().removeprefix(".")
    name = "/".join(part for part in (_without(own, LABEL_FOLDERS), file_name or file.stem) if part)
    raw = RawPhoto(name, corners_array(rows), np.array(ignore, np.bool_), declared_wh=declared)
    return _Labels(file, raw, _folders(own, at, root.findtext("folder", "")), file_name)


def _utf8(data: bytes) -> str | None:
    """UTF-8 text, whatever encoding it declares; None for bytes of another encoding."""
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        return None


def _folders(own: str, *declared: str) -> tuple[str, ...]:
    beside = dict(zip(LABEL_FOLDERS, PHOTO_FOLDERS, strict=True))
    named = [folder.replace("\\", "/").strip().strip("/").removeprefix("./") for folder in declared]
    return own, "/".join(beside.get(part, part) for part in own.split("/")), *filter(None, named)


def _text(item: ElementTree.Element, path: str) -> str:
    text = item.findtext(path)
    if text is None:
        raise ValueError(f"an object has no <{path}>")
    return text
