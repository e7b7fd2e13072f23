from __future__ import annotations

import io
import struct
import warnings
import zlib
from pathlib import Path
from typing import Any, Literal

import cv2
import numpy as np
import pytest
from handmade import write_tiff
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image as Pillow
from PIL import ImageFile, PngImagePlugin

from gyrus.errors import InputError
from gyrus.io import IMAGE_SUFFIXES, Image, read_image, read_size
from gyrus.io.raster import read_raster

# 3 x 4, no two alike, and neither a transpose nor a flip of itself
GREY = np.array([[0, 10, 20, 30], [40, 50, 60, 70], [80, 90, 100, 255]], dtype=np.uint8)
RGB = np.stack([GREY, np.roll(GREY, 1), GREY[::-1]], axis=2)
WIDE = GREY.astype(np.uint16) * 250 + 7  # not a multiple of 257: lost if cut to 8 bits
WIDE_RGB = RGB.astype(np.uint16) * 250 + np.array([1, 2, 3], dtype=np.uint16)


def luma(rgb: NDArray[Any]) -> NDArray[np.float64]:
    return rgb[..., 0] * 0.299 + rgb[..., 1] * 0.587 + rgb[..., 2] * 0.114


def save(path: Path, array: NDArray[Any], **how: Any) -> Path:
    Pillow.fromarray(array).save(path, **how)
    return path


def save_cv(path: Path, array: NDArray[Any]) -> Path:
    path.write_bytes(cv2.imencode(path.suffix, array)[1].tobytes())
    return path


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(
    width: int, height: int, depth: int = 8, colour: int = 0, rows: bytes | None = None, tail: bytes = b""
) -> bytes:
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", zlib.compress(rows or b"")) + tail + chunk(b"IEND", b"")


def refused(path: Path) -> str:
    """Return the message of the refusal, after checking that it is one line that names the file."""
    with pytest.raises(InputError) as caught:
        read_raster(path)
    message = str(caught.value)
    assert str(path) in message
    assert "\n" not in message
    return message


@pytest.mark.parametrize("name", ["a.png", "a.PNG", "a.tif", "a.tiff", "a.bmp"])
def test_8_bit_grey_is_exact(tmp_path: Path, name: str) -> None:
    image = read_image(save(tmp_path / name, GREY))
    assert image.pixels.dtype == np.float32
    assert image.pixels.flags.c_contiguous
    np.testing.assert_array_equal(image.pixels, GREY)
    assert (image.meta["bits"], image.meta["channels"], image.meta["colour"]) == (8, 1, 0)
    assert image.spacing is None
    assert read_size(tmp_path / name) == (3, 4)
    assert Path(name).suffix.lower() in IMAGE_SUFFIXES


def test_a_jpeg_is_close_and_says_so(tmp_path: Path) -> None:
    smooth = np.add.outer(np.arange(32), np.arange(48) * 2).astype(np.uint8)
    image = read_image(save(tmp_path / "a.jpg", smooth, quality=95, dpi=(96, 96)))
    assert np.abs(image.pixels - smooth).max() <= 3
    assert image.meta["format"] == "JPEG"
    assert image.spacing is None


@pytest.mark.parametrize("name", ["a.png", "a.tif", "a.bmp"])
def test_colour_becomes_luminance_and_its_spread_is_told(tmp_path: Path, name: str) -> None:
    image = read_image(save(tmp_path / name, RGB))
    np.testing.assert_allclose(image.pixels, luma(RGB), atol=1e-4)
    assert image.meta["channels"] == 3
    assert image.meta["colour"] == pytest.approx(np.ptp(RGB.astype(int), axis=2).max() / 255)
    assert image.meta["coloured"] == (np.ptp(RGB.astype(int), axis=2) > 12.75).mean()
    assert image.meta["vivid"] == (np.ptp(RGB.astype(int), axis=2) > 51).mean()


@pytest.mark.parametrize(("spread", "share"), [(0, 0), (12, 0), (13, 0.25), (255, 0.25)])
def test_the_share_of_coloured_pixels_counts_what_an_eye_sees(tmp_path: Path, spread: int, share: float) -> None:
    """Of 255 a twentieth is 12.75; one pixel of four has the tint."""
    pixels = np.zeros((2, 2, 3), dtype=np.uint8)
    pixels[1, 0, 2] = spread
    assert read_raster(save(tmp_path / "a.png", pixels)).meta["coloured"] == share
    assert read_raster(save_cv(tmp_path / "wide.png", pixels.astype(np.uint16) * 257)).meta["coloured"] == share


