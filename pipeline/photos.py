"""From a file, bytes or a PIL image to upright BGR pixels; every bad photo ends in a PhotoError that says why."""

from __future__ import annotations

import io
import os
import stat
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import IO, TypeVar, cast

import numpy as np
import numpy.typing as npt
from PIL import (
    BmpImagePlugin,
    GifImagePlugin,
    Image,
    JpegImagePlugin,
    PngImagePlugin,
    TiffImagePlugin,
    WebPImagePlugin,
)
from PIL.ImageFile import ImageFile

from pipeline.errors import PhotoError

DEFAULT_MAX_PIXELS = 200_000_000
"""Photos with more pixels are refused before they are decoded."""

_DECODERS: dict[bytes, Callable[[IO[bytes]], ImageFile]] = {
    b"\xff\xd8\xff": JpegImagePlugin.JpegImageFile,
    b"\x89PNG\r\n\x1a\n": PngImagePlugin.PngImageFile,
    b"RIFF": WebPImagePlugin.WebPImageFile,
    b"GIF8": GifImagePlugin.GifImageFile,
    b"BM": BmpImagePlugin.BmpImageFile,
    b"II*\0": TiffImagePlugin.TiffImageFile,
    b"MM\0*": TiffImagePlugin.TiffImageFile,
}
"""Formats by the first bytes of the file; its name does not matter. Pillow's classes are called directly, because
`Image.open` has a pixel limit of its own that only a process-wide variable can move."""

_HEIF = frozenset({b"heic", b"heix", b"heim", b"heis", b"hevc", b"mif1", b"msf1"})
_AVIF = frozenset({b"avif", b"avis"})

_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_EXIF_ORIENTATION = 0x0112

T = TypeVar("T")


@dataclass(frozen=True, eq=False)
class Photo:
    """An upright photo. pixels_bgr: uint8 [H, W, 3]. exif_orientation: 1 to 8, as it was in the file."""

    pixels_bgr: npt.NDArray[np.uint8]
    exif_orientation: int = 1

    @property
    def size_wh(self) -> tuple[int, int]:
        """(width, height) in pixels, upright."""
        height, width = self.pixels_bgr.shape[:2]
        return width, height


def load_photo(
    photo: str | os.PathLike[str] | bytes | npt.NDArray[np.uint8] | Image.Image, *, max_pixels: int = DEFAULT_MAX_PIXELS
) -> Photo:
    """Decode a path, an encoded file's bytes, a PIL image, or take an array (uint8 [H, W] grey, [H, W, 3] BGR).

    Of an animation the first frame is taken, transparency is laid on white, 16 bits become 8, EXIF orientation is
    undone. Raises PhotoError when it is no photo, is damaged, or has more than `max_pixels` pixels (then unread).
    """
    if isinstance(photo, np.ndarray):
        return _from_array(photo, max_pixels=max_pixels)
    if isinstance(photo, Image.Image):
        _check_size(photo.size, max_pixels=max_pixels)
        return _guarded(lambda: _upright(photo))
    if isinstance(photo, bytes | bytearray | memoryview):
        with io.BytesIO(photo) as stream:
            return _decode(stream, max_pixels=max_pixels)
    with _open_file(Path(photo)) as stream:
        return _decode(stream, max_pixels=max_pixels)


def probe_size_wh(path: Path) -> tuple[int, int] | None:
    """(width, height) as stored, read from the header alone; None when the file is no photo or cannot be read."""
    try:
        with _open_file(path) as stream:
            return _open_image(stream).size
    except PhotoError:
        return None


def _open_file(path: Path) -> IO[bytes]:
    try:
        status = path.stat()
        if stat.S_ISDIR(status.st_mode):
            os.scandir(path).close()  # one that cannot be listed says why
        if not stat.S_ISREG(status.st_mode):
            raise PhotoError("expected a file, got a folder or device")
        return path.open("rb")
    except (OSError, ValueError) as error:  # ValueError: a name with a NUL
        raise PhotoError(f"cannot be opened: {getattr(error, 'strerror', None) or error}") from error


def _decode(stream: IO[bytes], *, max_pixels: int) -> Photo:
    image = _open_image(stream)
    _check_size(image.size, max_pixels=max_pixels)
    return _guarded(lambda: _upright(image))


