"""The control mechanism: what may change, and what must not. One editor a file.

Each file registers its editors for a task under a name: add or delete a file, and its editors come or go.
An editor is a function (model, image, edit_mask, prompt, *, generator, ...) that yields States; its other
keywords are the options of that control. `model` offers `.process`, `.size` (the side, in pixels, that it was
trained at) and `.denoiser(prompts, scale)`, a denoise callable with guidance and one prompt for each picture
bound to it.
"""

from importlib import import_module
from pkgutil import iter_modules

_EDITORS = {}


def register(task, name):
    """Decorate an editor, so that controls(task) offers it under `name`."""

    def add(editor):
        _EDITORS.setdefault(task, {})[name] = editor
        return editor

    return add


def controls(task):
    """The editors for a task ("inpaint", "outpaint", ...): a dict from the control's name to its function.

    Raises ValueError for a task that no file serves.
    """
    for module in iter_modules(__path__):
        import_module(f"{__name__}.{module.name}")
    if task not in _EDITORS:
        raise ValueError(f'task = "{task}": one of {", ".join(sorted(_EDITORS))} expected')
    return dict(_EDITORS[task])
