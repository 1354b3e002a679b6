"""The text encoder: words, and the characters of a sign, become tokens that know their neighbours."""

import re
import warnings
from dataclasses import dataclass
from difflib import get_close_matches
from textwrap import shorten

import torch
import torch.nn.functional as F
from torch import nn

from ..denoisers.layers import HEAD_DIM, Attention, config_from_dict, zero_init

PAD, START, UNKNOWN = 0, 1, 2
SPECIAL = 3                                                     # words are numbered from here
MAX_PLACE = 8
IGNORED = ",.;:!?()"


@dataclass(frozen=True)
class TextConfig:
    """The vocabulary and the shape of a text encoder.

    words: in lower case.  characters: those that may stand on a sign.  dim: channels of a token.
    layers: blocks of self-attention; 0 = a bag of words, blind to their order.
    neighbours: does a token see the one before and the one after at once, by a convolution? Attention can
    find them, too, but learns slowly where they are: see minidiff/bench/order.py.
    length: the most tokens a text may have, the start included.
    """

    words: tuple[str, ...]
    characters: str = ""
    dim: int = 128
    layers: int = 2
    neighbours: bool = False
    length: int = 64

    def __post_init__(self):
        if self.dim % HEAD_DIM:
            raise ValueError(f"dim = {self.dim}: a multiple of {HEAD_DIM} expected")
        if len(set(self.words)) != len(self.words) or len(set(self.characters)) != len(self.characters):
            raise ValueError("words or characters repeat: each once expected, since a token has one number")

    @classmethod
    def from_dict(cls, values):
        """The configuration from a plain dictionary. Raises ValueError for unknown keys."""
        return config_from_dict(cls, values)


class TextEncoder(nn.Module):
    """Embeddings of token and position, then self-attention. A character also knows its place on its sign."""

    def __init__(self, config):
        super().__init__()
        self.config = config
        self.word_number, self.character_number = numbering(config)
        self.first_character = SPECIAL + len(config.words)
        self.token = embedding(self.first_character + len(config.characters), config.dim)
        if config.layers:
            self.position = embedding(config.length, config.dim)
            self.place = embedding(MAX_PLACE + 1, config.dim)
        if config.neighbours:
            self.neighbours = zero_init(nn.Conv1d(config.dim, config.dim, 3, padding=1))
        self.blocks = nn.ModuleList(TextBlock(config.dim) for _ in range(config.layers))
        self.norm = nn.LayerNorm(config.dim)

    def tokenize(self, texts):
        """The numbers of each text's tokens: a start token, then words and quoted characters, then padding.

        texts: list of strings; for None, nothing was said, there is not even a start token.  Returns (B, L)
        int64 on the CPU, L that of the longest.
        All unknown words become the same token, with a UserWarning that names them.
        Raises ValueError for a text that is too long or a quote without end.
        """
        if isinstance(texts, str):
            raise ValueError(f'texts is the string "{texts}": a list of strings expected')
        unknown = sorted({piece for text in texts for piece in self.unknown_words(text or "")})
        if unknown:
            warnings.warn("unknown: " + ", ".join(map(self.describe, unknown)), stacklevel=2)
        rows = [torch.tensor(self.numbers(text)) for text in texts]
        for row, text in zip(rows, texts):
            if len(row) > self.config.length:
                found = f'"{shorten(text, 60)}" has {len(row)} tokens'
                raise ValueError(f"{found}: at most {self.config.length} fit")
        return nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=PAD)  # (B, L)

    def numbers(self, text):
        """The numbers of one text's tokens; padding alone where nothing was said."""
        return [PAD] if text is None else [START, *(self.number(*piece) for piece in pieces(text))]

    def unknown_words(self, text):
        """Words and quoted characters of a text that the vocabulary lacks, in order, characters in quotes."""
        strangers = [piece for piece in pieces(text) if self.number(*piece) == UNKNOWN]
        return [f'"{token}"' if quoted else token for token, quoted in strangers]

    def number(self, token, quoted):
        """The number of a word, or of a quoted character."""
        return (self.character_number if quoted else self.word_number).get(token, UNKNOWN)

    def describe(self, unknown):
        """An unknown word, with the nearest known one where there is one."""
        if unknown.startswith('"'):
            cases = unknown[1].upper(), unknown[1].lower()
            close = [other for other in cases if other in self.config.characters]
        else:
            close = get_close_matches(unknown, self.config.words, n=1)
        return f"{unknown} (did you mean {close[0]}?)" if close else unknown

    def forward(self, tokens):
        """tokens: (B, L) int64 -> text (B, L, dim), text_mask (B, L) bool, True = a real token."""
        text_mask = tokens != PAD
        text = self.token(tokens)                                                  # (B, L, dim)
        if self.config.layers:
            text = text + self.position.weight[: tokens.shape[1]] + self.place(self.places(tokens))
        if self.config.neighbours:
            real = (text * text_mask[:, :, None]).mT                               # (B, dim, L)
            text = text + self.neighbours(real).mT
        for block in self.blocks:
            text = block(text, text_mask[:, None, None, :])
        return self.norm(text), text_mask

    def places(self, tokens):
        """1, 2, 3 for a sign's characters, 0 for words: how far back the last word is. (B, L) -> (B, L)"""
        index = torch.arange(tokens.shape[1], device=tokens.device)
        last_word = torch.where(tokens >= self.first_character, 0, index).cummax(1).values
        return (index - last_word).clamp(max=MAX_PLACE)


class TextBlock(nn.Module):
    """Self-attention, then two layers, each beside the identity at first. Norm first: 2002.04745."""

    def __init__(self, dim):
        super().__init__()
        self.norm1 = nn.LayerNorm(dim)
        self.attend = Attention(dim, dim)
        self.norm2 = nn.LayerNorm(dim)
        self.widen = nn.Linear(dim, 4 * dim)
        self.narrow = nn.Linear(4 * dim, dim)

    def forward(self, text, visible):
        """text: (B, L, dim), visible: (B, 1, 1, L) bool -> (B, L, dim)."""
        tokens = self.norm1(text)
        text = text + self.attend(tokens, tokens, visible)
        return text + self.narrow(F.gelu(self.widen(self.norm2(text))))


def numbering(config):
    """The numbers of a vocabulary's tokens: {word: number}, {character: number}."""
    numbers = range(SPECIAL, SPECIAL + len(config.words) + len(config.characters))
    return (dict(zip(config.words, numbers)), dict(zip(config.characters, numbers[len(config.words) :])))


def embedding(count, dim):
    """`count` learned vectors that start small, so that one word does not outweigh its neighbours."""
    table = nn.Embedding(count, dim)
    nn.init.normal_(table.weight, std=0.02)
    return table


def pieces(text):
    """A text's tokens, and whether each is a quoted character: words in lower case, without punctuation.

    'A sign that says "B2".' -> a, sign, that, says, then B and 2, quoted. Raises ValueError for a quote
    without end.
    """
    parts = re.split('["“”]', text)
    if len(parts) % 2 == 0:
        raise ValueError(f"{text}: the quote does not end, a second quotation mark expected")
    found = []
    for i, part in enumerate(parts):
        quoted = i % 2 == 1
        tokens = part if quoted else re.findall(rf"[^\s{IGNORED}]+", part.lower())
        found += [(token, quoted) for token in tokens]
    return found