def test_grey_kept_as_colour_is_exactly_grey(tmp_path: Path) -> None:
    image = read_image(save(tmp_path / "a.png", np.stack([GREY] * 3, axis=2)))
    np.testing.assert_array_equal(image.pixels, GREY)
    assert image.meta["colour"] == 0
    assert image.meta["channels"] == 3


def test_alpha_is_ignored(tmp_path: Path) -> None:
    alpha = np.full_like(GREY, 3)
    np.testing.assert_array_equal(read_raster(save(tmp_path / "la.png", np.dstack([GREY, alpha]))).pixels, GREY)
    rgba = read_raster(save(tmp_path / "rgba.png", np.dstack([RGB, alpha])))
    np.testing.assert_allclose(rgba.pixels, luma(RGB), atol=1e-4)
    assert rgba.meta["channels"] == 4


@pytest.mark.parametrize("transparent", [{}, {"transparency": b"\x00\x80\xff"}])
def test_a_palette_is_looked_up(tmp_path: Path, transparent: dict[str, Any]) -> None:
    picture = Pillow.fromarray(np.array([[0, 1], [2, 1]], dtype=np.uint8))
    picture.putpalette([255, 0, 0, 7, 7, 7, 0, 0, 255])
    picture.save(tmp_path / "p.png", **transparent)
    image = read_raster(tmp_path / "p.png")
    np.testing.assert_allclose(image.pixels, [[255 * 0.299, 7], [255 * 0.114, 7]], atol=1e-4)
    assert (image.meta["bits"], image.meta["channels"], image.meta["colour"]) == (8, 3, 1)


@pytest.mark.parametrize("name", ["a.png", "a.tif", "a.bmp"])
def test_1_bit_becomes_0_and_255(tmp_path: Path, name: str) -> None:
    Pillow.fromarray(GREY > 45).save(tmp_path / name)
    image = read_raster(tmp_path / name)
    np.testing.assert_array_equal(image.pixels, np.where(GREY > 45, 255, 0))


