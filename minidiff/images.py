"""Files <-> tensors, and every check of a picture or mask that comes in from outside.

A picture is PIL RGB, or pixels: uint8 (B, 3, H, W), or x0: float (B, 3, H, W) in [-1, 1]. An edit_mask is
bool (B, 1, H, W), True = may change. In a file white = may change; if it has transparent pixels, those may
change instead.
"""

import os
import warnings
from io import BytesIO
from pathlib import Path
from tempfile import TemporaryFile

import numpy as np
import torch
from PIL import Image, ImageOps, UnidentifiedImageError
from torch.nn.functional import adaptive_max_pool2d, max_pool2d, pad

from minidiff.checkpoint import write_atomically

FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "GIF")
MODES = ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "CMYK", "YCbCr", "I;16", "I;16L", "I;16B")
MAX_PIXELS = 50_000_000
SMALLEST, LARGEST, STEP = 32, 512, 8                                # the sides that run
MAX_GREY = 0.25                                                     # of a mask may be middle grey: soft edges
OVERSHOOT = 1e-4                                                    # x0 may leave [-1, 1] by this: rounding


class ImageError(ValueError):
    """A picture or mask that cannot be used: at most two lines that say what was expected and what came."""


def load_image(source, resize=False, role="image"):
    """A picture from outside, as PIL RGB of a size that runs: rotated as its EXIF says, its opacity dropped.

    source: a path, a PIL picture, or x0 (1, 3, H, W).  resize: bring other sizes to `good_size`.  role: what
    to call it in a refusal, unless it has a path. Raises ImageError for whatever is not one still picture of
    8 or 16 bits a channel, or does not run.
    """
    picture = to_rgb(still_picture(source, role))
    size = running_size(picture.size, resize, name_of(source, role))
    return picture if size == picture.size else picture.resize(size, Image.Resampling.LANCZOS)


def load_mask(source):
    """A mask from outside, as bool (1, 1, H, W), True = may change.

    source: a path or PIL picture (white = may change; with transparent pixels: transparent = may change), or
    a tensor. Raises ImageError for what is no picture, or neither black and white nor transparent.
    """
    if isinstance(source, torch.Tensor):
        return check_edit_mask(source)
    picture = still_picture(source, "edit_mask")
    if picture.has_transparency_data:
        opacity = np.asarray(picture.convert("RGBA"))[..., 3]
        if opacity.min() < 255:                                # an alpha channel full everywhere says nothing
            return torch.from_numpy(opacity < 128)[None, None]
    grey = np.asarray(to_rgb(picture).convert("L"))
    unclear = ((grey >= 32) & (grey < 224)).mean()
    if unclear > MAX_GREY:
        found = f"{name_of(source, 'edit_mask')} is neither black nor white in {unclear:.0%} of its pixels"
        raise ImageError(f"{found}: a mask expected,\nwhite or transparent where it may change, else black")
    return torch.from_numpy(grey >= 128)[None, None]


def load_pair(image, edit_mask, resize=False, scribble=False):
    """A picture and the mask that goes with it, as load_image and load_mask give them, of one size.

    resize: brings both to `good_size`; a pixel may then change where any pixel that it stands for may.
    scribble: the mask is a line drawn by hand: what it encloses may change, too, as in `enclosed`.
    Raises ImageError as those two, and where the sizes differ.
    """
    name, mask_name = name_of(image, "image"), name_of(edit_mask, "edit_mask")
    picture, edit_mask = to_rgb(still_picture(image, "image")), load_mask(edit_mask)
    edit_mask = enclosed(edit_mask) if scribble else edit_mask
    height, width = edit_mask.shape[2:]
    if picture.size != (width, height):
        found = f"{mask_name} is {across((width, height))}, {name} is {across(picture.size)}"
        raise ImageError(f"{found}: the same width and height expected")
    size = running_size(picture.size, resize, name)
    if size == picture.size:
        return picture, edit_mask
    return load_image(picture, resize), adaptive_max_pool2d(edit_mask.float(), size[::-1]) > 0


def enclosed(lines, gap=2):
    """The region that a hand drew: its lines, all that they enclose, and `gap` pixels around.

    lines: bool (1, 1, H, W), True = drawn.  gap: at least 1. A line need not quite close: gaps of up to 2 gap
    pixels count as closed. The edge of the picture closes nothing. Returns bool (1, 1, H, W).
    """
    wall = grown(lines, gap)
    outside = pad(~wall, (1, 1, 1, 1), value=True)              # a frame that is outside in any case
    reached = torch.zeros_like(outside)
    reached[..., [0, -1], :] = reached[..., [0, -1]] = True
    while True:                                                 # flood from the frame, until nothing is new
        spread = grown(reached, 1) & outside                    # no wall is so thin that a corner leaks
        if torch.equal(spread, reached):
            return ~reached[..., 1:-1, 1:-1]
        reached = spread


