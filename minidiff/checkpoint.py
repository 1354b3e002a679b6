"""Checkpoints: safetensors on disk, never pickle, and never half a file.

Two kinds. *Weights* are shipped: half precision, NAME.safetensors beside a manifest.json that says how they
were made and what their bytes hash to. *State* is what a training needs to go on: full precision, one file
with its own hash.
"""

import hashlib
import json
import os
from contextlib import contextmanager
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save

MANIFEST = "manifest.json"


class CheckpointError(ValueError):
    """A checkpoint cannot be used: names the file and the cause, in at most two lines."""


def data_folder() -> Path:
    """Where weights, splits and results lie: minidiff/_data in a wheel, else data/ in the repository."""
    package = Path(__file__).parent
    installed = package / "_data"
    return installed if installed.is_dir() else package.parent / "data"


def save_weights(name: str, tensors: dict, entry: dict, folder=None) -> Path:
    """Write NAME.safetensors, floats in half precision, and its entry in the manifest.json beside it.

    entry: what made the weights (config, command, data seed, steps, seconds, hardware, figures).  folder:
    data/weights unless given.  Raises CheckpointError if a tensor does not survive half precision.
    """
    folder = data_folder() / "weights" if folder is None else Path(folder)
    path = folder / f"{name}.safetensors"
    halves = {key: _half(key, tensor, path) for key, tensor in tensors.items()}
    content = save(halves, {"name": name})
    folder.mkdir(parents=True, exist_ok=True)
    manifest = _read_manifest(folder) if (folder / MANIFEST).exists() else {}
    write_atomically(path, content)
    _write_manifest(folder, {**manifest, name: {**entry, "sha256": hashlib.sha256(content).hexdigest()}})
    return path


def add_figures(name: str, figures: dict, folder=None) -> None:
    """Add measured figures to the manifest's entry of some weights. Raises CheckpointError if it has none."""
    folder = data_folder() / "weights" if folder is None else Path(folder)
    manifest = _read_manifest(folder)
    if name not in manifest:
        raise CheckpointError(f"{folder / MANIFEST}: has no entry {name}")
    entry = manifest[name]
    _write_manifest(folder, {**manifest, name: {**entry, "figures": {**entry.get("figures", {}), **figures}}})


def load_weights(name_or_path) -> tuple[dict, dict]:
    """(tensors in float32, manifest entry) of shipped weights, by their name in data/weights or by path.

    Raises CheckpointError for a missing, damaged, renamed or unlisted file: its SHA-256 stands in
    manifest.json.
    """
    path = Path(name_or_path)
    if path.suffix != ".safetensors":
        path = data_folder() / "weights" / f"{name_or_path}.safetensors"
        if not path.exists():
            known = ", ".join(sorted(found.stem for found in path.parent.glob("*.safetensors"))) or "none yet"
            raise CheckpointError(f"{path}: there is none of this name; known: {known}")
    content = _read(path)
    manifest = _read_manifest(path.parent)
    digest = hashlib.sha256(content).hexdigest()
    if manifest.get(path.stem, {}).get("sha256") != digest:
        raise CheckpointError(f"{path}: {_why_unlisted(path.stem, digest, manifest)}")
    tensors, _ = _unpack(path, content)
    tensors = {key: value.float() if value.is_floating_point() else value for key, value in tensors.items()}
    return tensors, manifest[path.stem]


def save_state(path, tensors: dict, metadata: dict, previous=None) -> None:
    """Write a training's state at one stroke: at any moment it, or the state before it, is there and whole.

    tensors: kept as they are.  metadata: anything JSON can hold.  A SHA-256 over both goes into the header.
    previous: where the state before it is kept, if anywhere.
    """
    text = json.dumps(metadata, sort_keys=True)
    tensors = {key: tensor.detach().cpu().contiguous() for key, tensor in tensors.items()}
    write_atomically(path, save(tensors, {"metadata": text, "sha256": _digest(tensors, text)}), previous)


def load_state(path) -> tuple[dict, dict]:
    """(tensors, metadata) as given to save_state. Raises CheckpointError for a missing or damaged file."""
    path = Path(path)
    tensors, header = _unpack(path, _read(path))
    if set(header) != {"metadata", "sha256"}:
        raise CheckpointError(f"{path}: holds no training state (shipped weights, or another program's file)")
    if _digest(tensors, header["metadata"]) != header["sha256"]:
        raise CheckpointError(f"{path}: damaged: its contents do not match their SHA-256")
    return tensors, json.loads(header["metadata"])


