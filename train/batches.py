"""Batches: tuples and lists of tensors and of anything else, one within the other."""

import torch


def each(change, batch):
    """Tuples and lists of tensors, with every tensor changed, and all else as it is."""
    if isinstance(batch, torch.Tensor):
        return change(batch)
    if not isinstance(batch, (tuple, list)):
        return batch
    parts = [each(change, part) for part in batch]
    return type(batch)(*parts) if hasattr(batch, "_fields") else type(batch)(parts)


def tensors_of(batch):
    """All tensors of a batch, in order. Raises ValueError for anything that is none."""
    if isinstance(batch, torch.Tensor):
        return [batch]
    if not isinstance(batch, (tuple, list)):
        raise ValueError(f"{batch!r} in a batch: tensors alone expected")
    return sum((tensors_of(part) for part in batch), [])
