"""Every kind of bad input ends in a PhotoError that says why; every kind of good input in upright BGR pixels."""

from __future__ import annotations

import struct
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from pipeline.errors import PhotoError
from pipeline.photos import load_photo, probe_size_wh
from tests.pipeline.factories import corner_image, encoded

UPRIGHT = np.asarray(corner_image())[:, :, ::-1]

STORED = {
    1: lambda image: image,
    2: lambda image: image.transpose(Image.Transpose.FLIP_LEFT_RIGHT),
    3: lambda image: image.transpose(Image.Transpose.ROTATE_180),
    4: lambda image: image.transpose(Image.Transpose.FLIP_TOP_BOTTOM),
    5: lambda image: image.transpose(Image.Transpose.TRANSPOSE),
    6: lambda image: image.transpose(Image.Transpose.ROTATE_90),
    7: lambda image: image.transpose(Image.Transpose.TRANSVERSE),
    8: lambda image: image.transpose(Image.Transpose.ROTATE_270),
}
"""How an upright picture lies in a file of that orientation: the inverse of what a viewer does (EXIF 2.3, 4.6.4)."""


def exif(orientation: int) -> Image.Exif:
    tags = Image.Exif()
    tags[0x0112] = orientation
    return tags


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_all_eight_orientations_become_upright(orientation: int, kind: str) -> None:
    stored = STORED[orientation](corner_image())
    options = {"JPEG": {"quality": 95}, "WEBP": {"lossless": True}}.get(kind, {})
    photo = load_photo(encoded(stored, kind, exif=exif(orientation), **options))
    assert photo.size_wh == (64, 48)
    assert photo.exif_orientation == orientation
    assert np.abs(photo.pixels_bgr.astype(int) - UPRIGHT).mean() < 3


@pytest.mark.parametrize("orientation", [0, 9, 99])
def test_a_senseless_orientation_is_ignored(orientation: int) -> None:
    photo = load_photo(encoded(corner_image(), "PNG", exif=exif(orientation)))
    assert photo.exif_orientation == 1
    assert np.array_equal(photo.pixels_bgr, UPRIGHT)


@pytest.mark.filterwarnings("ignore::UserWarning:PIL")
def test_damaged_exif_does_not_make_a_photo_unreadable() -> None:
    data = encoded(corner_image(), "JPEG", quality=95, exif=b"Exif\0\0MM\0*\xff\xff\xff\xff nonsense")
    assert load_photo(data).size_wh == (64, 48)


def test_colours_come_as_blue_green_red() -> None:
    photo = load_photo(encoded(Image.new("RGB", (4, 4), (255, 128, 0)), "PNG"))
    assert photo.pixels_bgr[0, 0].tolist() == [0, 128, 255]


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGBA"])
def test_other_png_modes_become_bgr(mode: str) -> None:
    photo = load_photo(encoded(corner_image(mode), "PNG"))
    assert photo.pixels_bgr.dtype == np.uint8
    assert photo.pixels_bgr.shape == (48, 64, 3)
    assert photo.pixels_bgr[:16, :32].mean() > 180
    assert photo.pixels_bgr[16:].mean() < 60


def test_16_bit_grey_png_keeps_its_high_bytes() -> None:
    pixels = np.linspace(0, 65535, 64 * 48).reshape(48, 64).astype(np.uint16)
    photo = load_photo(encoded(Image.fromarray(pixels), "PNG"))
    assert np.array_equal(photo.pixels_bgr[:, :, 1], (pixels >> 8).astype(np.uint8))


def test_16_bit_colour_png() -> None:
    rows = b"".join(b"\0" + struct.pack(">3H", 0xC800, 0x6400, 0x0000) * 5 for _ in range(4))
    chunks = [(b"IHDR", struct.pack(">IIBBBBB", 5, 4, 16, 2, 0, 0, 0)), (b"IDAT", zlib.compress(rows)), (b"IEND", b"")]
    data = b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body)) for kind, body in chunks
    )
    photo = load_photo(data)
    assert photo.size_wh == (5, 4)
    assert photo.pixels_bgr[0, 0].tolist() == [0, 100, 200]


