"""What every notebook needs: code beside its equation, solutions that step back for yours, small pictures."""

import inspect
from io import BytesIO
from textwrap import dedent

import torch
from checks.verdict import Unsolved
from IPython import get_ipython
from IPython.display import Markdown
from matplotlib.figure import Figure
from PIL import Image

__all__ = ["Unsolved", "last", "seeded", "show_code", "solution_of"]


def show_code(equation, *functions):
    """The equation (LaTeX), and under it the source of the library's own functions, as they run here."""
    parts = [f"$$\n{equation}\n$$"] if equation else []
    for function in functions:
        room = function.__module__.replace(".", "/") + ".py"
        parts.append(f"`{room}`\n```python\n{dedent(inspect.getsource(function))}```")
    return Markdown("\n\n".join(parts))


def solution_of(answer):
    """Decorate a solution: it takes over only while the exercise cell above it is unsolved."""
    unsolved = Unsolved.__name__ in answer.__code__.co_names
    return lambda solution: solution if unsolved else answer


def seeded(seed):
    """A torch.Generator: the same seed gives the same noise."""
    return torch.Generator().manual_seed(seed)


def last(walk):
    """Walk to the end, and return the last State."""
    for state in walk:
        pass
    return state


def palette_png(picture):
    """A PIL picture as a PNG of 256 colours: noise would otherwise fill a notebook with megabytes."""
    buffer = BytesIO()
    octree = Image.Quantize.FASTOCTREE                      # which keeps rare colours, such as the sun's
    picture.convert("RGB").quantize(256, octree, dither=Image.Dither.NONE).save(buffer, "PNG", optimize=True)
    return buffer.getvalue()


def figure_png(figure):
    """A matplotlib figure as a small PNG."""
    buffer = BytesIO()
    figure.savefig(buffer, format="png", bbox_inches="tight")
    return palette_png(Image.open(buffer))


def show_small_pictures(shell):
    """Make a notebook store PIL pictures and figures as small PNGs, and as nothing else."""
    import matplotlib_inline.backend_inline  # noqa: F401, since it would set its own format once it is imported

    formats = shell.display_formatter.formatters
    formats["image/png"].for_type(Image.Image, palette_png)
    formats["image/png"].for_type(Figure, figure_png)
    formats["image/jpeg"].for_type(Image.Image, lambda picture: None)


if get_ipython():
    show_small_pictures(get_ipython())
