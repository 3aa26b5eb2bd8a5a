"""Every kind of image file comes out upright, over white, scaled to 8 bits, with the pixels that one expects."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from gan_experiments.data.decode import UnreadableImageError, decode

RED, GREEN, WHITE = (255, 0, 0), (0, 255, 0), (255, 255, 255)


def encode(image: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def halves(left: Any, right: Any, mode: str = "RGB", size: tuple[int, int] = (16, 16)) -> Image.Image:
    """Make an image of two colours side by side."""
    image = Image.new(mode, size, left)
    image.paste(right, (size[0] // 2, 0, size[0], size[1]))
    return image


def corners(pixels: Tensor) -> list[list[int]]:
    """Return the colours at top left, top right, bottom left, bottom right."""
    return [pixels[:, y, x].tolist() for y in (0, -1) for x in (0, -1)]


def same(pixels: Tensor, *wanted: tuple[int, ...], within: int = 0) -> None:
    difference = (torch.tensor(corners(pixels)) - torch.tensor(wanted)).abs().max().item()
    assert difference <= within, f"{corners(pixels)} is not {wanted}"


def test_png_of_the_right_size_keeps_every_pixel() -> None:
    array = np.random.default_rng(0).integers(0, 256, (16, 16, 3), dtype=np.uint8)
    pixels = decode(encode(Image.fromarray(array)), 16, 3)
    assert pixels.dtype == torch.uint8
    assert torch.equal(pixels, torch.from_numpy(array).permute(2, 0, 1))


def test_jpeg_is_within_a_level_of_pil() -> None:
    smooth = Image.fromarray(np.random.default_rng(0).integers(0, 256, (9, 9, 3), dtype=np.uint8)).resize((64, 64), 3)
    raw = encode(smooth, "JPEG", quality=95)
    wanted = np.asarray(Image.open(io.BytesIO(raw)).resize((32, 32), Image.Resampling.BICUBIC)).astype(int)
    got = decode(raw, 32, 3).permute(1, 2, 0).numpy().astype(int)
    assert np.abs(got - wanted).max() <= 3
    assert np.abs(got - wanted).mean() < 0.5


@pytest.mark.parametrize("channels", [1, 3])
def test_large_jpeg_shrunk_while_decoding_is_close_to_the_whole_way(channels: int) -> None:
    smooth = Image.fromarray(np.random.default_rng(1).integers(0, 256, (12, 16, 3), dtype=np.uint8))
    smooth = smooth.resize((640, 480), Image.Resampling.BICUBIC).convert("L" if channels == 1 else "RGB")
    raw = encode(smooth, "JPEG", quality=95)
    wanted = np.asarray(smooth.crop((80, 0, 560, 480)).resize((32, 32), Image.Resampling.BICUBIC)).astype(int)
    got = decode(raw, 32, channels).permute(1, 2, 0).squeeze(-1).numpy().astype(int)
    assert np.abs(got - wanted).mean() < 2
    assert np.abs(got - wanted).max() < 20


def test_crop_of_a_large_jpeg_is_in_pixels_of_the_file() -> None:
    image = Image.new("RGB", (800, 800), RED)
    image.paste(GREEN, (300, 300, 500, 500))
    raw = encode(image, "JPEG", quality=95)
    inside = decode(raw, 16, 3, crop=160).float().mean((1, 2))
    assert inside[1] > 245
    assert inside[0] < 10
    same(decode(raw, 16, 3, crop=800), RED, RED, RED, RED, within=3)


def test_wide_and_high_images_keep_their_centre() -> None:
    image = Image.new("RGB", (48, 16), RED)
    image.paste(GREEN, (16, 0, 32, 16))
    same(decode(encode(image), 16, 3), GREEN, GREEN, GREEN, GREEN)
    same(decode(encode(image.transpose(Image.Transpose.ROTATE_90)), 16, 3), GREEN, GREEN, GREEN, GREEN)


def test_crop_larger_than_the_image_is_the_short_side() -> None:
    assert torch.equal(decode(encode(halves(RED, GREEN)), 16, 3, crop=99), decode(encode(halves(RED, GREEN)), 16, 3))


def test_shrinking_antialiases() -> None:
    stripes = np.zeros((64, 64, 3), np.uint8)
    stripes[:, ::2] = 255
    pixels = decode(encode(Image.fromarray(stripes)), 8, 3).float()
    assert (pixels[:, 2:-2, 2:-2] - 127.5).abs().max() < 8  # without antialiasing: 0 or 255


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "GIF", "WEBP", "BMP", "TIFF"])
def test_grey_becomes_colour_and_colour_grey(kind: str) -> None:
    grey = decode(encode(halves(40, 200, "L"), kind), 16, 3)
    same(grey, (40,) * 3, (200,) * 3, (40,) * 3, (200,) * 3, within=4)
    red_is_76 = decode(encode(halves(RED, GREEN), kind), 16, 1)  # 0.299 * 255, 0.587 * 255
    same(red_is_76, (76,), (150,), (76,), (150,), within=6)


def test_palette_and_transparent_palette() -> None:
    flat = halves(RED, GREEN).quantize(2)
    same(decode(encode(flat), 16, 3), RED, GREEN, RED, GREEN)
    index = flat.getpixel((0, 0))
    same(decode(encode(flat, transparency=index), 16, 3), WHITE, GREEN, WHITE, GREEN)


@pytest.mark.parametrize("kind", ["PNG", "WEBP"])
def test_transparency_is_white(kind: str) -> None:
    raw = encode(
        halves((255, 0, 0, 0), (0, 255, 0, 255), "RGBA"), kind, **({"lossless": True} if kind == "WEBP" else {})
    )
    same(decode(raw, 16, 3), WHITE, GREEN, WHITE, GREEN)
    same(decode(raw, 16, 1), (255,), (150,), (255,), (150,))


def test_half_transparent_black_is_grey() -> None:
    same(
        decode(encode(halves((0, 0, 0, 128), (0, 0, 0, 255), "RGBA")), 16, 3),
        (127,) * 3,
        (0,) * 3,
        (127,) * 3,
        (0,) * 3,
    )


def test_hidden_colours_do_not_bleed_when_shrunk() -> None:
    raw = encode(halves((255, 0, 0, 0), (255, 255, 255, 255), "RGBA", (64, 64)))
    assert decode(raw, 16, 3).min() >= 254  # the red is fully transparent


def test_grey_with_alpha() -> None:
    raw = encode(halves((10, 0), (10, 255), "LA"))
    same(decode(raw, 16, 3), WHITE, (10,) * 3, WHITE, (10,) * 3)
    same(decode(raw, 16, 1), (255,), (10,), (255,), (10,))


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_sixteen_bits_are_scaled_not_clipped(kind: str) -> None:
    array = np.zeros((16, 16), np.uint16)
    array[:, 8:] = 32768
    array[8:, 8:] = 65535
    array[8:, :8] = 257
    same(decode(encode(Image.fromarray(array), kind), 16, 1), (0,), (128,), (1,), (255,))
    same(decode(encode(Image.fromarray(array), kind), 16, 3), (0,) * 3, (128,) * 3, (1,) * 3, (255,) * 3)


def test_thirty_two_bits_and_floats() -> None:
    integers = np.full((16, 16), 65535, np.int32)
    integers[:, :8] = 32768
    same(decode(encode(Image.fromarray(integers), "TIFF"), 16, 1), (128,), (255,), (128,), (255,))
    small = np.full((16, 16), 200, np.int32)
    same(decode(encode(Image.fromarray(small), "TIFF"), 16, 1), (200,), (200,), (200,), (200,))
    floats = np.full((16, 16), 1.0, np.float32)
    floats[:, :8] = 0.2
    same(decode(encode(Image.fromarray(floats), "TIFF"), 16, 1), (51,), (255,), (51,), (255,))


def test_one_bit() -> None:
    same(decode(encode(halves(0, 1, "1")), 16, 1), (0,), (255,), (0,), (255,))


@pytest.mark.parametrize("kind", ["JPEG", "TIFF"])
def test_cmyk(kind: str) -> None:
    raw = encode(
        halves((0, 255, 255, 0), (255, 0, 255, 0), "CMYK"), kind, **({"quality": 95} if kind == "JPEG" else {})
    )
    same(decode(raw, 16, 3), RED, GREEN, RED, GREEN, within=12)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
@pytest.mark.parametrize(("orientation", "wanted"), [(3, "GRGR"), (6, "RRGG"), (8, "GGRR"), (2, "GRGR"), (1, "RGRG")])
def test_exif_turns_upright(kind: str, orientation: int, wanted: str) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    raw = encode(halves(RED, GREEN), kind, exif=exif, **({} if kind == "PNG" else {"quality": 95}))
    same(decode(raw, 16, 3), *({"R": RED, "G": GREEN}[letter] for letter in wanted), within=6)


def test_exif_of_a_large_jpeg() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    raw = encode(halves(RED, GREEN, size=(640, 480)), "JPEG", exif=exif, quality=95)
    same(decode(raw, 16, 3), RED, RED, GREEN, GREEN, within=6)


@pytest.mark.parametrize("kind", ["GIF", "PNG", "WEBP", "TIFF"])
def test_animations_show_their_first_frame(kind: str) -> None:
    options = {"lossless": True} if kind == "WEBP" else {}
    raw = encode(
        Image.new("RGB", (16, 16), RED),
        kind,
        save_all=True,
        append_images=[Image.new("RGB", (16, 16), GREEN)],
        **options,
    )
    same(decode(raw, 16, 3), RED, RED, RED, RED)


@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
@pytest.mark.parametrize("size", [(1, 1), (1, 7), (3, 2)])
def test_tiny_images_grow(kind: str, size: tuple[int, int]) -> None:
    same(decode(encode(Image.new("RGB", size, RED), kind), 16, 3), RED, RED, RED, RED, within=2)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "GIF", "WEBP"])
def test_truncated_files_are_refused(kind: str) -> None:
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8))
    raw = encode(noise, kind)
    for resolution in (8, 64):
        with pytest.raises(UnreadableImageError):
            decode(raw[: len(raw) // 2], resolution, 3)


@pytest.mark.parametrize("raw", [b"", b"hello", b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"GIF89a", bytes(1000)])
def test_other_files_are_refused(raw: bytes) -> None:
    with pytest.raises(UnreadableImageError, match=r"."):
        decode(raw, 16, 3)
