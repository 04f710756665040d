"""The three layouts of FER-2013, FER+ votes, and every way in which they can be wrong."""

from __future__ import annotations

import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from emotion import EMOTIONS, DataError
from emotion.data import (
    count_report,
    drop_duplicates,
    ferplus_majority,
    load_fer2013,
    load_ferplus_votes,
    load_split_if_any,
    load_training,
    votes_of,
)
from tests.emotion.factories import (
    csv_row,
    make_split,
    png_bytes,
    write_csv,
    write_folder,
    write_microsofts_votes,
    write_votes,
    write_zip,
)

SPLITS = {"train": make_split(3, 1), "public": make_split(1, 2), "private": make_split(2, 3)}
FACE = make_split(1).images[0]


@pytest.mark.parametrize(
    ("name", "write"), [("fer2013.csv", write_csv), ("archive.zip", write_zip), ("unpacked", write_folder)]
)
@pytest.mark.parametrize("split", ["train", "public", "private"])
def test_layouts_give_the_same_faces(tmp_path: Path, name: str, write: Callable[..., Path], split: str) -> None:
    loaded = load_fer2013(write(tmp_path / name, SPLITS), split)
    expected = SPLITS[split]
    assert len(loaded) == len(expected)
    assert loaded.images.dtype == np.uint8
    pairs = {(int(k), i.tobytes()) for k, i in zip(loaded.labels, loaded.images, strict=True)}
    assert pairs == {(int(k), i.tobytes()) for k, i in zip(expected.labels, expected.images, strict=True)}


def test_labels_come_from_folder_names(tmp_path: Path) -> None:
    loaded = load_fer2013(write_zip(tmp_path / "a.zip", SPLITS), "public")
    assert [name.split("/")[1] for name in loaded.names] == [EMOTIONS[k] for k in loaded.labels]


HEAD = "emotion,pixels,Usage\n"
CSV_FAULTS = {
    "no rows": (HEAD, "no image of split 'train'"),
    "empty file": ("", "missing Usage, emotion, pixels, found none"),
    "wrong columns": ("label,pixels,Usage\n", "missing emotion, found label, pixels, Usage"),
    "too few pixels": (HEAD + "0,1 2 3,Training\n", ":2: 3 pixels: expected 2304 (48x48)"),
    "too many pixels": (HEAD + f"0,{' '.join(['0'] * 2305)},Training\n", ":2: 2305 pixels: expected 2304"),
    "no number": (HEAD + f"0,{' '.join(['x'] * 2304)},Training\n", ":2: pixels: invalid literal"),
    "unknown label": (HEAD + csv_row(7, FACE, "Training"), ":2: emotion '7': expected a number from 0 to 6"),
    "label no number": (HEAD + csv_row("angry", FACE, "Training"), ":2: emotion 'angry'"),
    "unknown usage": (HEAD + csv_row(0, FACE, "Test"), ":2: unknown Usage 'Test'"),
    "no label": (f"Usage,pixels,emotion\nTraining,{' '.join(['0'] * 2304)}\n", ":2: emotion None: expected a number"),
    "short row": (HEAD + csv_row(0, FACE, "Training") + "0,1 2\n", ":3: unknown Usage None"),
}


@pytest.mark.parametrize("fault", CSV_FAULTS)
def test_csv_faults_name_the_line(tmp_path: Path, fault: str) -> None:
    content, message = CSV_FAULTS[fault]
    path = tmp_path / "fer2013.csv"
    path.write_text(content)
    with pytest.raises(DataError) as raised:
        load_fer2013(path, "train")
    assert message in str(raised.value)
    assert str(path) in str(raised.value)


@pytest.mark.parametrize("value", ["256", "-1"])
def test_pixel_out_of_range_is_named(tmp_path: Path, value: str) -> None:
    path = tmp_path / "fer2013.csv"
    path.write_text(HEAD + f"0,{value} {' '.join(['0'] * 2303)},Training\n")
    with pytest.raises(DataError, match=f":2: pixel value {value}: expected 0 to 255"):
        load_fer2013(path, "train")


def test_csv_of_another_encoding_is_damaged(tmp_path: Path) -> None:
    path = tmp_path / "fer2013.csv"
    path.write_bytes(HEAD.encode() + b"\xff\xfe\n")
    with pytest.raises(DataError, match="damaged after the start"):
        load_fer2013(path, "train")


