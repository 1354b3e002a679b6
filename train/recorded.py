"""A pass through a network and back as a CUDA graph: captured once, then replayed.

A small network leaves a GPU idle: most of its thousands of kernels end before Python has asked for the next.
A graph asks for all of them at once.
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F

from minidiff.encoders.text import PAD
from train.batches import each, tensors_of

WARMUP = 3                                                      # passes before one is captured
LENGTHS = 16, 24, 56, 64                                        # of texts: each that differs needs a graph


class Recording(NamedTuple):
    """A graph, the batch that it reads, and what it found there: tensors that stay where they are."""

    graph: object
    batch: tuple
    found: tuple


class Recorded:
    """Passes over batches on a GPU: the first one of its shapes is captured, all are replayed.

    run: batch -> tensors; it adds to gradients, and neither reads from the CPU nor lets it wait.
    parameters: those that are trained. Their gradients are tensors from now on, never None: empty them with
    zero_grad(set_to_none=False).
    Each kind of shapes keeps its graph, so let there be few. Raises ValueError for a batch that holds
    anything but tensors.
    """

    def __init__(self, run, parameters):
        self.run, self.recordings, self.pool = run, {}, None
        self.parameters = [parameter for parameter in parameters if parameter.requires_grad]
        for parameter in self.parameters:
            parameter.grad = torch.zeros_like(parameter)

    def __call__(self, batch):
        """What run(batch) returns."""
        kind = tuple((tensor.shape, tensor.dtype) for tensor in tensors_of(batch))
        if kind not in self.recordings:
            self.recordings[kind] = self.record(batch)
        recording = self.recordings[kind]
        for mine, given in zip(tensors_of(recording.batch), tensors_of(batch), strict=True):
            mine.copy_(given)
        recording.graph.replay()
        return tuple(tensor.clone() for tensor in recording.found)

    def record(self, batch):
        """The Recording for batches of this kind; gradients stay as they were."""
        batch = each(torch.clone, batch)
        gradients = [parameter.grad.clone() for parameter in self.parameters]
        graph, found = self.captured(batch)
        torch._foreach_copy_([parameter.grad for parameter in self.parameters], gradients)
        return Recording(graph, batch, found)

    def captured(self, batch):
        """(graph, what it will have found after each replay), by PyTorch's recipe for whole passes.

        Only this thread must leave the GPU's memory alone meanwhile: another one pins batches.
        """
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            for _ in range(WARMUP):
                self.run(batch)
        torch.cuda.current_stream().wait_stream(side)
        self.pool = self.pool or torch.cuda.graph_pool_handle()  # never two at once: they share their memory
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, self.pool, capture_error_mode="thread_local"):
            found = self.run(batch)
        return graph, found


def padded(tokens, lengths=LENGTHS):
    """Tokens, (n, L), with padding up to the first of these lengths that is enough: nobody looks at it."""
    length = next((length for length in lengths if length >= tokens.shape[1]), tokens.shape[1])
    return F.pad(tokens, (0, length - tokens.shape[1]), value=PAD)