def test_4_bit_is_spread_over_0_to_255(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(png(2, 1, depth=4, rows=b"\x00\x0f"))
    image = read_raster(tmp_path / "a.png")
    np.testing.assert_array_equal(image.pixels, [[0, 255]])
    assert image.meta["bits"] == 4


@pytest.mark.parametrize("name", ["a.png", "a.tiff"])
def test_16_bit_grey_keeps_16_bits(tmp_path: Path, name: str) -> None:
    image = read_raster(save_cv(tmp_path / name, WIDE))
    np.testing.assert_array_equal(image.pixels, WIDE)
    assert image.meta["bits"] == 16


@pytest.mark.parametrize("name", ["a.png", "a.tiff"])
@pytest.mark.parametrize("alpha", [False, True])
def test_16_bit_colour_keeps_16_bits_and_its_order(tmp_path: Path, name: str, alpha: bool) -> None:
    bgr = WIDE_RGB[..., ::-1]
    image = read_raster(save_cv(tmp_path / name, np.dstack([bgr, WIDE]) if alpha else bgr))
    np.testing.assert_allclose(image.pixels, luma(WIDE_RGB), rtol=1e-6)
    assert image.meta["bits"] == 16
    assert image.meta["channels"] == 3 + alpha
    assert image.meta["colour"] == pytest.approx(np.ptp(WIDE_RGB.astype(int), axis=2).max() / 65535)


def test_16_bit_grey_with_alpha_keeps_16_bits(tmp_path: Path) -> None:
    rows = b"".join(b"\0" + np.dstack([row, row[::-1]]).astype(">u2").tobytes() for row in WIDE)
    (tmp_path / "a.png").write_bytes(png(4, 3, depth=16, colour=4, rows=rows))
    image = read_raster(tmp_path / "a.png")
    np.testing.assert_array_equal(image.pixels, WIDE)
    assert (image.meta["bits"], image.meta["channels"], image.meta["colour"]) == (16, 2, 0)


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("kind", [np.uint8, np.uint16, np.int16, np.float32])
def test_tiff_of_every_kind_and_byte_order(tmp_path: Path, order: Literal["<", ">"], kind: type) -> None:
    samples: NDArray[Any] = (GREY.astype(np.float64) * 100 - 5000 if kind in (np.int16, np.float32) else GREY).astype(
        kind
    )
    image = read_raster(write_tiff(tmp_path / "a.tif", samples, order=order))
    np.testing.assert_array_equal(image.pixels, samples)
    assert image.meta["bits"] == samples.itemsize * 8


def test_16_bit_colour_tiff_of_either_byte_order(tmp_path: Path) -> None:
    orders: tuple[Literal["<", ">"], ...] = ("<", ">")
    for order in orders:
        image = read_raster(write_tiff(tmp_path / "a.tif", WIDE_RGB, order=order))
        np.testing.assert_allclose(image.pixels, luma(WIDE_RGB), rtol=1e-6)


def test_a_tiff_with_white_as_zero_is_turned_round(tmp_path: Path) -> None:
    eight = read_raster(write_tiff(tmp_path / "a.tif", GREY, photometric=0))
    np.testing.assert_array_equal(eight.pixels, 255 - GREY)
    sixteen = read_raster(write_tiff(tmp_path / "b.tif", WIDE, photometric=0))
    np.testing.assert_array_equal(sixteen.pixels, 65535.0 - WIDE)
    assert "white" in refused(write_tiff(tmp_path / "c.tif", GREY.astype(np.float32), photometric=0))


# What each EXIF value says of the stored first row and first column (TIFF 6.0, tag 274), written out.
TURNED = {
    1: [[1, 2, 3], [4, 5, 6]],
    2: [[3, 2, 1], [6, 5, 4]],
    3: [[6, 5, 4], [3, 2, 1]],
    4: [[4, 5, 6], [1, 2, 3]],
    5: [[1, 4], [2, 5], [3, 6]],
    6: [[4, 1], [5, 2], [6, 3]],
    7: [[6, 3], [5, 2], [4, 1]],
    8: [[3, 6], [2, 5], [1, 4]],
}


@pytest.mark.parametrize("orientation", TURNED)
@pytest.mark.parametrize("name", ["a.png", "a.jpg", "a.tif", "wide.tif", "wide.png"])
def test_exif_orientation_is_applied_to_pixels_and_size(tmp_path: Path, name: str, orientation: int) -> None:
    stored = np.array([[1, 2, 3], [4, 5, 6]], dtype=np.uint8) * 40
    exif = Pillow.Exif()
    exif[274] = orientation
    path = tmp_path / name
    blocks = np.kron(stored, np.ones((16, 16), dtype=np.uint8))  # whole JPEG blocks
    if name == "wide.tif":
        write_tiff(path, np.dstack([blocks.astype(np.uint16) * 250] * 3), orientation=orientation)
    elif name == "wide.png":
        encoded = cv2.imencode(".png", np.dstack([blocks.astype(np.uint16) * 250] * 3))[1].tobytes()
        path.write_bytes(encoded[:33] + chunk(b"eXIf", exif.tobytes()[6:]) + encoded[33:])
    elif name == "a.tif":
        write_tiff(path, blocks, orientation=orientation)
    else:
        save(path, blocks, exif=exif, **({"quality": 100} if name == "a.jpg" else {}))
    image = read_raster(path)
    scale = 40 * (250 if "wide" in name else 1)
    np.testing.assert_allclose(image.pixels[8::16, 8::16] / scale, TURNED[orientation], atol=0.05)
    assert read_size(path) == image.shape
    assert image.meta["orientation"] == orientation


def test_an_orientation_behind_the_pixels_counts_and_an_impossible_one_does_not(tmp_path: Path) -> None:
    for value, size in ((6, (4, 3)), (77, (3, 4))):
        exif = Pillow.Exif()
        exif[274] = value
        rows = b"".join(b"\0" + row.tobytes() for row in GREY)
        (tmp_path / "a.png").write_bytes(png(4, 3, rows=rows, tail=chunk(b"eXIf", exif.tobytes()[6:])))
        assert read_size(tmp_path / "a.png") == size == read_raster(tmp_path / "a.png").shape


def test_spacing_comes_from_an_imagej_scale_only(tmp_path: Path) -> None:
    calibrated = "ImageJ=1.53t\nunit=mm\n"
    path = tmp_path / "a.tif"
    assert read_raster(write_tiff(path, GREY, description=calibrated, resolution=(2, 4))).spacing == (0.25, 0.5)
    turned = write_tiff(path, GREY, description=calibrated, resolution=(2, 4), orientation=6)
    assert read_raster(turned).spacing == (0.5, 0.25)
    assert read_raster(write_tiff(path, GREY, description="ImageJ=1\nunit=cm\n", resolution=(5, 5))).spacing == (2, 2)
    for description in ("", "unit=mm\n", "ImageJ=1.53t\n", "ImageJ=1.53t\nunit=furlong\n"):
        assert read_raster(write_tiff(path, GREY, description=description, resolution=(2, 4))).spacing is None
    assert read_raster(write_tiff(path, GREY, description=calibrated, resolution=(0, 4))).spacing is None


def test_the_name_does_not_decide_the_format(tmp_path: Path) -> None:
    save(tmp_path / "a.png", GREY).rename(tmp_path / "slice.jpg")
    assert read_image(tmp_path / "slice.jpg").meta["format"] == "PNG"
    (tmp_path / "slice.jpg").rename(tmp_path / "slice.dat")
    np.testing.assert_array_equal(read_image(tmp_path / "slice.dat").pixels, GREY)


def test_missing_directory_and_empty(tmp_path: Path) -> None:
    assert "does not exist" in refused(tmp_path / "none.png")
    assert "folder" in refused(tmp_path)
    (tmp_path / "zero.png").touch()
    assert "0 bytes" in refused(tmp_path / "zero.png")
    with pytest.raises(InputError, match="0 bytes"):
        read_size(tmp_path / "zero.png")


def test_other_files_are_named_for_what_they_are(tmp_path: Path) -> None:
    (tmp_path / "t.png").write_text("no image at all\n")
    assert "text file" in refused(tmp_path / "t.png")
    for ending, word in (("GIF", "GIF"), ("WEBP", "WebP")):
        Pillow.fromarray(GREY).save(tmp_path / "a.png", format=ending)
        assert word in refused(tmp_path / "a.png")
    (tmp_path / "a.png").write_bytes(b"\x1f\x8b" + bytes(100))
    assert "NIfTI" in refused(tmp_path / "a.png")
    (tmp_path / "a.png").write_bytes(bytes(128) + b"DICM" + bytes(50))
    assert "DICOM" in refused(tmp_path / "a.png")
    (tmp_path / "a.png").write_bytes(bytes(range(256)))
    assert "not an image" in refused(tmp_path / "a.png")
    (tmp_path / "a.png").write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(9))
    assert "damaged" in refused(tmp_path / "a.png")
    for kind in (GREY.astype(np.float64), RGB.astype(np.float32)):
        assert "float grey" in refused(write_tiff(tmp_path / "a.tif", kind))