def test_csv_with_byte_order_mark_is_read(tmp_path: Path) -> None:
    path = write_csv(tmp_path / "fer2013.csv", SPLITS)
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    assert len(load_fer2013(path, "train")) == 21


ZIP_FAULTS = {
    "empty file": ("train/happy/Training_1.jpg", b"", "not a readable image"),
    "no image": ("train/happy/Training_1.jpg", b"text", "not a readable image"),
    "unknown label": ("train/joy/Training_1.jpg", png_bytes(FACE), "unknown label folder 'joy'"),
    "other size": ("train/sad/Training_1.jpg", png_bytes(FACE[:40]), "48x40 pixels: expected 48x48"),
}


@pytest.mark.parametrize("fault", ZIP_FAULTS)
@pytest.mark.parametrize("as_folder", [False, True])
def test_image_faults_name_the_file(tmp_path: Path, fault: str, as_folder: bool) -> None:
    name, content, message = ZIP_FAULTS[fault]
    path = tmp_path / "data"
    if as_folder:
        (path / name).parent.mkdir(parents=True)
        (path / name).write_bytes(content)
    else:
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr(name, content)
    with pytest.raises(DataError) as raised:
        load_fer2013(path, "train")
    assert message in str(raised.value)
    assert name in str(raised.value)


def test_damaged_member_of_a_zip_is_a_data_error(tmp_path: Path) -> None:
    path = write_zip(tmp_path / "archive.zip", SPLITS)
    data = bytearray(path.read_bytes())
    data[200] ^= 0xFF
    path.write_bytes(data)
    with pytest.raises(DataError, match="damaged after"):
        load_fer2013(path, "train")