def _open_image(stream: IO[bytes]) -> ImageFile:
    """The image with its header read and its pixels not."""
    try:
        head = stream.read(16)
        stream.seek(0)
    except OSError as error:  # a disk or a network drive that fails
        raise PhotoError(f"cannot be read: {error.strerror or error}") from error
    if not head:
        raise PhotoError("the file is empty")
    if head[4:8] == b"ftyp" and head[8:12] in _HEIF | _AVIF:
        decoder = _heif_decoder() if head[8:12] in _HEIF else _avif_decoder()
        return _guarded(partial(decoder, stream))
    if head[4:8] == b"ftyp" or head[8:12] == b"AVI " or head.startswith(b"\x1a\x45\xdf\xa3"):
        raise PhotoError("a video, not a photo: `crowdmood video` reads it")
    for signature, decoder in _DECODERS.items():
        if head.startswith(signature) and (signature != b"RIFF" or head[8:12] == b"WEBP"):
            return _guarded(partial(decoder, stream))
    raise PhotoError(f"not a JPEG, PNG, WebP, GIF, BMP, TIFF, HEIC or AVIF photo: it begins with {head!r}")


def _heif_decoder() -> Callable[[IO[bytes]], ImageFile]:
    """Of iPhones' photos; it turns them upright by itself. Raises PhotoError without the extra."""
    try:
        from pillow_heif import HeifImageFile
    except ImportError:
        raise PhotoError("HEIC photos need pillow-heif: pip install 'crowdmood[heic]', or convert to JPEG") from None
    return cast("Callable[[IO[bytes]], ImageFile]", HeifImageFile)


def _avif_decoder() -> Callable[[IO[bytes]], ImageFile]:
    """Raises PhotoError where this Pillow has none."""
    try:
        from PIL import AvifImagePlugin

        if AvifImagePlugin.SUPPORTED:
            return AvifImagePlugin.AvifImageFile
    except ImportError:
        pass
    raise PhotoError("AVIF photos need Pillow 11.3 or later with AVIF; update it, or convert to JPEG")


def _guarded(decode: Callable[[], T]) -> T:
    """Run a step of Pillow's decoding. Damaged files raise some ten types of error there, one of them MemoryError."""
    try:
        return decode()
    except PhotoError:
        raise
    except Exception as error:
        raise PhotoError(f"damaged or truncated: {str(error) or type(error).__name__}") from error


def _check_size(size_wh: tuple[int, int], *, max_pixels: int) -> None:
    width, height = size_wh
    if width < 1 or height < 1:
        raise PhotoError(f"has no pixels: {width} x {height}")
    if width * height > max_pixels:
        raise PhotoError(
            f"{width} x {height} = {width * height / 1e6:.1f} megapixels, over the limit of {max_pixels / 1e6:g}; "
            "raise the limit (--max-pixels) if the photo is to be trusted"
        )


def _upright(image: Image.Image) -> Photo:
    # Before loading only a TIFF is asked: of a PNG that loads the pixels, and what is wrong with them would be lost.
    before = _exif_orientation(image) if isinstance(image, TiffImagePlugin.TiffImageFile) else 1
    image.load()  # turns a TIFF upright by itself, and finds the EXIF of a PNG that has it at its end
    left = _exif_orientation(image)
    rgb = _to_rgb(image)
    if left in _UPRIGHT:
        rgb = rgb.transpose(_UPRIGHT[left])
    return Photo(np.ascontiguousarray(np.asarray(rgb)[:, :, ::-1]), before if before != 1 else left)


def _exif_orientation(image: Image.Image) -> int:
    """1 to 8; 1 when the photo says nothing or says nonsense, for damaged EXIF does not make a photo unreadable."""
    try:
        value = image.getexif().get(_EXIF_ORIENTATION, 1)
    except Exception:  # Pillow's EXIF reader raises many types on damaged data
        return 1
    return value if isinstance(value, int) and 1 <= value <= 8 else 1


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode == "I" and isinstance(image, TiffImagePlugin.TiffImageFile):
        raise PhotoError("32-bit or signed pixels have no defined brightness; convert to 8 or 16 bits first")
    if image.mode.startswith("I"):  # 16 bits in one channel, Pillow would clip at 255 instead of scaling
        return Image.fromarray((np.asarray(image).astype(np.int64) >> 8).clip(0, 255).astype(np.uint8)).convert("RGB")
    if image.mode == "F":
        raise PhotoError("32-bit float pixels have no defined brightness; convert to 8 or 16 bits first")
    if image.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in image.info:
        rgba = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba).convert("RGB")
    return image.convert("RGB")


def _from_array(array: npt.NDArray[np.uint8], *, max_pixels: int) -> Photo:
    if array.dtype != np.uint8 or not (array.ndim == 2 or (array.ndim == 3 and array.shape[2] == 3)):
        raise PhotoError(f"expected uint8 [H, W] or BGR [H, W, 3], got {array.dtype} {list(array.shape)}")
    _check_size((array.shape[1], array.shape[0]), max_pixels=max_pixels)
    bgr = np.repeat(array[:, :, None], 3, axis=2) if array.ndim == 2 else array
    return Photo(np.ascontiguousarray(bgr))