def encoded_images() -> dict[str, bytes]:
    rng = np.random.default_rng(7)
    grey = rng.integers(0, 256, (24, 40), dtype=np.uint8)
    rgb = rng.integers(0, 256, (24, 40, 3), dtype=np.uint8)
    recipes: dict[str, tuple[NDArray[np.uint8], dict[str, Any]]] = {
        "png": (grey, {"format": "PNG"}),
        "jpeg": (grey, {"format": "JPEG", "quality": 90}),
        "progressive": (rgb, {"format": "JPEG", "quality": 90, "progressive": True}),
        "tiff": (grey, {"format": "TIFF"}),
        "lzw": (grey, {"format": "TIFF", "compression": "tiff_lzw"}),
        "deflate": (rgb, {"format": "TIFF", "compression": "tiff_adobe_deflate"}),
        "bmp": (rgb, {"format": "BMP"}),
    }
    out = {}
    for name, (array, how) in recipes.items():
        stream = io.BytesIO()
        Pillow.fromarray(array).save(stream, **how)
        out[name] = stream.getvalue()
    out["wide-png"] = cv2.imencode(".png", rgb.astype(np.uint16) * 250)[1].tobytes()
    out["wide-tiff"] = cv2.imencode(".tiff", rgb.astype(np.uint16) * 250)[1].tobytes()
    return out