def test_missing_path_unknown_split_and_foreign_file(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no such file or folder; expected fer2013\.csv"):
        load_fer2013(tmp_path / "nothing", "train")
    with pytest.raises(DataError, match="unknown split 'test': expected one of train, public, private"):
        load_fer2013(tmp_path, "test")
    (tmp_path / "notes.txt").write_text("x")
    with pytest.raises(DataError, match=r"notes.txt: expected fer2013.csv, archive.zip"):
        load_fer2013(tmp_path / "notes.txt", "train")


def test_empty_split_is_named(tmp_path: Path) -> None:
    path = write_zip(tmp_path / "archive.zip", {"train": SPLITS["train"]})
    with pytest.raises(DataError, match=r"no image of split 'private' \(PrivateTest\) found"):
        load_fer2013(path, "private")


def test_a_missing_split_is_none_but_a_damaged_one_is_an_error(tmp_path: Path) -> None:
    path = write_zip(tmp_path / "archive.zip", {"train": SPLITS["train"]})
    assert load_split_if_any(path, "private") is None
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("test/sad/PrivateTest_1.jpg", b"")
    with pytest.raises(DataError, match="not a readable image"):
        load_split_if_any(path, "private")


def test_count_report_tells_the_difference() -> None:
    assert count_report("public", SPLITS["public"]) == "split 'public' has 7 images; the official FER-2013 has 3,589"


def test_duplicates_are_dropped_from_training() -> None:
    train, public = SPLITS["train"], SPLITS["public"]
    images = train.images.copy()
    images[4] = public.images[0]
    kept, dropped = drop_duplicates(type(train)(images, train.labels, train.names), public)
    assert dropped == 1
    assert kept.names == tuple(n for i, n in enumerate(train.names) if i != 4)


@pytest.mark.parametrize(("present", "dropped"), [(("public", "private"), 2), (("public",), 1)])
def test_training_goes_without_what_other_splits_hold(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, present: tuple[str, ...], dropped: int
) -> None:
    train = SPLITS["train"]
    images = train.images.copy()
    images[4], images[7] = SPLITS["public"].images[0], SPLITS["private"].images[0]
    splits = {"train": type(train)(images, train.labels, train.names)} | {name: SPLITS[name] for name in present}
    kept, public, count = load_training(write_zip(tmp_path / "archive.zip", splits))
    assert (len(kept), count) == (len(train) - dropped, dropped)
    np.testing.assert_array_equal(np.sort(public.images, axis=0), np.sort(SPLITS["public"].images, axis=0))
    assert ("has no PrivateTest" in caplog.text) == ("private" not in present)


def test_classes_that_no_image_has(tmp_path: Path) -> None:
    path = write_zip(tmp_path / "archive.zip", {"train": make_split(1).of_classes(("happy", "sad"))})
    with pytest.raises(DataError, match=r"archive\.zip, split 'train': no image is labelled fear or neutral"):
        load_fer2013(path, "train").of_classes(("fear", "neutral"))


def test_of_classes_maps_labels_by_name() -> None:
    four = SPLITS["train"].of_classes(("happy", "sad", "surprise", "neutral"))
    assert len(four) == 12
    assert [n.split("/")[1] for n in four.names] == [("happy", "sad", "surprise", "neutral")[k] for k in four.labels]


def test_ferplus_votes_follow_the_names(tmp_path: Path) -> None:
    path = write_votes(tmp_path / "votes.csv", ("a", "b"), ["fear", "neutral"])
    votes = load_ferplus_votes(path, ("b", "unknown", "a"))
    assert votes.tolist() == [[9, 1, 0, 0, 0, 0, 0, 0], [0] * 8, [1, 0, 0, 0, 0, 0, 9, 0]]


def test_microsofts_file_goes_by_the_lines_of_the_csv(tmp_path: Path) -> None:
    split = load_fer2013(write_csv(tmp_path / "fer2013.csv", {"train": SPLITS["train"]}), "train")
    path = write_microsofts_votes(tmp_path / "fer2013new.csv", ["fear", "anger", "sadness"], ["Training"] * 3)
    votes = load_ferplus_votes(path, split.names)
    assert ferplus_majority(votes)[:4].tolist() == [EMOTIONS.index(e) for e in ("fear", "angry", "sad")] + [-1]


def test_microsofts_file_belongs_to_the_whole_csv(tmp_path: Path) -> None:
    """Without one of Training's images, the votes of all later ones would go to their neighbours."""
    train, public = SPLITS["train"], SPLITS["public"]
    usages = ["Training"] * len(train) + ["PublicTest"] * len(public)
    path = write_microsofts_votes(tmp_path / "fer2013new.csv", ["fear"] * len(usages), usages)
    whole = load_fer2013(write_csv(tmp_path / "fer2013.csv", {"train": train, "public": public}), "public")
    assert votes_of(whole, path).any(1).all()
    fewer = train.subset(np.arange(len(train)) != 3)
    shifted = load_fer2013(write_csv(tmp_path / "sub.csv", {"train": fewer, "public": public}), "public")
    with pytest.raises(DataError, match=r"fer2013new\.csv:22: Usage 'Training', but 'PublicTest' in the same line of "):
        votes_of(shifted, path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("file,neutral\n", "missing column anger"),
        (None, "no such file; expected FER[+] votes"),
        ("word", ":2: expected"),
    ],
)
def test_ferplus_faults(tmp_path: Path, content: str | None, message: str) -> None:
    path = tmp_path / "votes.csv"
    if content == "word":
        write_votes(path, ("a",), ["fear"])
        path.write_text(path.read_text().replace(",9,", ",nine,"))
    elif content is not None:
        path.write_text(content)
    with pytest.raises(DataError, match=message):
        load_ferplus_votes(path, ("a",))


@pytest.mark.parametrize("count", ["nan", "inf", "-inf", "-3", ""])
def test_votes_are_numbers_of_people(tmp_path: Path, count: str) -> None:
    path = write_votes(tmp_path / "votes.csv", ("a",), ["fear"])
    path.write_text(path.read_text().replace(",9,", f",{count},"))
    with pytest.raises(DataError, match=rf"votes\.csv:2: expected a number of votes .*, 0 or more, got fear '{count}'"):
        load_ferplus_votes(path, ("a",))


@pytest.mark.parametrize("content", [b"\x89PNG\r\n\xff\xfe", b"file,g\xeane\n", None])
def test_a_file_that_is_no_csv_is_named(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "votes.csv"
    path.mkdir() if content is None else path.write_bytes(content)
    with pytest.raises(DataError, match=r"votes\.csv: damaged, or not FER\+ votes as CSV: "):
        load_ferplus_votes(path, ("a",))


def test_votes_with_byte_order_mark_are_read(tmp_path: Path) -> None:
    path = write_votes(tmp_path / "votes.csv", ("a",), ["fear"])
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    assert load_ferplus_votes(path, ("a",)).sum() == 10