def test_palette_with_transparency_and_rgba_lie_on_white() -> None:
    clear = Image.new("RGBA", (8, 8), (10, 20, 30, 0))
    assert (load_photo(encoded(clear, "PNG")).pixels_bgr == 255).all()
    palette = Image.new("P", (8, 8), 0)
    palette.putpalette([10, 20, 30, 200, 100, 50])
    assert (load_photo(encoded(palette, "PNG", transparency=0)).pixels_bgr == 255).all()


def test_cmyk_jpeg() -> None:
    photo = load_photo(encoded(corner_image("CMYK"), "JPEG", quality=95))
    assert np.abs(photo.pixels_bgr.astype(int) - UPRIGHT).mean() < 6


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "PNG"])
def test_of_an_animation_the_first_frame_is_read(kind: str) -> None:
    frames = [Image.new("RGB", (32, 24), colour) for colour in ("red", "blue", "green")]
    options = {"lossless": True} if kind == "WEBP" else {}
    data = encoded(frames[0], kind, save_all=True, append_images=frames[1:], duration=50, **options)
    assert load_photo(data).pixels_bgr[12, 16].tolist() == [0, 0, 255]


def test_arrays_and_pil_images() -> None:
    grey = np.arange(60, dtype=np.uint8).reshape(6, 10)
    assert load_photo(grey).pixels_bgr.shape == (6, 10, 3)
    assert np.array_equal(load_photo(UPRIGHT).pixels_bgr, UPRIGHT)
    assert np.array_equal(load_photo(corner_image()).pixels_bgr, UPRIGHT)


@pytest.mark.parametrize(
    "array",
    [np.zeros((4, 4, 3), np.float32), np.zeros((4, 4, 4), np.uint8), np.zeros(4, np.uint8), np.zeros((0, 4), np.uint8)],
)
def test_arrays_that_are_no_photo(array: np.ndarray) -> None:
    with pytest.raises(PhotoError, match=r"expected uint8|has no pixels"):
        load_photo(array)