ENCODED = encoded_images()


@pytest.mark.parametrize("how", [{}, {"restart_marker_rows": 2}, {"optimize": True}])
@pytest.mark.parametrize("share", [0.4, 0.7, 0.95])
def test_a_jpeg_that_ends_early_is_refused_whatever_its_last_bytes(
    tmp_path: Path, how: dict[str, Any], share: float
) -> None:
    """With an end mark, libjpeg fills in grey what is missing, and only whispers."""
    noise = np.random.default_rng(0).integers(0, 256, (128, 96), dtype=np.uint8)
    whole = save(tmp_path / "a.jpg", noise, quality=90, **how).read_bytes()
    kept = read_raster(tmp_path / "a.jpg").pixels
    assert (kept == np.asarray(Pillow.open(tmp_path / "a.jpg"))).all()
    (tmp_path / "a.jpg").write_bytes(whole[: int(share * len(whole))] + b"\xff\xd9")
    assert "damaged or cut short" in refused(tmp_path / "a.jpg")


@pytest.mark.parametrize(
    ("samples", "words"),
    [(np.arange(-6, 6, dtype=np.int8), "signed 8-bit"), (np.arange(2**32 - 12, 2**32, dtype=np.uint32), "unsigned 32")],
)
def test_a_tiff_whose_samples_would_be_taken_for_others(tmp_path: Path, samples: NDArray[Any], words: str) -> None:
    assert words in refused(write_tiff(tmp_path / "a.tif", samples.reshape(3, 4)))


@pytest.mark.parametrize("description", ["ImageJ=1.53\nimages=5\nslices=5\n", '{"shape": [5, 3, 4]}'])
def test_a_stack_behind_one_directory(tmp_path: Path, description: str) -> None:
    assert "holds 5 slices" in refused(write_tiff(tmp_path / "a.tif", GREY, description=description))


@pytest.mark.parametrize("description", ["ImageJ=1.53\nimages=1\n", '{"shape": [3, 4]}', '{"shape": [1, 3, 4, 1]}'])
def test_one_slice_by_the_same_words(tmp_path: Path, description: str) -> None:
    assert (read_raster(write_tiff(tmp_path / "a.tif", GREY, description=description)).pixels == GREY).all()


