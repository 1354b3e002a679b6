"""train/recorded.py: a pass that is played does what it does when it is run, for every batch of its shapes.

Where there is no GPU, a recorder stands in for CUDA's. Like it, it remembers where tensors lie, not what was
in them, and each replay works on these very places.
"""

import pytest
import torch
from torch import nn

from train.batches import tensors_of
from train.recorded import Recorded


class Tape:
    """Stands in for a CUDA graph: a replay runs the pass on the batch it was recorded with, in its place."""

    def __init__(self, run, batch, found):
        self.run, self.batch, self.found = run, batch, found

    def replay(self):
        for place, tensor in zip(self.found, self.run(self.batch), strict=True):
            place.copy_(tensor)


@pytest.fixture
def network(monkeypatch):
    """A network, and the batches with which its passes were recorded; a warm-up adds to gradients."""
    def captured(self, batch):
        shapes.append([tuple(tensor.shape) for tensor in tensors_of(batch)])
        return Tape(self.run, batch, found := tuple(tensor.clone() for tensor in self.run(batch))), found

    shapes = []
    monkeypatch.setattr(Recorded, "captured", captured)
    torch.manual_seed(0)
    network = nn.Linear(3, 2)
    network.bias.requires_grad_(False)
    return network, shapes


def run_of(network):
    """A pass, as train.loop has it, over a batch of groups, one within the other."""
    def run(batch):
        losses = torch.cat([network(x).square().mean(1) * weight for x, (weight, _) in batch])
        losses.mean().backward()
        return losses.detach(), torch.cat([weight for _, (weight, _) in batch])

    return run


def batch_of(*sizes, seed=0, device="cpu"):
    generator = torch.Generator().manual_seed(seed)
    return [(torch.randn(n, 3, generator=generator).to(device),
             (torch.rand(n, generator=generator).to(device), [])) for n in sizes]


def test_a_pass_that_is_played_does_what_it_does_when_it_is_run(network):
    network, shapes = network
    run, played = run_of(network), Recorded(run_of(network), network.parameters())
    for seed, sizes in enumerate(((4, 2), (4, 2), (1, 5), (4, 2))):
        batch = batch_of(*sizes, seed=seed)
        network.weight.grad.zero_()
        expected, levels = run(batch)
        gradient = network.weight.grad.clone()
        network.weight.grad.zero_()
        found = played(batch)
        assert torch.equal(found[0], expected) and torch.equal(found[1], levels)
        assert (network.weight.grad - gradient).abs().max() < 1e-6 and gradient.any()
    assert len(shapes) == 2 and len(played.recordings) == 2       # one for each of two kinds of shapes


def test_gradients_add_up_and_a_recording_does_not_disturb_them(network):
    network, _ = network
    played = Recorded(run_of(network), network.parameters())
    batches = [batch_of(3, 3, seed=seed) for seed in (1, 2)]
    for batch in batches:                                         # the first one is recorded, too
        played(batch)
    found = network.weight.grad.clone()
    network.weight.grad.zero_()
    for batch in batches:
        run_of(network)(batch)
    assert (found - network.weight.grad).abs().max() < 1e-6
    assert network.bias.grad is None


def test_what_a_pass_found_stays_when_the_next_one_is_played(network):
    played = Recorded(run_of(network[0]), network[0].parameters())
    first, _ = played(batch_of(3, 3, seed=1))
    kept = first.clone()
    second, _ = played(batch_of(3, 3, seed=2))
    assert torch.equal(first, kept) and not torch.equal(first, second)


def test_a_pass_leaves_the_batch_that_it_was_given_alone(network):
    played, batch = Recorded(run_of(network[0]), network[0].parameters()), batch_of(3, seed=1)
    before = [tensor.clone() for tensor in tensors_of(batch)]
    played(batch)                                                 # which is recorded
    played(batch_of(3, seed=2))
    assert all(torch.equal(one, other) for one, other in zip(before, tensors_of(batch), strict=True))


def test_a_batch_holds_tensors_alone(network):
    with pytest.raises(ValueError, match="'words' in a batch: tensors alone expected"):
        Recorded(run_of(network[0]), network[0].parameters())([(torch.zeros(1, 3), "words")])


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_cuda_plays_what_it_captured():
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(3, 8), nn.SiLU(), nn.Linear(8, 2)).cuda()
    run, played = run_of(network), Recorded(run_of(network), network.parameters())
    for seed, sizes in enumerate(((4, 2), (1, 5), (4, 2), (1, 5), (7, 7), (4, 2))):
        batch = batch_of(*sizes, seed=seed, device="cuda")
        network.zero_grad(set_to_none=False)
        expected, _ = run(batch)
        gradients = [parameter.grad.clone() for parameter in network.parameters()]
        network.zero_grad(set_to_none=False)
        for passes in (1, 2):                                     # gradients add up
            found, _ = played(batch)
            assert (found - expected).abs().max() < 1e-5
            for parameter, gradient in zip(network.parameters(), gradients, strict=True):
                assert (parameter.grad - passes * gradient).abs().max() < 1e-5
    assert len(played.recordings) == 3