@pytest.mark.parametrize("kind", ["HEIF", "AVIF"])
def test_photos_of_phones(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    heif = pytest.importorskip("pillow_heif")
    avif = pytest.importorskip("PIL.AvifImagePlugin")
    path = tmp_path / "IMG_1.HEIC"
    if kind == "HEIF":
        heif.from_pillow(corner_image()).save(path, quality=95)
    else:
        path.write_bytes(encoded(corner_image(), "AVIF", quality=95))
    photo = load_photo(path)
    with pytest.raises(PhotoError, match="damaged or truncated"):
        load_photo(path.read_bytes()[:100])
    assert photo.size_wh == probe_size_wh(path) == (64, 48)
    assert np.abs(photo.pixels_bgr.astype(int) - UPRIGHT).mean() < 6
    with pytest.raises(PhotoError, match="megapixels, over the limit"):
        load_photo(path, max_pixels=1000)
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    monkeypatch.setattr(avif, "SUPPORTED", False)
    with pytest.raises(PhotoError, match=r"pip install 'crowdmood\[heic\]'|Pillow 11\.3 or later"):
        load_photo(path)


NOISE = Image.fromarray(np.random.default_rng(0).integers(0, 256, (48, 64, 3), np.uint8))


def one_byte_off(data: bytes, place: int) -> bytes:
    return data[:place] + bytes([data[place] ^ 0xFF]) + data[place + 1 :]


BAD = {
    "empty": (b"", "the file is empty"),
    "text": (
        b"this is no picture",
        "not a JPEG, PNG, WebP, GIF, BMP, TIFF, HEIC or AVIF photo: it begins with b'this is",
    ),
    "wave sound": (b"RIFF\x24\0\0\0WAVEfmt ", "not a JPEG"),
    "mp4": (b"\0\0\0\x18ftypisom\0\0\0\0", "a video, not a photo: `crowdmood video` reads it"),
    "avi": (b"RIFF\0\0\0\0AVI LIST", "a video, not a photo"),
    "mkv": (b"\x1a\x45\xdf\xa3\0\0\0\0", "a video, not a photo"),
    "truncated JPEG": (encoded(corner_image(), "JPEG")[:-200], "damaged or truncated"),
    "JPEG header alone": (encoded(corner_image(), "JPEG")[:30], "damaged or truncated"),
    "truncated PNG": (encoded(corner_image(), "PNG")[:60], "damaged or truncated"),
    "truncated WebP": (encoded(corner_image(), "WEBP", lossless=True)[:40], "damaged or truncated"),
    "truncated GIF": (encoded(corner_image(), "GIF")[:30], "damaged or truncated"),
    "PNG with a wrong checksum": (encoded(corner_image(), "PNG").replace(b"IDAT", b"IDAX", 1), "damaged or truncated"),
    "PNG with a wrong byte in its pixels": (one_byte_off(encoded(NOISE, "PNG"), 2000), "damaged or truncated"),
    "float TIFF": (encoded(Image.new("F", (4, 4)), "TIFF"), "32-bit float"),
    "32-bit TIFF": (encoded(Image.new("I", (4, 4), 200), "TIFF"), "32-bit or signed pixels"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_files_say_why(name: str, tmp_path: Path) -> None:
    data, reason = BAD[name]
    path = tmp_path / "photo.jpg"
    path.write_bytes(data)
    with pytest.raises(PhotoError) as refused:
        load_photo(path)
    assert reason in refused.value.reason


def test_a_folder_a_missing_file_and_an_impossible_name(tmp_path: Path) -> None:
    for path, reason in ((tmp_path, "folder"), (tmp_path / "no.jpg", "No such file"), (Path("a\0b"), "null")):
        with pytest.raises(PhotoError, match=reason):
            load_photo(path)


def test_the_pixel_limit_is_checked_before_decoding(tmp_path: Path) -> None:
    header = struct.pack(">IIBBBBB", 60_000, 50_000, 8, 2, 0, 0, 0)
    chunk = struct.pack(">I", 13) + b"IHDR" + header + struct.pack(">I", zlib.crc32(b"IHDR" + header))
    body = struct.pack(">I", 10**6) + b"IDAT"
    path = tmp_path / "bomb.png"
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk + body)
    with pytest.raises(PhotoError, match=r"60000 x 50000 = 3000\.0 megapixels, over the limit of 200"):
        load_photo(path)
    assert probe_size_wh(path) == (60_000, 50_000)


def test_the_pixel_limit_can_be_moved() -> None:
    data = encoded(corner_image(), "PNG")
    assert load_photo(data, max_pixels=64 * 48).size_wh == (64, 48)
    with pytest.raises(PhotoError, match="over the limit"):
        load_photo(data, max_pixels=64 * 48 - 1)
    with pytest.raises(PhotoError, match="over the limit"):
        load_photo(corner_image(), max_pixels=100)


def test_above_pillows_own_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    assert load_photo(encoded(corner_image(), "PNG")).size_wh == (64, 48)


def test_probe_of_what_is_no_photo(tmp_path: Path) -> None:
    path = tmp_path / "x.jpg"
    path.write_bytes(b"no")
    assert probe_size_wh(path) is None
    assert probe_size_wh(tmp_path / "missing.jpg") is None


@pytest.mark.filterwarnings("ignore:::PIL")
@settings(max_examples=150, deadline=None)
@given(st.data())
def test_damaged_bytes_are_read_or_refused_but_never_crash(data: st.DataObject) -> None:
    kind = data.draw(st.sampled_from(["JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF"]))
    good = bytearray(encoded(corner_image(), kind))
    for _ in range(data.draw(st.integers(1, 6))):
        good[data.draw(st.integers(8, len(good) - 1))] = data.draw(st.integers(0, 255))
    cut = data.draw(st.integers(9, len(good)))
    try:
        photo = load_photo(bytes(good[:cut]), max_pixels=1_000_000)
    except PhotoError:
        return
    assert photo.pixels_bgr.ndim == 3
    assert photo.pixels_bgr.dtype == np.uint8