@pytest.mark.parametrize("name", ENCODED)
def test_a_file_cut_short_anywhere_is_refused(tmp_path: Path, name: str) -> None:
    whole, path = ENCODED[name], tmp_path / "cut.png"
    # A JPEG may lose its two-byte end mark without losing a pixel; anything before that counts.
    last = len(whole) - (2 if "jpeg" in name else 0)
    for end in sorted({*range(1, last, len(whole) // 40), *range(last - 8, last)}):
        path.write_bytes(whole[:end])
        refused(path)
    path.write_bytes(whole)
    assert read_raster(path).shape == (24, 40)


def test_nothing_is_read_while_pillow_is_told_to_fill_with_grey(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", True)
    (tmp_path / "a.jpg").write_bytes(ENCODED["jpeg"][:-200])
    refused(tmp_path / "a.jpg")
    assert ImageFile.LOAD_TRUNCATED_IMAGES is True  # and the setting is left as found


@pytest.mark.parametrize("name", ["png", "wide-png"])
def test_a_changed_byte_in_a_png_never_changes_a_pixel(tmp_path: Path, name: str) -> None:
    path, whole = tmp_path / "a.png", ENCODED[name]
    path.write_bytes(whole)
    pixels, seen = read_raster(path).pixels, 0
    for at in range(8, len(whole), 7):
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
        try:
            np.testing.assert_array_equal(read_raster(path).pixels, pixels)
        except InputError:
            seen += 1
    assert seen > 0.9 * len(range(8, len(whole), 7))


@pytest.mark.parametrize("missing", [1, 5, 60])
def test_a_png_with_too_few_pixels_is_refused(tmp_path: Path, missing: int, capfd: pytest.CaptureFixture[str]) -> None:
    """Its packed pixels end as they should, only too early: Pillow shows the rest as black."""
    rows = b"".join(b"\0" + row.tobytes() for row in np.resize(GREY, (24, 40)))
    (tmp_path / "a.png").write_bytes(png(40, 24, rows=rows))
    np.testing.assert_array_equal(read_raster(tmp_path / "a.png").pixels, np.resize(GREY, (24, 40)))
    (tmp_path / "a.png").write_bytes(png(40, 24, rows=rows[:-missing]))
    assert "fewer than its header says" in refused(tmp_path / "a.png")
    assert not "".join(capfd.readouterr())


def test_a_png_with_more_packed_than_pixels_is_read_without_the_rest(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    rows = b"".join(b"\0" + row.tobytes() for row in GREY)
    for more in (1, 10_000_000):
        (tmp_path / "a.png").write_bytes(png(4, 3, rows=rows + bytes(more)))
        np.testing.assert_array_equal(read_raster(tmp_path / "a.png").pixels, GREY)
    assert not "".join(capfd.readouterr())


@pytest.mark.parametrize("shape", [(1, 1), (1, 6), (6, 1), (3, 4), (9, 13), (64, 40)])
@pytest.mark.parametrize("depth", [1, 8, 16])
def test_an_interlaced_png_is_read(tmp_path: Path, shape: tuple[int, int], depth: int) -> None:
    """Adam7 in the specification's words: seven pictures, each of every so many-th pixel, behind one another."""
    pixels = np.random.default_rng(5).integers(0, 2**depth, shape)
    first_and_step = [(0, 8, 0, 8), (0, 8, 4, 8), (4, 8, 0, 4), (0, 4, 2, 4), (2, 4, 0, 2), (0, 2, 1, 2), (1, 2, 0, 1)]
    rows = b""
    for top, down, left, right in first_and_step:
        for row in pixels[top::down, left::right]:
            packed = np.packbits(row.astype(np.uint8)) if depth == 1 else row.astype(f">u{depth // 8}")
            rows += b"\0" + packed.tobytes() if len(row) else b""
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", *shape[::-1], depth, 0, 0, 0, 1))
    for packed, whole in ((rows, True), (rows[:-1], False)):
        data = chunk(b"IDAT", zlib.compress(packed)) + chunk(b"IEND", b"")
        (tmp_path / "a.png").write_bytes(b"\x89PNG\r\n\x1a\n" + head + data)
        if whole:
            shown = pixels * (255 if depth == 1 else 1)
            np.testing.assert_array_equal(read_raster(tmp_path / "a.png").pixels, shown)
    assert "fewer than its header says" in refused(tmp_path / "a.png")


def test_a_png_that_does_not_unpack_is_refused(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    rows = b"".join(b"\0" + row.tobytes() for row in GREY)
    (tmp_path / "a.png").write_bytes(png(4, 3, rows=rows[:-5] + b"\x05" + rows[-4:]))
    assert "no known filter" in refused(tmp_path / "a.png")
    for packed, told in (
        (b"", "fewer"),
        (zlib.compress(rows)[:-2], "fewer"),
        (zlib.compress(rows)[:-2] + b"ab", "not"),
    ):
        head = png(4, 3)[:33]
        (tmp_path / "a.png").write_bytes(head + chunk(b"IDAT", packed) + chunk(b"IEND", b""))
        assert told in refused(tmp_path / "a.png")
    assert not "".join(capfd.readouterr())


@pytest.mark.parametrize("kind", [b"IHDR", b"IDAT", b"eXIf"])
def test_a_png_with_a_wrong_checksum_is_refused(tmp_path: Path, kind: bytes) -> None:
    exif = chunk(b"eXIf", Pillow.Exif().tobytes())
    whole = png(4, 3, rows=b"".join(b"\0" + row.tobytes() for row in GREY), tail=exif)
    (tmp_path / "a.png").write_bytes(whole)
    np.testing.assert_array_equal(read_raster(tmp_path / "a.png").pixels, GREY)
    at = whole.index(kind)
    end = at + 4 + int.from_bytes(whole[at - 4 : at], "big")
    (tmp_path / "a.png").write_bytes(whole[:end] + bytes([whole[end] ^ 1]) + whole[end + 1 :])
    assert "damaged" in refused(tmp_path / "a.png")


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "I;16"])
@pytest.mark.parametrize("size", [(40, 24), (7, 31)])
def test_a_png_has_the_pixels_that_pillow_shows(tmp_path: Path, mode: str, size: tuple[int, int]) -> None:
    noise = np.random.default_rng(3).integers(0, 256, (*size[::-1], 3), dtype=np.uint8)
    wide = Pillow.fromarray(noise[..., 0].astype(np.uint16) * 257)
    picture = wide if mode == "I;16" else Pillow.fromarray(noise).convert(mode)
    picture.save(tmp_path / "a.png")
    shown = np.asarray(picture.convert("RGB") if mode in ("P", "RGB", "RGBA") else picture)
    shown = shown[..., 0] if mode == "LA" else shown * np.uint8(255) if mode == "1" else shown
    np.testing.assert_allclose(
        read_raster(tmp_path / "a.png").pixels, luma(shown) if shown.ndim == 3 else shown, atol=1e-4
    )


@pytest.mark.parametrize("depth", [1, 2, 4, 8])
def test_a_pixel_beyond_the_palette_is_refused(tmp_path: Path, depth: int) -> None:
    """Pillow shows it black."""
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", 8 // depth, 2, depth, 3, 0, 0, 0))
    packed, last = chunk(b"IDAT", zlib.compress(b"\0\0\0\x01")), min(2, 2**depth)
    for colours in (last, 1):
        palette = chunk(b"PLTE", bytes([9, 9, 9, 7, 7, 7])[: 3 * colours])
        (tmp_path / "a.png").write_bytes(b"\x89PNG\r\n\x1a\n" + head + palette + packed + chunk(b"IEND", b""))
        if colours == last:
            np.testing.assert_array_equal(read_raster(tmp_path / "a.png").pixels.ravel()[[0, -1]], [9, 7])
    assert "palette" in refused(tmp_path / "a.png")


def test_a_png_that_is_more_than_one_is_refused_in_words_that_help(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    rows = b"".join(b"\0" + row.tobytes() for row in GREY)
    whole = png(4, 3, rows=rows)
    for kind, data in ((b"CgBI", bytes(4)), (b"IHDR", whole[16:29])):
        (tmp_path / "a.png").write_bytes(whole[:33] + chunk(kind, data) + whole[33:])
        assert f"chunk '{kind.decode()}' too many" in refused(tmp_path / "a.png")
    (tmp_path / "a.png").write_bytes(png(1_000_001, 1, rows=bytes(1_000_002)))
    assert "1,000,000 pixels" in refused(tmp_path / "a.png")
    with pytest.raises(InputError, match="1,000,000 pixels"):
        read_size(tmp_path / "a.png")
    assert capfd.readouterr() == ("", "")


def test_an_interlaced_png_is_put_together(tmp_path: Path) -> None:
    """By hand, because neither Pillow nor OpenCV writes one: of each pass of Adam7 the rows, unfiltered."""
    passes = ((0, 8, 0, 8), (0, 8, 4, 8), (4, 8, 0, 4), (0, 4, 2, 4), (2, 4, 0, 2), (0, 2, 1, 2), (1, 2, 0, 1))
    picture = np.arange(11 * 13, dtype=np.uint8).reshape(11, 13)
    rows = b"".join(
        b"\0" + row.tobytes() for top, down, left, across in passes for row in picture[top::down, left::across]
    )
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", 13, 11, 8, 0, 0, 0, 1))
    packed = chunk(b"IDAT", zlib.compress(rows))
    (tmp_path / "a.png").write_bytes(b"\x89PNG\r\n\x1a\n" + head + packed + chunk(b"IEND", b""))
    np.testing.assert_array_equal(read_raster(tmp_path / "a.png").pixels, picture)


def test_chunks_without_pixels_neither_change_any_nor_are_remarked_on(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    rows = b"".join(b"\0" + row.tobytes() for row in GREY)
    extra = {
        b"gAMA": struct.pack(">I", 45455),
        b"tRNS": b"\0\x0a",
        b"iCCP": b"x\0\0" + zlib.compress(bytes(200)),
        b"PLTE": bytes(6),
    }
    whole = png(4, 3, rows=rows)
    chunks = b"".join(chunk(kind, data) for kind, data in extra.items())
    (tmp_path / "a.png").write_bytes(whole[:33] + chunks + whole[33:])
    np.testing.assert_array_equal(read_raster(tmp_path / "a.png").pixels, GREY)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("side", [8_001, 20_000])
def test_a_bomb_is_refused_by_its_header(tmp_path: Path, side: int) -> None:
    # Valid to its checksums, and its pixels do unpack, so that only the size in the header can be what is refused.
    rows = zlib.compressobj(9)
    packed = rows.compress(bytes(side + 1) * 64) + rows.flush()
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0))
    path = tmp_path / "bomb.png"
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", packed) + chunk(b"IEND", b""))
    limit = Pillow.MAX_IMAGE_PIXELS
    assert "64 million" in refused(path)
    with pytest.raises(InputError, match="64 million"):
        read_size(path)
    assert limit == Pillow.MAX_IMAGE_PIXELS


def test_a_bomb_is_refused_whatever_pillows_own_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Pillow, "MAX_IMAGE_PIXELS", None)
    (tmp_path / "bomb.png").write_bytes(png(20_000, 20_000))
    assert "20000 x 20000" in refused(tmp_path / "bomb.png")


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_tiff_with_a_pixel_that_is_no_number_is_refused(tmp_path: Path, value: float) -> None:
    samples = GREY.astype(np.float32)
    samples[1, 2] = value
    assert "1 NaN or infinite" in refused(write_tiff(tmp_path / "a.tif", samples))


def test_several_pages_are_refused_and_counted(tmp_path: Path) -> None:
    assert "3 pages" in refused(write_tiff(tmp_path / "a.tif", GREY, pages=3))
    frames = [Pillow.fromarray(GREY), Pillow.fromarray(GREY[::-1].copy())]
    frames[0].save(tmp_path / "a.png", save_all=True, append_images=frames[1:])
    assert "2 pages" in refused(tmp_path / "a.png")


def test_values_that_float32_cannot_hold_are_refused(tmp_path: Path) -> None:
    exact = np.array([[2**24, -(2**24)]], dtype=np.int32)
    np.testing.assert_array_equal(read_raster(write_tiff(tmp_path / "a.tif", exact)).pixels, exact)
    assert "16-bit" in refused(write_tiff(tmp_path / "a.tif", exact + 1))
    assert "16-bit" in refused(write_tiff(tmp_path / "a.tif", np.array([[2**31]], dtype=np.uint32)))


def test_16_bit_cmyk_is_refused(tmp_path: Path) -> None:
    assert "CMYK" in refused(write_tiff(tmp_path / "a.tif", np.dstack([WIDE_RGB, WIDE]), photometric=5))


def test_damaged_exif_is_warned_of_and_the_pixels_are_read(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(
        ENCODED["jpeg"][:2] + b"\xff\xe1\x00\x10Exif\0\0II*\0\xff\x00\x00\x00" + ENCODED["jpeg"][2:]
    )
    before = list(warnings.filters)
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        image = read_raster(tmp_path / "a.jpg")
    assert image.meta["orientation"] == 1
    assert "Corrupt EXIF" in str(seen[0].message)  # Pillow's own warning, neither hidden nor turned into an error
    assert warnings.filters == before


def test_the_path_is_not_in_the_meta(tmp_path: Path) -> None:
    info = PngImagePlugin.PngInfo()
    info.add_text("Source", str(tmp_path))
    meta = read_raster(save(tmp_path / "a.png", GREY, pnginfo=info)).meta
    assert set(meta) == {"format", "bits", "channels", "colour", "coloured", "vivid", "orientation"}


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_mutated_bytes_give_an_image_or_a_refusal(tmp_path: Path, data: st.DataObject) -> None:
    whole = bytearray(ENCODED[data.draw(st.sampled_from(sorted(ENCODED)))])
    for _ in range(data.draw(st.integers(1, 6))):
        # headers are short and matter most, so half the changes go there
        end = data.draw(st.sampled_from([min(200, len(whole)), len(whole)]))
        whole[data.draw(st.integers(0, end - 1))] = data.draw(st.integers(0, 255))
    path = tmp_path / "mutated.png"
    path.write_bytes(whole)
    try:
        image = read_raster(path)
    except InputError as error:
        refusal = str(error)
    else:
        refusal = ""
        assert isinstance(image, Image)
        assert np.isfinite(image.pixels).all()
        assert read_size(path) == image.shape
    assert not refusal or str(path) in refusal
