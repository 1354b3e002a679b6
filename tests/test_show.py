"""Grids, strips and overlays: every picture lands where it should."""

from io import BytesIO

import numpy as np
import pytest
import torch
from PIL import Image

from minidiff import show
from minidiff.process.sample import State

SHADES = torch.linspace(-1, 1, 6).view(6, 1, 1, 1).expand(6, 3, 4, 8)


def test_grid_puts_each_picture_in_its_place():
    sheet = np.asarray(show.grid(SHADES, columns=3, scale=2))
    assert sheet.shape == (2 * 8 + show.GAP, 3 * 16 + 2 * show.GAP, 3)
    for i in range(6):
        y, x = i // 3 * (8 + show.GAP), i % 3 * (16 + show.GAP)
        assert (sheet[y : y + 8, x : x + 16] == round(255 * i / 5)).all()
    assert (sheet[8 : 8 + show.GAP] == 255).all()


def test_grid_makes_room_for_an_unfinished_row_and_for_labels():
    assert show.grid(SHADES[:4], columns=3).height == show.grid(SHADES, columns=3).height
    plain = np.asarray(show.grid(SHADES))
    labelled = np.asarray(show.grid([SHADES[:3], SHADES[3:]], columns=6, rows=["a row"], titles=["one"]))
    height, width, _ = plain.shape
    assert labelled.shape[0] > height and labelled.shape[1] > width
    assert (labelled[-height:, -width:] == plain).all()


def test_grid_shows_grey_pictures_and_clamps():
    assert (np.asarray(show.grid(torch.full((1, 1, 2, 2), 7.0), scale=1)) == 255).all()


def test_grid_refuses_pictures_of_several_sizes():
    with pytest.raises(ValueError, match="one height and width expected"):
        show.grid([SHADES, SHADES[..., :4]])


def test_film_strip_begins_and_ends_with_the_walk():
    states = [State(9 - i, SHADES[:2] * i / 9, SHADES[:2] * 0) for i in range(10)]
    strip = np.asarray(show.film_strip(states, count=4, scale=1))
    assert (strip[-4:, -8:] == 128).all()                            # x0_hat of the last, in grey
    assert (strip[-8 - show.GAP : -4 - show.GAP, -8:] == 0).all()    # x of the last, in black


def test_gif_shows_x_beside_x0_hat_and_rests_at_the_end():
    states = [State(3 - i, SHADES[:1] * i / 3, SHADES[:1] * 0) for i in range(4)]
    film = Image.open(BytesIO(show.gif(states, scale=1, milliseconds=50)))
    assert (film.n_frames, film.size) == (4, (2 * 8 + show.GAP, 4)) and film.info["loop"] == 0
    film.seek(3)
    last = np.asarray(film.convert("RGB")).astype(int)
    assert film.info["duration"] > 1000
    assert abs(last[:, :8]).max() <= 4 and abs(last[:, -8:] - 128).max() <= 4        # black; grey


def test_overlay_stripes_only_what_may_change():
    edit_mask = torch.zeros(1, 1, 4, 8, dtype=torch.bool)
    edit_mask[..., :3] = True
    shown = show.overlay(SHADES, edit_mask)
    assert torch.equal(shown[..., 3:], SHADES[..., 3:]) and (shown[..., :3] != SHADES[..., :3]).any(1).all()


def test_chart_has_as_many_axes_as_asked():
    figure, axes = show.chart(3, xlabel="t")
    assert len(axes) == 3 and axes[2].get_xlabel() == "t" and len(figure.axes) == 3