def grown(region, by):
    """A region and all pixels at most `by` away across and down; bool (n, 1, H, W)."""
    return max_pool2d(region.float(), 2 * by + 1, stride=1, padding=by) > 0


def still_picture(source, role):
    """A path, PIL picture or x0 (1, 3, H, W) as a decoded PIL picture, its mode kept, rotated as EXIF says.

    role: what to call it in a refusal, unless it is a file.  Raises ImageError for what is not one still
    picture.
    """
    if isinstance(source, torch.Tensor):
        return to_pil(check_x0(source, role))
    if isinstance(source, (str, os.PathLike)):
        return decode(Path(source))
    if not isinstance(source, Image.Image):
        raise ImageError(f"{role} is a {type(source).__name__}: a path, a PIL picture or a tensor expected")
    check_header(source, role)
    return ImageOps.exif_transpose(source)


def decode(path):
    """Decode a picture file, after a look at its header alone: more than MAX_PIXELS are never unpacked."""
    if not path.is_file():
        raise ImageError(f"{path} is {'a folder' if path.is_dir() else 'no file'}: a picture file expected")
    try:
        with warnings.catch_warnings(action="ignore", category=Image.DecompressionBombWarning):
            picture = Image.open(path, formats=FORMATS)             # reads the header
        with picture:
            check_header(picture, path)
            return ImageOps.exif_transpose(picture)
    except ImageError:
        raise
    except Image.DecompressionBombError:
        found = f"{path} has more than {2 * Image.MAX_IMAGE_PIXELS:,} pixels"
        raise ImageError(f"{found}: at most {MAX_PIXELS:,} expected") from None
    except UnidentifiedImageError:
        found = "empty" if path.stat().st_size == 0 else "not a picture, or of an unknown format"
        raise ImageError(f"{path} is {found}: PNG, JPEG, WebP, BMP or GIF expected") from None
    except Exception as error:                               # decoders raise nearly anything on damaged files
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise ImageError(f"{path} cannot be read ({reason}): a whole picture expected") from error


def check_header(picture, name):
    """Raise ImageError unless a picture is still, of at most MAX_PIXELS and one of MODES; decodes nothing."""
    pixels = picture.width * picture.height
    if not 0 < pixels <= MAX_PIXELS:
        raise ImageError(f"{name} has {pixels:,} pixels: 1 to {MAX_PIXELS:,} expected")
    if getattr(picture, "is_animated", False) and picture.format != "MPO":     # MPO: a JPEG with a preview
        raise ImageError(f"{name} has {picture.n_frames} frames: a still picture expected")
    if picture.mode not in MODES:
        raise ImageError(f"{name} is of mode {picture.mode}: grey or colour, 8 or 16 bits each, expected")


def to_rgb(picture):
    """A picture of one of MODES as 8-bit RGB: 16-bit grey is divided by 257, opacity dropped, not blended."""
    if picture.mode.startswith("I;16"):
        return Image.fromarray((np.asarray(picture) / 257).round().astype(np.uint8)).convert("RGB")
    return picture.convert("RGBA").convert("RGB") if picture.has_transparency_data else picture.convert("RGB")


def good_size(width, height):
    """The nearest (width, height) that runs: scaled as little as can be, then rounded to multiples of 8."""
    scale = min(max(1, SMALLEST / min(width, height)), LARGEST / max(width, height))
    return tuple(max(STEP * round(side * scale / STEP), SMALLEST) for side in (width, height))


def running_size(size, resize, name):
    """The size to run at, `good_size`; raises ImageError if that is another and resize is not True."""
    good = good_size(*size)
    if good != tuple(size) and not resize:
        wanted = f"sides that are multiples of {STEP} from {SMALLEST} to {LARGEST} expected"
        advice = f"the nearest is {across(good)}: --resize on the command line, resize=True in Python"
        raise ImageError(f"{name} is {across(size)}: {wanted};\n{advice}")
    return good


