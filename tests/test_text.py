"""The text encoder: what is a token, what is unknown, and whether order matters."""

import warnings

import pytest
import torch

from minidiff.encoders.text import PAD, START, UNKNOWN, TextConfig, TextEncoder
from minidiff.toytown import VOCABULARY, captions, scenes
from minidiff.toytown.glyphs import CHARACTERS

WORDS = ("a", "and", "car", "red", "blue", "sign", "that", "says", "pixel-art")
CONFIG = TextConfig(words=WORDS, characters="ABC12山水", dim=32, length=12)


@pytest.fixture
def encoder():
    torch.manual_seed(0)
    encoder = TextEncoder(CONFIG)
    for parameter in encoder.parameters():
        parameter.data.normal_(0, 0.3)
    return encoder


def words(encoder, text):
    """The token numbers of one text, without start and padding."""
    return encoder.tokenize([text])[0, 1:].tolist()


def test_tokens_are_words_and_quoted_characters(encoder):
    red, car, first = encoder.word_number["red"], encoder.word_number["car"], encoder.first_character
    assert words(encoder, "Red, CAR.") == [red, car]
    assert words(encoder, 'red "A山" car') == [red, first, first + 5, car]
    assert words(encoder, "red “B” car") == [red, first + 1, car]
    assert encoder.word_number["a"] != encoder.character_number["A"]
    assert words(encoder, "pixel-art") == [encoder.word_number["pixel-art"]]
    numbers = [*encoder.word_number.values(), *encoder.character_number.values()]
    assert sorted([PAD, START, UNKNOWN, *numbers]) == list(range(len(encoder.token.weight)))


def test_the_null_caption_is_one_start_token(encoder):
    assert encoder.tokenize([""]).tolist() == [[START]]
    tokens = encoder.tokenize(["", "a car"])
    assert tokens[0].tolist() == [START, PAD, PAD]
    text, text_mask = encoder(tokens)
    assert text_mask.tolist() == [[True, False, False], [True, True, True]]
    assert text.shape == (2, 3, 32) and text.isfinite().all()
    alone, _ = encoder(encoder.tokenize([""]))
    assert (alone[0, 0] - text[0, 0]).abs().max() < 1e-5                        # padding is not looked at


def test_where_nothing_was_said_no_token_is_real(encoder):
    tokens = encoder.tokenize([None, "", "a car"])
    text, text_mask = encoder(tokens)
    assert text_mask.sum(1).tolist() == [0, 1, 3] and text.isfinite().all()
    assert encoder.tokenize([None]).shape == (1, 1)


def test_unknown_words_are_reported_with_what_is_near(encoder):
    found = encoder.unknown_words('A rde car and a zeppelin that says "Ab?"')
    assert found == ["rde", "zeppelin", '"b"', '"?"']
    with pytest.warns(UserWarning) as caught:
        assert words(encoder, 'rde zeppelin "b"') == [UNKNOWN] * 3
    assert str(caught[0].message) == 'unknown: "b" (did you mean B?), rde (did you mean red?), zeppelin'
    assert encoder.unknown_words("红色") == ["红色"]               # characters outside quotes are a word
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        encoder.tokenize(['a red car, and a sign that says "AB1"!'])


def test_every_caption_of_toytown_is_known_and_fits():
    encoder = TextEncoder(TextConfig(words=VOCABULARY, characters=CHARACTERS))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for held_out in (False, True):
            encoder.tokenize(captions(scenes(300, seed=0), held_out=held_out))


def test_refused_texts(encoder):
    assert len(words(encoder, "a " * 11)) == 11
    with pytest.raises(ValueError, match=r"^.{,70}\.\.\.\]\" has 601 tokens: at most 12 fit"):
        encoder.tokenize(["red " * 600])
    with pytest.raises(ValueError, match="has 13 tokens: at most 12 fit"):
        encoder.tokenize(["a car", "a " * 12])
    with pytest.raises(ValueError, match="the quote does not end"):
        encoder.tokenize(['a sign that says "AB'])
    with pytest.raises(ValueError, match="a list of strings expected"):
        encoder.tokenize("a car")


def test_places_count_within_a_sign(encoder):
    tokens = encoder.tokenize(['a sign "AB1" and a car "2"'])
    #                                         start a sign A  B  1  and a car 2
    assert encoder.places(tokens).tolist() == [[0, 0, 0, 1, 2, 3, 0, 0, 0, 1]]


def test_order_matters_except_in_a_bag(encoder):
    one, other = encoder.tokenize(["a red car and a blue sign", "a blue car and a red sign"])
    ordered = [encoder(tokens[None])[0].mean(1) for tokens in (one, other)]
    assert (ordered[0] - ordered[1]).abs().max() > 1e-3
    config = {"words": list(WORDS), "characters": "ABC", "dim": 32, "layers": 0}
    bag = TextEncoder(TextConfig.from_dict(config))
    means = [bag(tokens[None])[0].mean(1) for tokens in (one, other)]
    assert (means[0] - means[1]).abs().max() < 1e-5
    for spelling in ("AB", "BA"):
        means.append(bag(bag.tokenize([f'"{spelling}"']))[0].mean(1))
    assert (means[2] - means[3]).abs().max() < 1e-5


def test_a_token_knows_its_neighbours(encoder):
    red, blue = (encoder(encoder.tokenize([f"a {colour} car"]))[0][0, 3] for colour in ("red", "blue"))
    assert (red - blue).abs().max() > 1e-2


def test_the_order_of_sign_characters_shows_in_each(encoder):
    ab, ba = (encoder(encoder.tokenize([f'sign "{text}"']))[0][0] for text in ("AB", "BA"))
    assert (ab[2] - ba[3]).abs().max() > 1e-2                                   # A first, A second


def test_longer_padding_gives_the_same_tokens(encoder):
    tokens = encoder.tokenize(["a red car"])
    longer = torch.cat([tokens, torch.zeros(1, 6, dtype=torch.int64)], dim=1)
    assert (encoder(longer)[0][:, :4] - encoder(tokens)[0]).abs().max() < 1e-5


def test_gradients_reach_every_parameter():
    torch.manual_seed(0)
    encoder = TextEncoder(CONFIG)
    target = torch.randn(1, 12, 32)
    optimizer = torch.optim.SGD(encoder.parameters(), lr=0.1)
    for _ in range(2):
        optimizer.zero_grad()
        text, _ = encoder(encoder.tokenize(['a red car and a blue sign says "AB1"']))
        (text - target[:, : text.shape[1]]).square().mean().backward()
        optimizer.step()
    assert [name for name, p in encoder.named_parameters() if not p.grad.abs().max() > 0] == []


def test_configuration():
    with pytest.raises(ValueError, match="TextConfig does not know depth"):
        TextConfig.from_dict({"words": ("a",), "depth": 2})
    with pytest.raises(ValueError, match="words"):
        TextConfig.from_dict({})
    with pytest.raises(ValueError, match="repeat"):
        TextConfig(words=("a", "a"))
    with pytest.raises(ValueError, match="multiple of 32"):
        TextConfig(words=("a",), dim=40)
