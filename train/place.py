"""Where a training runs: on which device, in which precision, as which of several processes."""

import atexit
import gc
import os
from contextlib import nullcontext
from dataclasses import dataclass

import torch
from torch import distributed
from torch.nn.parallel import DistributedDataParallel


@dataclass(frozen=True)
class Place:
    """One process of a training: its device, its rank, and how many there are, as torchrun tells it."""

    device: torch.device
    rank: int = 0
    world: int = 1

    @classmethod
    def find(cls, device="auto"):
        """The place of this process, which under torchrun joins the others."""
        rank, world = int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))
        device = best_device() if device == "auto" else torch.device(device)
        if world > 1 and device.type == "cuda":
            device = torch.device("cuda", int(os.environ["LOCAL_RANK"]))
        if device.type == "cuda" and device.index is not None:
            torch.cuda.set_device(device)                       # streams and graphs are of the current one
        if world > 1:
            if not distributed.is_initialized():
                distributed.init_process_group("nccl" if device.type == "cuda" else "gloo")
                atexit.register(leave)
        return cls(device, rank, world)

    @property
    def first(self):
        """Does this process write the files and the log?"""
        return self.rank == 0

    def parallel(self, network):
        """The network, told to average its gradients over the processes where there are several."""
        return DistributedDataParallel(network) if self.world > 1 else network

    def passing(self, parallel, last):
        """Around each pass of a step: processes exchange gradients in the last one only."""
        return parallel.no_sync() if self.world > 1 and not last else nullcontext()

    def plays_graphs(self, wanted):
        """Are passes CUDA graphs? If asked for, and on one GPU: no gradients come from elsewhere."""
        return wanted and self.device.type == "cuda" and self.world == 1

    def autocast(self, bf16):
        """bfloat16 for what can bear it, if asked for and if this device gains from it."""
        return torch.autocast(self.device.type, torch.bfloat16, enabled=bf16 and has_fast_bf16(self.device))

    def agree(self, stopping, steps):
        """What the first process decided: clocks and signals differ between processes, steps must not."""
        if self.world == 1:
            return stopping, steps
        decision = torch.tensor([stopping, steps], device=self.device)
        distributed.broadcast(decision, src=0)
        return bool(decision[0]), int(decision[1])

    def wait(self):
        """Until every process is here: one that ends early would take the others' connection along."""
        if self.world > 1:
            distributed.barrier()

    def hardware(self):
        """The device in words, for the manifest."""
        if self.device.type == "cuda":
            return f"{self.world} x {torch.cuda.get_device_name(self.device)}"
        threads = self.world * torch.get_num_threads()
        return f"{self.device.type}, {threads} thread{'s' if threads > 1 else ''}"


def leave():
    """Leave the group of processes before Python ends, or its threads may outlive it and abort."""
    gc.collect()                                                # a wrapped network holds the group, too
    distributed.destroy_process_group()


def best_device():
    """A GPU if there is one, else the CPU."""
    if torch.cuda.is_available():
        return torch.device("cuda")
    return torch.device("mps" if torch.backends.mps.is_available() else "cpu")


def has_fast_bf16(device):
    """Does this device gain from bfloat16? GPUs of NVIDIA do; a CPU only if it has instructions for it."""
    if device.type == "cpu":
        return torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    return device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
