"""Files, tensors, and every bad picture or mask that may come in from outside."""

import io
import struct
import zlib

import numpy as np
import pytest
import torch
from PIL import Image

from minidiff.images import (
    ImageError,
    check_output,
    composite,
    decode,
    enclosed,
    good_size,
    load_image,
    load_mask,
    load_pair,
    save_png,
    to_pil,
    to_pixels,
    to_rgb,
    to_tensor,
    to_uint8,
    to_x0,
)


def random_picture(width=64, height=48, seed=0):
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(pixels)


def black_and_white(width=64, height=48):
    """White on the left half."""
    mask = np.zeros((height, width), np.uint8)
    mask[:, : width // 2] = 255
    return Image.fromarray(mask)


def saved(picture, path, **options):
    picture.save(path, **options)
    return path


def png_header(width, height):
    """A PNG that claims a size and holds next to nothing."""

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunks = chunk(b"IHDR", header), chunk(b"IDAT", zlib.compress(b"")), chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


def refusal(function, *arguments, **options):
    """The text of the ImageError that a call raises: at most two lines."""
    with pytest.raises(ImageError) as caught:
        function(*arguments, **options)
    text = str(caught.value)
    assert text and len(text.splitlines()) <= 2
    return text


def test_every_uint8_value_survives_the_way_to_a_tensor_and_back():
    values = torch.arange(256, dtype=torch.uint8).expand(1, 3, 8, 256)
    assert torch.equal(to_uint8(to_x0(values)), values)
    picture = to_pil(to_x0(values))
    assert picture.size == (256, 8) and picture.getpixel((200, 3)) == (200, 200, 200)
    assert torch.equal(to_pixels(picture), values)
    x0 = to_tensor(picture)
    assert x0.min() == -1 and x0.max() == 1 and x0.dtype == torch.float32


def test_colours_and_axes_keep_their_order():
    picture = Image.new("RGB", (16, 8))
    picture.putpixel((10, 3), (255, 0, 128))
    x0 = to_tensor(picture)
    assert x0.shape == (1, 3, 8, 16)
    torch.testing.assert_close(x0[0, :, 3, 10], torch.tensor([1.0, -1.0, 128 / 127.5 - 1]))
    assert to_pil(x0[0]).getpixel((10, 3)) == (255, 0, 128)


def test_to_pil_clamps_overshoot_and_refuses_nan():
    x0 = torch.full((1, 3, 8, 8), 1.3)
    assert to_pil(x0).getpixel((0, 0)) == (255, 255, 255)
    x0[0, 0, 0, 0] = float("nan")
    assert "finite" in refusal(to_pil, x0)


def test_png_keeps_every_pixel(tmp_path):
    picture = random_picture()
    save_png(picture, tmp_path / "a.png")
    assert np.array_equal(load_image(tmp_path / "a.png"), picture)
    assert [path.name for path in tmp_path.iterdir()] == ["a.png"]


@pytest.mark.parametrize("orientation, turn", [
    (3, Image.Transpose.ROTATE_180), (6, Image.Transpose.ROTATE_270), (2, Image.Transpose.FLIP_LEFT_RIGHT)])
def test_exif_rotation_is_applied(tmp_path, orientation, turn):
    picture, exif = random_picture(), Image.Exif()
    exif[0x0112] = orientation
    for suffix in "png", "webp":
        lossless = {"lossless": True} if suffix == "webp" else {}
        path = saved(picture, tmp_path / f"turned.{suffix}", exif=exif, **lossless)
        assert np.array_equal(load_image(path), picture.transpose(turn))
    assert load_image(saved(picture, tmp_path / "turned.jpg", exif=exif)).size == picture.transpose(turn).size


def test_palette_grey_and_opacity_become_rgb(tmp_path):
    picture = random_picture()
    grey, palette = picture.convert("L"), picture.quantize(32)
    opacity = Image.fromarray(np.arange(64 * 48, dtype=np.uint8).reshape(48, 64))
    with_opacity = picture.copy()
    with_opacity.putalpha(opacity)
    cases = {"grey": (grey, grey.convert("RGB")), "palette": (palette, palette.convert("RGB")),
             "opacity": (with_opacity, picture),
             "grey and opacity": (Image.merge("LA", (grey, opacity)), grey.convert("RGB")),
             "black and white": (grey.convert("1"), grey.convert("1").convert("RGB"))}
    for name, (stored, expected) in cases.items():
        loaded = load_image(saved(stored, tmp_path / f"{name}.png"))
        assert loaded.mode == "RGB" and np.array_equal(loaded, expected), name


def test_transparent_palette_keeps_its_colours(tmp_path):
    palette = random_picture().quantize(16)
    path = saved(palette, tmp_path / "a.png", transparency=bytes(range(16)))
    assert np.array_equal(load_image(path), palette.convert("RGB"))


def test_16_bits_are_scaled_not_cut(tmp_path):
    deep = np.linspace(0, 65535, 64 * 48).astype(np.uint16).reshape(48, 64)
    for order in "<", ">":
        picture = to_rgb(Image.fromarray(deep.astype(order + "u2")))
        assert np.array_equal(np.asarray(picture)[..., 0], np.round(deep / 65535 * 255))
    loaded = load_image(saved(Image.fromarray(deep), tmp_path / "deep.png"))
    assert np.array_equal(np.asarray(loaded)[..., 1], np.round(deep / 65535 * 255))


def test_jpeg_in_cmyk_is_read(tmp_path):
    path = saved(Image.new("CMYK", (64, 64), (0, 255, 255, 0)), tmp_path / "a.jpg", quality=95)
    red, green, blue = load_image(path).getpixel((9, 9))
    assert red > 240 and green < 15 and blue < 15


@pytest.mark.parametrize("mode", ["I", "F", "LAB", "HSV"])
def test_other_modes_are_refused_by_name(mode):
    assert f"mode {mode}" in refusal(load_image, Image.new(mode, (64, 64)))


def test_animations_are_refused(tmp_path):
    frames = [random_picture(seed=seed) for seed in range(3)]
    for suffix in "gif", "webp", "png":
        path = saved(frames[0], tmp_path / f"a.{suffix}", save_all=True, append_images=frames[1:])
        assert "3 frames" in refusal(load_image, path)
        with Image.open(path) as opened:
            assert "3 frames" in refusal(load_image, opened)
    assert load_image(saved(frames[0], tmp_path / "still.gif")).size == (64, 48)


def test_a_phones_jpeg_with_a_preview_in_it_is_read(tmp_path):
    pictures = dict(save_all=True, append_images=[random_picture(seed=1)])
    path = saved(random_picture(), tmp_path / "phone.jpg", format="MPO", **pictures)
    with Image.open(path) as opened:
        assert opened.format == "MPO" and opened.n_frames == 2
        expected = np.asarray(opened.convert("RGB"))
    assert np.array_equal(load_image(path), expected)


@pytest.mark.parametrize("width, height", [(10_000, 10_000), (7_100, 7_100), (60_000, 6_000)])
def test_a_header_of_too_many_pixels_is_enough(tmp_path, width, height):
    path = tmp_path / "bomb.png"
    path.write_bytes(png_header(width, height))
    for resize in False, True:
        text = refusal(load_image, path, resize)
        assert "50,000,000" in text and "bomb.png" in text


def test_files_that_are_no_pictures(tmp_path):
    whole = io.BytesIO()
    random_picture().save(whole, "PNG")
    jpeg = io.BytesIO()
    random_picture().save(jpeg, "JPEG")
    contents = {"text.png": b"hello", "empty.png": b"",
                "cut.png": whole.getvalue()[:900], "cut.jpg": jpeg.getvalue()[:600],
                "lies.png": png_header(64, 64), "page.svg": b"<svg xmlns='http://www.w3.org/2000/svg'/>",
                "vector.eps": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 64 64\n"}
    for name, content in contents.items():
        (tmp_path / name).write_bytes(content)
        assert name in refusal(load_image, tmp_path / name)
        assert name in refusal(load_mask, tmp_path / name)
    assert "empty" in refusal(load_image, tmp_path / "empty.png")
    assert "folder" in refusal(load_image, tmp_path)
    assert "no file" in refusal(load_image, tmp_path / "nowhere.png")
    assert "no file" in refusal(load_image, "/dev/zero")


def test_every_cut_and_flip_of_a_file_is_refused_or_read(tmp_path):
    """Whatever the decoder says about damage, an ImageError comes out, never anything else."""
    whole, rng = io.BytesIO(), np.random.default_rng(0)
    random_picture().save(whole, "PNG")
    for i in range(200):
        content = bytearray(whole.getvalue())
        content[rng.integers(8, 80 if i % 2 else len(content))] ^= 1 << rng.integers(8)
        path = tmp_path / "damaged.png"
        path.write_bytes(content[: rng.integers(20, len(content))] if i % 3 == 0 else content)
        try:
            assert decode(path).size
        except ImageError as error:
            assert len(str(error).splitlines()) <= 2


@pytest.mark.parametrize("size, good", [
    ((100, 75), (96, 72)), ((64, 48), (64, 48)), ((513, 64), (512, 64)), ((24, 48), (32, 64)),
    ((4000, 3000), (512, 384)), ((16, 16), (32, 32)), ((3000, 20), (512, 32)), ((60, 60), (64, 64))])
def test_sizes_that_run_and_the_nearest_good_one(size, good):
    assert good_size(*size) == good
    picture = Image.new("RGB", size)
    if size != good:
        text = refusal(load_image, picture)
        assert f"{size[0]} x {size[1]}" in text and f"{good[0]} x {good[1]}" in text and "--resize" in text
    assert load_image(picture, resize=True).size == good


def test_every_multiple_of_8_from_32_to_512_runs():
    sides = [side for side in range(1, 600) if good_size(side, side) == (side, side)]
    assert sides == list(range(32, 513, 8))


def test_white_may_change(tmp_path):
    left = torch.zeros(1, 1, 48, 64, dtype=torch.bool)
    left[..., :32] = True
    for mode in "L", "1", "RGB", "P", "RGBA", "LA":
        path = saved(black_and_white().convert(mode), tmp_path / f"{mode}.png")
        assert torch.equal(load_mask(path), left), mode
    jpeg = saved(black_and_white().convert("RGB"), tmp_path / "mask.jpg", quality=60)
    assert torch.equal(load_mask(jpeg), left)
    deep = Image.fromarray(np.asarray(black_and_white()).astype(np.uint16) * 257)
    assert torch.equal(load_mask(deep), left)
    assert torch.equal(load_mask(left), left)


def test_transparent_may_change_whatever_the_colours(tmp_path):
    picture = random_picture()
    picture.putalpha(Image.fromarray(255 - np.asarray(black_and_white())))
    left = load_mask(black_and_white())
    assert torch.equal(load_mask(saved(picture, tmp_path / "hole.png")), left)
    black_where_it_may_change = Image.fromarray(255 - np.asarray(black_and_white()))
    opposite = Image.merge("LA", (black_where_it_may_change, picture.getchannel("A")))
    assert torch.equal(load_mask(opposite), left)
    palette = black_and_white().convert("P")
    path = saved(palette, tmp_path / "palette.png", transparency=255)
    assert torch.equal(load_mask(path), left)


def test_a_hole_erased_from_a_picture_serves_as_picture_and_mask(tmp_path):
    picture = random_picture()
    erased = picture.copy()
    erased.putalpha(Image.fromarray(255 - np.asarray(black_and_white())))
    path = saved(erased, tmp_path / "hole.png")
    loaded, edit_mask = load_pair(path, path)
    assert np.array_equal(np.asarray(loaded)[:, 32:], np.asarray(picture)[:, 32:])
    assert edit_mask[..., :32].all() and not edit_mask[..., 32:].any()


def test_a_photograph_is_no_mask():
    assert "neither black nor white" in refusal(load_mask, random_picture())
    soft = black_and_white().resize((16, 12)).resize((64, 48), Image.Resampling.BICUBIC)
    assert load_mask(soft).float().mean() == pytest.approx(0.5, abs=0.05)


def test_picture_and_mask_must_agree_in_size(tmp_path):
    text = refusal(load_pair, random_picture(64, 48), black_and_white(48, 64))
    assert "64 x 48" in text and "48 x 64" in text
    assert "64 x 48" in refusal(load_pair, random_picture(64, 48), torch.ones(1, 1, 64, 64, dtype=torch.bool))


def test_resize_takes_picture_and_mask_along():
    mask = np.zeros((300, 400), np.uint8)
    mask[100, 200] = 255                                             # one pixel, which resizing must not lose
    assert "nearest" in refusal(load_pair, random_picture(401, 300), Image.new("L", (401, 300)))
    large_mask = Image.fromarray(mask).resize((4000, 3000), Image.Resampling.NEAREST)
    picture, edit_mask = load_pair(random_picture(4000, 3000), large_mask, resize=True)
    assert picture.size == (512, 384) and edit_mask.shape == (1, 1, 384, 512)
    assert 1 <= edit_mask.sum() <= 9 and edit_mask[0, 0, 128, 256]


@pytest.mark.parametrize("bad, word", [
    (torch.zeros(3, 64, 64), "(3, 64, 64)"),
    (torch.zeros(2, 3, 64, 64), "(2, 3, 64, 64)"),
    (torch.zeros(1, 1, 64, 64), "(1, 1, 64, 64)"),
    (torch.zeros(1, 3, 64, 64, dtype=torch.uint8), "uint8"),
    (torch.full((1, 3, 64, 64), float("nan")), "NaN"),
    (torch.full((1, 3, 64, 64), float("inf")), "infinite"),
    (torch.full((1, 3, 64, 64), 255.0), "255"),
    (torch.zeros(1, 3, 60, 64), "64 x 60"),
    (torch.zeros(1, 3, 0, 0), "0"),
    (np.zeros((64, 64, 3), np.uint8), "ndarray"),
    (None, "NoneType"),
])
def test_bad_tensors_are_refused(bad, word):
    assert word in refusal(load_image, bad)


@pytest.mark.parametrize("bad", [
    torch.zeros(1, 1, 48, 64), torch.zeros(1, 1, 48, 64, dtype=torch.uint8),
    torch.zeros(48, 64, dtype=torch.bool), torch.zeros(1, 3, 48, 64, dtype=torch.bool)])
def test_bad_mask_tensors_are_refused(bad):
    assert "bool (1, 1, H, W), True = may change" in refusal(load_pair, random_picture(), bad)


def test_kept_pixels_are_identical_for_1000_random_masks():
    generator = torch.Generator().manual_seed(0)
    for i in range(1000):
        known, edited = torch.randint(0, 256, (2, 1, 3, 16, 24), generator=generator).to(torch.uint8)
        edit_mask = torch.rand(1, 1, 16, 24, generator=generator) < i / 999
        kept = (~edit_mask).expand_as(known)
        result = composite(known, edited, edit_mask)
        assert torch.equal(result[kept], known[kept]) and torch.equal(result[~kept], edited[~kept])
        through_floats = composite(known, to_uint8(to_x0(edited)), edit_mask)
        assert torch.equal(through_floats, result)


def test_composite_refuses_floats_and_other_shapes():
    pixels, edit_mask = torch.zeros(1, 3, 8, 8, dtype=torch.uint8), torch.ones(1, 1, 8, 8, dtype=torch.bool)
    assert "float32" in refusal(composite, pixels, pixels.float(), edit_mask)
    assert "(1, 3, 8, 4)" in refusal(composite, pixels, pixels[..., :4], edit_mask)
    assert "(1, 1, 8, 4)" in refusal(composite, pixels, pixels, edit_mask[..., :4])
    assert "float32" in refusal(composite, pixels, pixels, edit_mask.float())


def test_output_is_checked_before_anything_is_computed(tmp_path):
    (tmp_path / "file").write_bytes(b"")
    (tmp_path / "folder.png").mkdir()
    for bad in "a.jpg", "a", "a.jpeg":
        assert ".png" in refusal(check_output, tmp_path / bad)
    for bad in "folder.png", "nowhere/a.png", "file/a.png":
        assert "cannot be written" in refusal(check_output, tmp_path / bad)
    assert check_output(tmp_path / "a.PNG") == tmp_path / "a.PNG"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "folder.png"]


def test_a_failed_write_leaves_what_was_there(tmp_path, monkeypatch):
    save_png(random_picture(seed=1), tmp_path / "a.png")

    def full_disk(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full_disk)
    with pytest.raises(OSError):
        save_png(random_picture(seed=2), tmp_path / "a.png")
    assert [path.name for path in tmp_path.iterdir()] == ["a.png"]
    assert np.array_equal(load_image(tmp_path / "a.png"), random_picture(seed=1))


def ring(size=32, gap=0):
    """A circle drawn by hand, `gap` pixels of it missing at the top."""
    y, x = torch.meshgrid(torch.arange(size), torch.arange(size), indexing="ij")
    distance = ((y - 15.5) ** 2 + (x - 15.5) ** 2).sqrt()
    return ((distance - 9).abs() < 0.8) & ~((y < 12) & ((x - 15.5).abs() < gap / 2)), distance


@pytest.mark.parametrize("gap", [0, 3])
def test_a_scribble_means_what_it_encloses(gap):
    lines, distance = ring(gap=gap)
    region = enclosed(lines[None, None])[0, 0]
    assert region[distance < 9].all() and not region[distance > 9 + 4.5].any() and region[lines].all()


def test_an_open_line_encloses_nothing_and_only_grows():
    lines = torch.zeros(1, 1, 32, 32, dtype=torch.bool)
    lines[..., 16, 4:28] = True
    region = enclosed(lines, gap=2)
    by_hand = torch.zeros_like(lines)
    by_hand[..., 14:19, 2:30] = True
    assert torch.equal(region, by_hand)
    assert not enclosed(torch.zeros_like(lines)).any()


def test_the_edge_of_the_picture_closes_nothing():
    lines = torch.zeros(1, 1, 32, 32, dtype=torch.bool)
    lines[..., :, 16] = True                                    # from top to bottom
    assert not enclosed(lines)[..., :12].any() and not enclosed(lines)[..., 21:].any()


def test_a_pair_with_a_scribble():
    lines, distance = ring()
    picture, edit_mask = load_pair(torch.zeros(1, 3, 32, 32), lines[None, None], scribble=True)
    assert torch.equal(edit_mask, enclosed(lines[None, None])) and edit_mask[0, 0, 15, 15]
