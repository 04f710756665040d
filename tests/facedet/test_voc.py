"""Pascal VOC: what is read, which photo an XML file means, and what is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from facedet.data.voc import read_voc
from facedet.errors import DataError
from tests.facedet.photos import write_photo


def voc_xml(objects: str, *, filename: str = "a.jpg") -> str:
    size = "<size><width>120</width><height>80</height><depth>3</depth></size>"
    return f"<annotation><filename>{filename}</filename>{size}{objects}</annotation>"


def voc_object(name: str = "face", difficult: int = 0, box: str = "11 21 50 60") -> str:
    sides = zip(("xmin", "ymin", "xmax", "ymax"), box.split(), strict=True)
    inner = "".join(f"<{k}>{v}</{k}>" for k, v in sides)
    return f"<object><name>{name}</name><difficult>{difficult}</difficult><bndbox>{inner}</bndbox></object>"


def test_voc_reads_faces_and_difficult_ones(tmp_path: Path) -> None:
    photo = write_photo(tmp_path / "JPEGImages" / "a.jpg")
    (tmp_path / "Annotations").mkdir()
    text = voc_xml(voc_object() + voc_object("dog") + voc_object("Face", 1, "50 60 11 21"))
    (tmp_path / "Annotations" / "a.xml").write_text(text)
    (raw,) = read_voc(tmp_path)
    assert (raw.name, raw.path, raw.declared_wh, raw.relative) == ("a.jpg", photo, (120, 80), False)
    np.testing.assert_array_equal(raw.corners, [[10, 20, 50, 60]] * 2)
    assert raw.ignore.tolist() == [False, True]


@pytest.mark.parametrize("filename", ["", "elsewhere.png", "C:\\photos\\a.jpg"])
def test_voc_finds_photos_by_the_xml_files_name(tmp_path: Path, filename: str) -> None:
    write_photo(tmp_path / "a.jpg")
    (tmp_path / "a.xml").write_text(voc_xml("", filename=filename))
    (raw,) = read_voc(tmp_path)
    assert raw.path == tmp_path / "a.jpg"


def voc_names(folder: Path, *, images: Path | None = None) -> dict[str, Path | None]:
    return {raw.name: raw.path for raw in read_voc(folder, images=images)}


def write_voc_xml(path: Path, filename: str, folder: str = "") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(voc_xml(f"<folder>{folder}</folder>" + voc_object(), filename=filename))


def test_voc_photos_of_one_name_in_two_folders_stay_apart(tmp_path: Path) -> None:
    for folder in ("2007", "2012"):
        write_photo(tmp_path / folder / "JPEGImages" / "a.jpg")
        write_voc_xml(tmp_path / folder / "Annotations" / "a.xml", "a.jpg", "VOC")
    assert voc_names(tmp_path) == {f"{y}/a.jpg": tmp_path / y / "JPEGImages" / "a.jpg" for y in ("2007", "2012")}


def test_voc_follows_the_folder_that_a_file_names(tmp_path: Path) -> None:
    for folder in ("x", "y/z", "w"):
        write_photo(tmp_path / "photos" / folder / "a.jpg")
    write_voc_xml(tmp_path / "labels" / "0.xml", "w/a.jpg", "elsewhere")
    write_voc_xml(tmp_path / "labels" / "1.xml", "a.jpg", "x")
    write_voc_xml(tmp_path / "labels" / "2.xml", "a.jpg", ".\\y\\z\\")
    photos = tmp_path / "photos"
    assert voc_names(tmp_path / "labels", images=photos) == {n: photos / n for n in ("w/a.jpg", "x/a.jpg", "y/z/a.jpg")}


def test_voc_refuses_to_choose_between_photos_of_one_name(tmp_path: Path) -> None:
    for folder in ("x", "y"):
        write_photo(tmp_path / folder / "a.jpg")
    write_voc_xml(tmp_path / "labels" / "a.xml", "a.jpg", "elsewhere")
    with pytest.raises(DataError, match=r"a\.xml: 2 photos below .* called a\.jpg, among them x/a\.jpg and y/a\.jpg"):
        read_voc(tmp_path)


def test_voc_a_photo_that_is_gone_does_not_take_its_namesake(tmp_path: Path) -> None:
    write_photo(tmp_path / "photos" / "a.jpg")
    write_voc_xml(tmp_path / "labels" / "a.xml", "a.jpg")
    write_voc_xml(tmp_path / "labels" / "sub" / "a.xml", "a.jpg", "sub")
    photos = tmp_path / "photos"
    assert voc_names(tmp_path / "labels", images=photos) == {"a.jpg": photos / "a.jpg", "sub/a.jpg": None}


def test_voc_a_photo_that_two_files_claim_by_name_alone_is_nobodys(tmp_path: Path) -> None:
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "1.xml").write_text(voc_xml(voc_object(), filename="1.jpg"))
    write_photo(tmp_path / "c" / "1.jpg")
    assert [photo.path for photo in read_voc(tmp_path)] == [None, None]


@pytest.mark.parametrize(
    "declared",
    [
        {"p0": "p1.jpg", "p1": "p1.jpg", "p2": "p2.jpg"},
        {"p0": "p1.jpg", "p1": "p2.jpg", "p2": "p3.jpg"},
        {"p0": "p1.jpg", "p1": "", "p2": "p1.jpg"},
    ],
)
def test_voc_a_photo_that_several_files_declare_is_that_of_its_name(tmp_path: Path, declared: dict[str, str]) -> None:
    for stem, filename in declared.items():
        write_photo(tmp_path / f"{stem}.jpg")
        write_voc_xml(tmp_path / f"{stem}.xml", filename)
    assert [raw.path for raw in read_voc(tmp_path)] == [tmp_path / f"{stem}.jpg" for stem in declared]
    (tmp_path / "p0.jpg").unlink()
    assert voc_names(tmp_path) == {"p0": None} | {f"{stem}.jpg": tmp_path / f"{stem}.jpg" for stem in ("p1", "p2")}


def test_voc_names_are_believed_where_each_file_declares_another_photo(tmp_path: Path) -> None:
    for stem, filename in (("p0", "p1.jpg"), ("p1", "p0.jpg")):
        write_photo(tmp_path / f"{stem}.jpg")
        write_voc_xml(tmp_path / f"{stem}.xml", filename)
    assert [raw.name for raw in read_voc(tmp_path)] == ["p1.jpg", "p0.jpg"]


def test_voc_two_files_of_one_photos_name_are_refused(tmp_path: Path) -> None:
    write_photo(tmp_path / "JPEGImages" / "a.jpg")
    write_voc_xml(tmp_path / "Annotations" / "a.xml", "a.jpg")
    write_voc_xml(tmp_path / "backup" / "a.xml", "a.jpg", "JPEGImages")
    with pytest.raises(
        DataError, match=r"Annotations/a\.xml and .*backup/a\.xml: both are of JPEGImages/a\.jpg: expected"
    ):
        read_voc(tmp_path)


def test_voc_names_keep_layout_folders_where_they_tell_photos_apart(tmp_path: Path) -> None:
    for folder in ("", "images/"):
        write_photo(tmp_path / "photos" / f"{folder}a.jpg")
        write_voc_xml(tmp_path / "labels" / f"{folder}a.xml", "a.jpg", folder.strip("/"))
    photos = tmp_path / "photos"
    assert voc_names(tmp_path / "labels", images=photos) == {n: photos / n for n in ("a.jpg", "images/a.jpg")}


@pytest.mark.parametrize(
    ("photo", "labels", "split"),
    [
        ("valid/a.jpg", "valid/a.xml", "val"),
        ("JPEGImages/a.jpg", "Annotations/Train/a.xml", "train"),
        ("images/test/a.jpg", "a.xml", "test"),
        ("a.jpg", "a.xml", None),
    ],
)
def test_voc_keeps_the_split_of_the_folder(tmp_path: Path, photo: str, labels: str, split: str | None) -> None:
    write_photo(tmp_path / photo)
    write_voc_xml(tmp_path / labels, "a.jpg")
    assert [raw.split for raw in read_voc(tmp_path)] == [split]


def test_voc_keeps_the_splits_of_its_lists(tmp_path: Path) -> None:
    for year in ("2007", "2012"):
        for name in ("a", "b", "c", "d"):
            write_voc_xml(tmp_path / "train" / year / "Annotations" / f"{name}.xml", f"{name}.jpg")
        (tmp_path / "train" / year / "ImageSets" / "Main").mkdir(parents=True)
    lists = {"2007/train": "a\nd\n", "2007/val": "b\nd\n", "2007/trainval": "a\nb\n", "2012/test": "b\n"}
    for place, text in lists.items():
        year, name = place.split("/")
        (tmp_path / "train" / year / "ImageSets" / "Main" / f"{name}.txt").write_text(text)
    splits = {raw.name: raw.split for raw in read_voc(tmp_path / "train")}
    assert splits == {
        "2007/a.jpg": "train", "2007/b.jpg": "val", "2007/c.jpg": None, "2007/d.jpg": None,
        "2012/a.jpg": None, "2012/b.jpg": "test", "2012/c.jpg": None, "2012/d.jpg": None,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("encoding", "declared"),
    [
        ("iso-8859-1", "ISO-8859-1"),
        ("utf-8", "utf-8"),
        ("utf-8-sig", "utf-8"),
        ("utf-16", "UTF-16"),
        ("utf-8", "gb2312"),
    ],
)
def test_voc_reads_the_encoding_that_a_file_has(tmp_path: Path, encoding: str, declared: str) -> None:
    write_photo(tmp_path / "Zürich.jpg")
    text = f'<?xml version="1.0" encoding="{declared}"?>' + voc_xml(voc_object(), filename="Zürich.jpg")
    (tmp_path / "1.xml").write_bytes(text.encode(encoding))
    assert voc_names(tmp_path) == {"Zürich.jpg": tmp_path / "Zürich.jpg"}


def test_voc_what_macos_adds_is_left_out(tmp_path: Path) -> None:
    for name in ("a", "._a", "__MACOSX/._a", "__MACOSX/a"):
        write_photo(tmp_path / f"{name}.jpg")
        write_voc_xml(tmp_path / f"{name}.xml", "")
    (tmp_path / "._a.xml").write_bytes(b"\x00\x05\x16\x07")
    assert voc_names(tmp_path) == {"a.jpg": tmp_path / "a.jpg"}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "not Pascal VOC as expected"),
        ("<annotation>", "not Pascal VOC as expected"),
        (voc_xml("<object><name>face</name></object>"), "an object has no <bndbox/xmin>"),
        (voc_xml(voc_object(box="a 1 2 3")), "could not convert"),
        ('<!DOCTYPE x [<!ENTITY a "b">]>' + voc_xml(""), "entities are not read"),
    ],
)
def test_voc_bad_files(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "bad.xml").write_text(text)
    with pytest.raises(DataError, match=message) as error:
        read_voc(tmp_path)
    assert "bad.xml" in str(error.value)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ('<!DOCTYPE x [<!ENTITY a "b">]><a/>'.encode("utf-16"), "entities are not read"),
        (b'<?xml version="1.0" encoding="nowhere"?><a>\xe4</a>', "not Pascal VOC as expected: unknown encoding"),
        (b'<?xml version="1.0" encoding="gb2312"?><a>\xe4</a>', "not Pascal VOC as expected: "),
    ],
)
def test_voc_bad_bytes(tmp_path: Path, data: bytes, message: str) -> None:
    (tmp_path / "bad.xml").write_bytes(data)
    with pytest.raises(DataError, match=rf"bad\.xml: .*{message}"):
        read_voc(tmp_path)


def test_voc_without_files(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="expected Pascal VOC XML files, found none"):
        read_voc(tmp_path)
