"""Kinds of image files: shown as any viewer shows them, or refused with the file's name."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from icd.data.decode import decode_rgb
from icd.errors import DataError

ORIENTATION = 274  # the EXIF tag


def colours(height: int = 8, width: int = 12) -> Image.Image:
    return Image.fromarray(np.random.default_rng(3).integers(0, 256, (height, width, 3), dtype=np.uint8))


def ramp() -> np.ndarray:
    return np.linspace(0, 65535, 64 * 64).astype(np.uint16).reshape(64, 64)


def shown(path: Path) -> np.ndarray:
    image = decode_rgb(path)
    assert image.mode == "RGB"
    return np.asarray(image)


@pytest.mark.parametrize("suffix", [".png", ".ppm"])
def test_16_bit_greys_keep_their_upper_byte(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"grey{suffix}"
    if suffix == ".png":
        Image.fromarray(ramp()).save(path)
    else:
        path.write_bytes(b"P5 64 64 65535\n" + ramp().astype(">u2").tobytes())
    assert np.array_equal(shown(path), np.repeat((ramp() >> 8).astype(np.uint8)[..., None], 3, axis=2))


def test_palettes_transparency_greys_and_bits_keep_their_colours(tmp_path: Path) -> None:
    image, palette = colours(), colours().quantize(16)
    transparent = image.convert("RGBA")
    transparent.putalpha(128)
    pictures: list[tuple[Image.Image, dict[str, Any], Image.Image]] = [
        (palette, {}, palette.convert("RGB")),
        (palette, {"transparency": bytes([0, *[255] * 15])}, palette.convert("RGB")),
        (transparent, {}, image),
        (image.convert("L"), {"transparency": 0}, image.convert("L").convert("RGB")),
        (image.convert("LA"), {}, image.convert("L").convert("RGB")),
        (image.convert("1"), {}, image.convert("1").convert("RGB")),
    ]
    for number, (made, options, expected) in enumerate(pictures):
        path = tmp_path / f"{number}.png"
        made.save(path, **options)
        assert np.array_equal(shown(path), np.asarray(expected)), number


def test_inks_become_their_colour(tmp_path: Path) -> None:
    Image.new("CMYK", (8, 8), (0, 255, 255, 0)).save(tmp_path / "red.jpg")
    assert np.abs(shown(tmp_path / "red.jpg").astype(int) - (255, 0, 0)).max() <= 2


@pytest.mark.parametrize("mode", ["RGB", "I;16"])
def test_photographs_are_turned_upright(tmp_path: Path, mode: str) -> None:
    image = colours() if mode == "RGB" else Image.fromarray(ramp()[:8, :12])
    exif = image.getexif()
    exif[ORIENTATION] = 6  # the camera lay on its side
    image.save(tmp_path / "turned.png", exif=exif)
    image.save(tmp_path / "plain.png")
    assert np.array_equal(shown(tmp_path / "turned.png"), np.rot90(shown(tmp_path / "plain.png"), -1))


def test_a_cameras_preview_is_no_second_picture(tmp_path: Path) -> None:
    colours().save(tmp_path / "camera.jpg", "MPO", save_all=True, append_images=[colours(4, 6)])
    assert shown(tmp_path / "camera.jpg").shape == (8, 12, 3)


def test_what_would_be_a_guess_is_refused_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    image, other = colours(), colours().rotate(180)
    image.save(tmp_path / "moving.webp", save_all=True, append_images=[other])
    image.save(tmp_path / "moving.png", save_all=True, append_images=[other])
    Image.fromarray(ramp().astype(np.float32)).save(tmp_path / "floats.png", "TIFF")
    image.save(tmp_path / "half.png")
    (tmp_path / "half.png").write_bytes((tmp_path / "half.png").read_bytes()[:-60])
    (tmp_path / "page.jpg").write_text("<html>not found</html>")
    for name, rule in {
        "moving.webp": "one picture, but this file holds 2",
        "moving.png": "one picture, but this file holds 2",
        "floats.png": "8 or 16 bits a colour, but got mode 'F'",
        "half.png": "not a readable image",
        "page.jpg": "not a readable image",
    }.items():
        with pytest.raises(DataError, match=rf"{name}: .*{rule}"):
            decode_rgb(tmp_path / name)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 40)
    image.save(tmp_path / "huge.png")
    with pytest.raises(DataError, match=r"huge\.png: .*exceeds limit"):
        decode_rgb(tmp_path / "huge.png")