def check_x0(x0, name="image"):
    """Return x0 if it is a float tensor (1, 3, H, W) in [-1, 1], else raise ImageError."""
    if x0.ndim != 4 or x0.shape[:2] != (1, 3) or not x0.numel() or not x0.is_floating_point():
        raise ImageError(f"{name} is {tuple(x0.shape)} {x0.dtype}: float (1, 3, H, W) in [-1, 1] expected")
    if not x0.isfinite().all():
        raise ImageError(f"{name} has {(~x0.isfinite()).sum()} NaN or infinite values: finite ones expected")
    if x0.abs().max() > 1 + OVERSHOOT:
        raise ImageError(f"{name} reaches from {x0.min():.4g} to {x0.max():.4g}: [-1, 1] expected")
    return x0


def check_edit_mask(edit_mask):
    """Return edit_mask if it is bool (1, 1, H, W), True = may change, else raise ImageError."""
    if edit_mask.dtype != torch.bool or edit_mask.ndim != 4 or edit_mask.shape[:2] != (1, 1):
        found = f"edit_mask is {tuple(edit_mask.shape)} {edit_mask.dtype}"
        raise ImageError(f"{found}: bool (1, 1, H, W), True = may change, expected")
    return edit_mask


def to_tensor(picture):
    """PIL RGB -> x0 (1, 3, H, W): pixel / 127.5 - 1."""
    return to_x0(to_pixels(picture))


def to_pil(x0):
    """x0 of one picture, (1, 3, H, W) or (3, H, W) -> PIL RGB, values beyond [-1, 1] clamped.

    Raises ImageError for other shapes, and NaN.
    """
    x0 = x0[None] if x0.ndim == 3 else x0
    if x0.ndim != 4 or x0.shape[:2] != (1, 3) or not x0.isfinite().all():
        raise ImageError(f"x0 is {tuple(x0.shape)}: finite values (1, 3, H, W) or (3, H, W) expected")
    return Image.fromarray(to_uint8(x0)[0].permute(1, 2, 0).cpu().numpy())      # (H, W, 3)


def to_pixels(picture):
    """PIL RGB -> uint8 (1, 3, H, W)."""
    return torch.from_numpy(np.array(picture)).permute(2, 0, 1)[None]


def to_x0(pixels):
    """uint8 (B, 3, H, W) -> x0: pixels / 127.5 - 1. to_uint8 undoes it exactly."""
    return pixels.float() / 127.5 - 1


def to_uint8(x0):
    """x0 (B, 3, H, W) -> uint8, the nearest of 0..255: (x0 + 1) 127.5."""
    return ((x0.float() + 1) * 127.5).round().clamp(0, 255).to(torch.uint8)


def composite(known, edited, edit_mask):
    """Edited pixels where edit_mask is True, and elsewhere the known ones, identical.

    known, edited: uint8 (B, 3, H, W), so that no rounding can touch a kept pixel.  edit_mask: bool (B or 1,
    1, H, W). Raises ImageError for other types, and shapes that do not fit.
    """
    if known.dtype != torch.uint8 or edited.dtype != torch.uint8 or known.shape != edited.shape:
        found = f"known is {tuple(known.shape)} {known.dtype}, edited is {tuple(edited.shape)} {edited.dtype}"
        raise ImageError(f"{found}: the same shape and torch.uint8 expected")
    if edit_mask.dtype != torch.bool or edit_mask.shape[1:] != (1, *known.shape[2:]):
        found = f"edit_mask is {tuple(edit_mask.shape)} {edit_mask.dtype}, pixels are {tuple(known.shape)}"
        raise ImageError(f"{found}: bool (B, 1, H, W) expected")
    return torch.where(edit_mask, edited, known)


def check_output(path):
    """Return a Path that a PNG can be written to, else raise ImageError: asked before anything is computed.

    Other formats are refused, since JPEG, say, changes the very pixels that an edit promises to keep.
    """
    path = Path(path)
    if path.suffix.lower() != ".png":
        raise ImageError(f"{path}: a name in .png expected,\nas others change the pixels that an edit keeps")
    try:
        if path.is_dir() or (path.exists() and not os.access(path, os.W_OK)):
            raise OSError(0, "a folder, or a read-only file")
        TemporaryFile(dir=path.parent).close()
    except OSError as error:
        found = f"{path} cannot be written ({error.strerror})"
        raise ImageError(f"{found}: a file in a writable folder expected") from None
    return path


def save_png(picture, path):
    """Write a PIL picture as PNG, whole or not at all. Raises as check_output; OSError if the disk fails."""
    buffer = BytesIO()
    picture.save(buffer, "PNG")
    write_atomically(check_output(path), buffer.getvalue())


def name_of(source, role):
    """What to call a picture in a refusal: its path, or its role."""
    return str(source) if isinstance(source, (str, os.PathLike)) else role


def across(size):
    """(96, 64) -> "96 x 64": width, height."""
    return " x ".join(map(str, size))
