"""bench/generation.py: what a reader finds of captions in true renders, fresh scenes and made-up readings."""

import pytest
import torch

from minidiff.bench import generation
from minidiff.latent import LatentModel
from minidiff.toytown import scenes
from minidiff.toytown.named import ATTRIBUTES, named

pytestmark = pytest.mark.filterwarnings("ignore:unknown")       # the tiny network cannot read every sign
PLAIN = generation.PLAIN
CAPTION = "a red house with a blue roof and a green car on a winter day"


@pytest.fixture(scope="module")
def found(tiny_latent_weights):
    model = LatentModel.load(tiny_latent_weights, "cpu")
    rows = generation.rows(model, n=12, steps=8, ddpm_steps=1, scales=(1, 2))
    return {row["editor"]: row for row in rows}


def test_true_renders_show_their_captions_and_other_pictures_do_not(found):
    names = ["true render", "true render, through the codec", "a fresh scene", "town-ddpm, scale 3",
             "town-context, scale 1", "town-context, scale 2", "town-context, scale 2, to the end"]
    assert list(found) == names
    truth, fresh = found["true render"], found["a fresh scene"]
    for column in ("named", "things", "colours", "setting"):
        assert truth[column].value > 0.9
    assert truth["invented"].value < 0.05
    for other in names[2:]:
        assert found[other]["named"].value < truth["named"].value - 0.2
        assert found[other]["whole caption"].value < 0.2
    assert fresh["invented"].value > 0.2


def test_calls_are_counted(found):
    assert "network calls" not in found["true render"] and "network calls" not in found["a fresh scene"]
    assert found["town-ddpm, scale 3"]["network calls"] == 2
    once, guided, to_the_end = (found[f"town-context, scale {scale}"]["network calls"]
                                for scale in (1, 2, "2, to the end"))
    assert (once, to_the_end) == (1 + 8, 2 * (1 + 8))           # what is prepared, and eight steps
    assert guided == to_the_end - 1                             # the last but one level is .3, or below
    assert "grain" not in found["a fresh scene"] and found["true render"]["grain"].value < 0.1


def test_grain_is_that_of_the_sky_above_plain_scenes():
    """A flat picture has none; a chessboard of +-1/4 is 1/2 off its neighbours; below the sky none counts."""
    plain = scenes(4, seed=1).with_(style=torch.tensor([PLAIN, PLAIN, PLAIN + 1, PLAIN]))
    rows, columns = torch.meshgrid(torch.arange(64), torch.arange(64), indexing="ij")
    chess = ((rows + columns) % 2 * 0.5 - 0.25).expand(1, 3, 64, 64)
    below = chess.where(rows >= 12, 0)
    pictures = torch.cat([torch.full_like(chess, 0.3), chess, chess, below])
    found = generation.grain(pictures, plain)
    assert found[[0, 1, 3]].tolist() == pytest.approx([0, 127.5 / 2, 0], abs=1e-4) and found[2].isnan()


def test_shares_of_a_made_up_reading():
    asked = named([CAPTION] * 2)
    read = {name: values.clone().clamp(min=0) for name, values in asked.items()}
    read["car_color"][0] = ATTRIBUTES["car_color"].index("red")
    read["season"][0] = ATTRIBUTES["season"].index("summer")
    read["person"][1] = 1
    shares = {name: cell.value for name, cell in generation.shares(asked, read).items()}
    assert shares["named"] == pytest.approx((4 / 5 + 1) / 2) and shares["things"] == 1
    assert shares["colours"] == pytest.approx((2 / 3 + 1) / 2)
    assert shares["whole caption"] == 0.5 and shares["setting"] == 0.5
    assert shares["invented"] == pytest.approx((0 + 1 / 4) / 2)


def test_a_caption_without_a_colour_has_no_share_of_colours():
    asked = named(["a person on a summer day", CAPTION])
    read = {name: torch.zeros_like(values) for name, values in asked.items()}
    read["house"][1], read["house_color"][1] = 1, asked["house_color"][1]
    shares = generation.shares(asked, read)
    assert shares["colours"].value == pytest.approx(1 / 3)


def test_the_manifest_gets_the_share_of_what_is_named(found):
    assert generation.chief(list(found.values())) == {
        "town-context": {name: round(row["named"].value, 3) for name, row in found.items()
                         if name.startswith("town-context")}}