def fill(module, tensors: dict, path) -> None:
    """Copy tensors into a module. Raises CheckpointError, naming `path`, unless names and shapes agree."""
    expected = module.state_dict()
    for name in [*expected, *tensors]:
        want, have = (tuple(side[name].shape) if name in side else "nothing" for side in (expected, tensors))
        if want != have:
            difference = f"tensor {name} is {have} in the file, {want} expected"
            raise CheckpointError(f"{path}: made by another network:\n{difference}")
    module.load_state_dict(tensors)


@contextmanager
def fitting(name_or_path):
    """Turn whatever a configuration does not fit into a CheckpointError."""
    try:
        yield
    except (KeyError, TypeError, ValueError) as error:
        reason = str(error).replace("\n", " ")
        raise CheckpointError(f"{name_or_path}: its configuration does not fit:\n{reason}") from None


def write_atomically(path, content: bytes, previous=None) -> None:
    """Write a file so that at any moment, power cuts included, the old or the new one is there, whole.

    previous: where the old one is kept.  Between the two renames that this takes, only `previous` is there.
    """
    path = Path(path)
    temporary = path.with_name(path.name + ".tmp")
    try:
        with open(temporary, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
    except OSError:                                             # a full disk, say: leave no half file behind
        temporary.unlink(missing_ok=True)
        raise
    if previous and path.exists():
        os.replace(path, previous)
        _sync_folder(path.parent)
    os.replace(temporary, path)
    _sync_folder(path.parent)


def _sync_folder(folder):
    """Make the renames in a folder last, where the system can (Windows cannot open folders)."""
    if os.name == "posix":
        descriptor = os.open(folder, os.O_RDONLY)
        os.fsync(descriptor)
        os.close(descriptor)


def _read(path):
    try:
        return path.read_bytes()
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read: {error.strerror}") from None


def _read_manifest(folder):
    path = folder / MANIFEST
    if not path.exists():
        raise CheckpointError(f"{path}: is missing: it lists weights, and is expected beside them")
    text = _read(path)
    try:
        return json.loads(text)
    except ValueError as error:
        raise CheckpointError(f"{path}: not JSON: {error}") from None


def _write_manifest(folder, manifest):
    text = json.dumps(dict(sorted(manifest.items())), indent=2, ensure_ascii=False)
    write_atomically(folder / MANIFEST, (text + "\n").encode())


def _why_unlisted(name, digest, manifest):
    owner = next((other for other, entry in manifest.items() if entry.get("sha256") == digest), None)
    if owner:
        return f'renamed: these are the weights of "{owner}"'
    if name not in manifest:
        return "manifest.json beside it has no such entry"
    return "damaged or exchanged: its SHA-256 is not the one in manifest.json"


def _unpack(path, content):
    """(tensors, header metadata) of a safetensors file, given its bytes."""
    header = _header(path, content)
    try:
        tensors = load(content)
    except (SafetensorError, ValueError, KeyError) as error:
        raise CheckpointError(f"{path}: damaged: {str(error).splitlines()[0]}") from None
    # clone: tensors inside `content` are aligned by chance, and alignment can change the last bit of a sum
    return {key: tensor.clone() for key, tensor in tensors.items()}, header.get("__metadata__", {})


def _header(path, content):
    """The header of a safetensors file: its length in 8 bytes, then itself, in JSON, then the tensors."""
    start = 8 + int.from_bytes(content[:8], "little")
    if len(content) < 8 or len(content) < start:
        raise CheckpointError(f"{path}: truncated, or no safetensors file: it ends inside its header")
    try:
        header = json.loads(content[8:start])
        ends = [entry["data_offsets"][1] for key, entry in header.items() if key != "__metadata__"]
        end = start + max(ends, default=0)
    except (ValueError, KeyError, TypeError, AttributeError, IndexError):
        raise CheckpointError(f"{path}: damaged, or no safetensors file: its header cannot be read") from None
    if len(content) != end:
        raise CheckpointError(f"{path}: truncated or damaged: {len(content)} bytes, its header says {end}")
    return header


def _digest(tensors, text):
    """SHA-256 over the metadata and the name, type, shape and bytes of every tensor."""
    digest = hashlib.sha256(text.encode())
    for name, tensor in sorted(tensors.items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy() if tensor.numel() else b"")
    return digest.hexdigest()


def _half(name, tensor, path):
    tensor = tensor.detach().cpu().contiguous()
    half = tensor.half() if tensor.is_floating_point() else tensor
    if half.is_floating_point() and not half.isfinite().all():
        raise CheckpointError(f"{path}: not written: tensor {name} is not finite in half precision")
    return half
