"""The control mechanism: what may change, and what must not. One editor a file.

Each file registers its editors for a task under a name: add or delete a file, and its editors come or go.
An editor is a function (model, image, edit_mask, prompt, *, generator, ...) that yields States; its other
keywords are the options of that control. `model` offers `.process`, `.size` (the side, in pixels, that it was
trained at), `.denoiser(prompts, scale, extra)`, a denoise callable with guidance and one prompt for each
picture bound to it, `.branches(...)`, the bare predictions under several conditions at once, `.text`, the
text encoder, and `.attention(adjust)`; one that fills holes in one pass offers `.fill(image, edit_mask)`
instead; one that works in latents (minidiff/latent.py) has also `.latents(x0)`, `.cells(edit_mask)`, the mask
for them, `.factor`, the pixels of a cell's side, and `.times(steps, z)`. What the last State holds, `.decode`
makes the picture: of a pixel model, nothing changes.
"""

from importlib import import_module
from pkgutil import iter_modules

_EDITORS, _DERIVED = {}, {}


def register(task, name, weights="town-ddpm", kind="denoiser"):
    """Decorate an editor, so that controls(task) offers it under `name`.

    weights: those that it was made for, loaded unless others are named.  kind: of model, as `Model.kind`.
    """

    def add(editor):
        editor.weights, editor.kind = weights, kind
        _EDITORS.setdefault(task, {})[name] = editor
        return editor

    return add


def derive(task, base):
    """Decorate (editor for the task `base`) -> (editor for `task`): all names of `base` serve `task`, too."""

    def add(make):
        _DERIVED[task] = base, make
        return make

    return add


def controls(task):
    """The editors for a task ("inpaint", "outpaint", ...): a dict from the control's name to its function.

    Raises ValueError for a task that no file serves.
    """
    for module in iter_modules(__path__):
        import_module(f"{__name__}.{module.name}")
    found = dict(_EDITORS.get(task, {}))
    if task in _DERIVED:
        base, make = _DERIVED[task]
        found |= {name: make(editor) for name, editor in _EDITORS.get(base, {}).items() if name not in found}
    if not found:
        raise ValueError(f'task = "{task}": one of {", ".join(sorted({*_EDITORS, *_DERIVED}))} expected')
    return found
