"""A pass through a network and back as a CUDA graph: recorded once, then played.

A small network leaves a GPU idle: most of its thousands of kernels end before Python has asked for the next.
A graph asks for all of them at once.
"""

from typing import NamedTuple

import torch

from train.batches import each, tensors_of

WARMUP = 3                                                      # passes before one is recorded


class Recording(NamedTuple):
    """A graph, the batch that it reads, and what it found there: tensors that stay where they are."""

    graph: object
    batch: tuple
    found: tuple


class Recorded:
    """Passes over batches on a GPU: the first of its shapes is recorded, all are played.

    run: batch -> tensors; it adds to gradients, and neither reads from the CPU nor lets it wait.
    parameters: whose gradients; from now on they are never None: set them to 0, where they would be.
    """

    def __init__(self, run, parameters):
        self.run, self.recordings, self.pool = run, {}, None
        self.parameters = [parameter for parameter in parameters if parameter.requires_grad]
        for parameter in self.parameters:
            parameter.grad = torch.zeros_like(parameter)

    def __call__(self, batch):
        """What run(batch) returns."""
        shapes = tuple(tensor.shape for tensor in tensors_of(batch))
        if shapes not in self.recordings:
            self.recordings[shapes] = self.record(batch)
        recording = self.recordings[shapes]
        for mine, given in zip(tensors_of(recording.batch), tensors_of(batch), strict=True):
            mine.copy_(given)
        recording.graph.replay()
        return tuple(tensor.clone() for tensor in recording.found)

    def record(self, batch):
        """The Recording for batches of these shapes; gradients stay as they were."""
        batch = each(torch.clone, batch)
        gradients = [parameter.grad.clone() for parameter in self.parameters]
        graph, found = self.captured(batch)
        torch._foreach_copy_([parameter.grad for parameter in self.parameters], gradients)
        return Recording(graph, batch, found)

    def captured(self, batch):
        """(graph, what it will have found after each replay), by PyTorch's recipe for whole passes.

        Only this thread must leave the memory alone meanwhile: another one pins batches.
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
