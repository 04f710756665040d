"""Files, folders, globs: what they mean, in which order, under which names."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from pipeline.errors import PhotoError, UsageError
from pipeline.sources import find_photos, read_list
from tests.pipeline.factories import save_photo


def names(*arguments: Path | str, exclude: Path | None = None) -> list[str]:
    return [source.name for source in find_photos(arguments, exclude=exclude)]


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    for name in ("b.jpg", "a.PNG", "sub/b.jpg", "sub/deep/c.webp", ".hidden/x.jpg", "sub/.y.jpg"):
        save_photo(folder / name)
    (folder / "notes.txt").write_text("no photo")
    return folder


def test_a_folder_is_searched_recursively_in_sorted_order(photos: Path) -> None:
    assert names(photos) == ["a.PNG", "b.jpg", "sub/b.jpg", "sub/deep/c.webp"]


def test_one_file_is_named_by_itself(photos: Path) -> None:
    assert names(photos / "sub/b.jpg") == ["b.jpg"]


def test_same_name_in_different_folders_stays_apart(photos: Path) -> None:
    assert names(photos / "sub/b.jpg", photos / "b.jpg") == ["sub/b.jpg", "b.jpg"]


def test_a_photo_meant_twice_is_read_once(photos: Path) -> None:
    assert names(photos / "b.jpg", photos, photos / "sub") == ["b.jpg", "a.PNG", "sub/b.jpg", "sub/deep/c.webp"]


def test_globs(photos: Path) -> None:
    assert names(f"{photos}/*.jpg") == ["b.jpg"]
    assert names(f"{photos}/**/*.jpg") == ["b.jpg", "sub/b.jpg"]
    assert names(f"{photos}/s*") == ["sub/b.jpg", "sub/deep/c.webp"]


def test_a_glob_that_leads_out_of_its_fixed_part(photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(photos / "sub")
    assert names("*/../../*.jpg") == ["b.jpg"]
    assert names("*/../../*.jpg", "b.jpg", exclude=photos) == ["b.jpg", "sub/b.jpg"]


def test_relative_arguments(photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(photos)
    assert names("sub") == ["b.jpg", "deep/c.webp"]
    assert names("*.jpg") == ["b.jpg"]
    assert names("./sub/../b.jpg") == ["b.jpg"]


def test_the_home_folder_where_no_shell_has_put_it(photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(photos))
    assert names("~/sub") == names("~/sub/") == ["b.jpg", "deep/c.webp"]
    assert names("~/*.jpg") == ["b.jpg"]
    assert [source.at for source in find_photos([], listed=["~/b.jpg"])] == [photos / "b.jpg"]
    monkeypatch.chdir(photos)
    save_photo(photos / "~/x.jpg")
    assert names("~") == ["x.jpg"]


def test_a_file_whose_name_looks_like_a_glob(tmp_path: Path) -> None:
    save_photo(tmp_path / "a[1].jpg")
    assert names(tmp_path / "a[1].jpg") == ["a[1].jpg"]


def test_a_file_given_by_name_needs_no_known_suffix(photos: Path) -> None:
    assert names(photos / "notes.txt") == ["notes.txt"]


def test_the_output_folder_is_left_out(photos: Path) -> None:
    save_photo(photos / "out/annotated/b.jpg")
    assert "out/annotated/b.jpg" not in names(photos, exclude=photos / "out")
    assert names(photos / "out/annotated", exclude=photos / "out") == ["b.jpg"]
    save_photo(photos / "annotated/b.jpg")
    assert "annotated/b.jpg" not in names(photos, exclude=photos)
    assert "sub/b.jpg" in names(photos, exclude=photos)
    assert names(f"{photos}/**/b.jpg", exclude=photos / "out") == ["annotated/b.jpg", "b.jpg", "sub/b.jpg"]


def test_the_output_folder_is_left_out_of_globs_that_match_it(photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save_photo(photos / "annotated/b.jpg")
    save_photo(photos / "out/annotated/sub/b.jpg")
    monkeypatch.chdir(photos)
    assert names("*", exclude=Path()) == ["a.PNG", "b.jpg", "out/annotated/sub/b.jpg", "sub/b.jpg", "sub/deep/c.webp"]
    assert names("**", exclude=Path("out")) == ["a.PNG", "annotated/b.jpg", "b.jpg", "sub/b.jpg", "sub/deep/c.webp"]
    assert names("out/annotated/*", exclude=Path("out")) == ["sub/b.jpg"]


def test_the_output_folder_is_left_out_whichever_way_leads_to_it(photos: Path, tmp_path: Path) -> None:
    save_photo(photos / "out/annotated/b.jpg")
    (tmp_path / "link").symlink_to(photos)
    for what, out in ((photos, tmp_path / "link/out"), (tmp_path / "link", photos / "out")):
        assert names(what, exclude=out) == names(f"{what}/**", exclude=out) == [
            "a.PNG", "b.jpg", "sub/b.jpg", "sub/deep/c.webp"
        ]  # fmt: skip


def test_an_empty_argument() -> None:
    with pytest.raises(UsageError, match="expected photos, folders, globs or URLs, got an empty argument"):
        find_photos([""])


@pytest.mark.parametrize("end", [b"\n", b"\0"])
def test_a_list_with_a_byte_order_mark(end: bytes, tmp_path: Path) -> None:
    path = tmp_path / "list.txt"
    path.write_bytes(b"\xef\xbb\xbfa.jpg" + end + "ü.jpg".encode())
    assert read_list(path) == ["a.jpg", "ü.jpg"]


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be"])
def test_a_list_in_utf_16_is_refused(encoding: str, tmp_path: Path) -> None:
    path = tmp_path / "list.txt"
    path.write_bytes("\ufeffa.jpg\n".encode(encoding))
    with pytest.raises(UsageError, match=r"list\.txt: expected UTF-8 text, got UTF-16"):
        read_list(path)


def test_non_ascii_and_very_long_names(tmp_path: Path) -> None:
    long = "x" * 251 + ".jpg"
    for name in ("Zürich 東京 🎉.jpg", long):
        save_photo(tmp_path / name)
    assert names(tmp_path) == ["Zürich 東京 🎉.jpg", long]


def test_names_that_are_not_utf8_become_valid_text(tmp_path: Path) -> None:
    path = Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9.jpg"))
    try:
        path.write_bytes(b"")
    except OSError:
        pytest.skip("this file system takes UTF-8 names only")
    assert names(tmp_path) == ["caf\\xe9.jpg"]


@pytest.mark.parametrize("what", ["missing.jpg", "missing/", "*.nothing"])
def test_what_is_not_there(photos: Path, what: str) -> None:
    with pytest.raises(UsageError, match=r"no such file|no photos in"):
        find_photos([f"{photos}/{what}"])


def test_a_folder_that_cannot_be_listed(photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.scandir

    def locked(folder: str | Path) -> object:
        if str(folder).endswith("deep"):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(folder))
        return real(folder)

    monkeypatch.setattr(os, "scandir", locked)
    for what in (photos, f"{photos}/s*"):
        found = {source.name: source for source in find_photos([what])}
        assert "sub/b.jpg" in found
        with pytest.raises(PhotoError, match=r"^cannot be opened: Permission denied$"):
            found["sub/deep"].load()
    with pytest.raises(UsageError, match=r"sub/deep: cannot be listed: Permission denied$"):
        find_photos([photos / "sub" / "deep"])


def test_a_folder_without_photos(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("no photo")
    with pytest.raises(UsageError, match=r"no photos in .* \(looked for \.avif, \.bmp"):
        find_photos([tmp_path])
