"""toytown/packing.py: edits as numbers and words are the same edits."""

import pytest
import torch

from minidiff import toytown
from minidiff.toytown.packing import packed, unpacked


@pytest.mark.parametrize("kinds", [None, ("combine",), ("text", "season")])
def test_what_is_packed_is_the_same_when_unpacked(kinds):
    edits = toytown.edits(26, seed=5, split="val", kinds=kinds)
    there = unpacked(*packed(edits))
    assert torch.equal(there.source, edits.source) and torch.equal(there.target, edits.target)
    assert torch.equal(there.reference, edits.reference) and there.requests == edits.requests
    assert there.instruction == edits.instruction
    assert torch.equal(there.held_out_phrasing, edits.held_out_phrasing)
    assert unpacked(*packed(edits), size=32).source.shape == (26, 3, 32, 32)


def test_categories_take_a_byte_and_image_2_is_there_only_where_it_is_used():
    edits = toytown.edits(26, seed=5)
    columns, words = packed(edits)
    assert {column.dtype for column in columns.values()} == {torch.uint8, torch.float32}
    assert len(columns["source.time"]) == 26 and len(words["instructions"]) == 26
    assert 0 < len(columns["reference.time"]) == int(edits.has_reference.sum()) < 26
