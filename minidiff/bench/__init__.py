"""Measure every editor against the truth: print the tables, and save them as NAME.json and NAME.md.

A table is a file of minidiff/bench. Its docstring is the title and what to see, rows(...) measures and
returns a list of dicts, QUICK holds the arguments of a quick look; where a network is measured, WEIGHTS
names it (town-ddpm unless it does), and chief(rows) picks the figures that go into the manifest: a dict from
the names of weights to their figures; plot(rows), if it is there, draws NAME.png. A new table is named in
TABLES; a new editor is one more entry in a table's dict of editors.
"""

from inspect import signature
from pathlib import Path
from time import perf_counter

from minidiff.bench import (
    bias,
    captions,
    drift,
    edits,
    generation,
    grammar,
    inversion,
    lama,
    latent_masks,
    maps,
    masks,
    order,
    pairs,
    put_back,
    slow,
    speed,
    steps,
    tradeoff,
)
from minidiff.bench.tables import Table, hardware
from minidiff.checkpoint import add_figures, data_folder
from minidiff.model import load_model

TABLES = {"bias": bias, "slow": slow, "speed": speed, "captions": captions, "order": order, "masks": masks,
          "lama": lama, "edits": edits, "tradeoff": tradeoff, "inversion": inversion, "pairs": pairs,
          "maps": maps, "generation": generation, "grammar": grammar, "put-back": put_back, "steps": steps,
          "drift": drift, "latent-masks": latent_masks}


def add_arguments(parser):
    """The options of `minidiff bench`, for an argparse parser."""
    parser.add_argument("--list", action="store_true", help="only list the tables")
    parser.add_argument("--only", metavar="NAME", action="append", help="one table; may be repeated")
    parser.add_argument("--quick", action="store_true", help="rough, in a minute; saved only with --out")
    parser.add_argument("--out", metavar="DIR", help="where NAME.json and NAME.md go (data/results)")
    parser.add_argument("--seed", type=int, default=0, help="of all noise (0)")
    parser.add_argument("--model", help="name or path of weights, in place of a table's own")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or mps (auto)")


def main(args):
    """Measure, print and save the tables that the options ask for. Raises ValueError for unknown names."""
    names = args.only or list(TABLES)
    if unknown := [name for name in names if name not in TABLES]:
        raise ValueError(f"--only {unknown[0]}: one of {', '.join(TABLES)} expected")
    if args.list:
        print("\n".join(f"{name:14}{title_and_about(TABLES[name])[0]}" for name in TABLES))
        return
    folder = args.out or (None if args.quick else data_folder() / "results")
    if folder:
        Path(folder).mkdir(parents=True, exist_ok=True)         # a bad folder shows before the work
    for name in names:
        weights = args.model or weights_of(name)
        model = load_model(weights, args.device) if needs_model(name) else None
        table = measure(name, model, args.quick, args.seed)
        print(table.text(), flush=True)
        if folder:
            print("saved:", *table.save(folder), *drawn(name, table.rows, folder), "\n", flush=True)
            if needs_model(name) and not args.out and not args.model:
                for measured, figures in TABLES[name].chief(table.rows).items():
                    add_figures(measured, {name: figures})


def measure(name, model=None, quick=False, seed=0):
    """One Table, by its name in TABLES.  model: a minidiff.model.Model, where needs_model(name)."""
    module = TABLES[name]
    given = {"model": model} if needs_model(name) else {}
    start = perf_counter()
    rows = module.rows(**given, **(module.QUICK if quick else {}), seed=seed)
    seconds = perf_counter() - start
    command = f"minidiff bench --only {name}" + " --quick" * quick
    machine = hardware(model.device if given else "cpu")
    return Table(name, *title_and_about(module), rows, command, seed, machine, seconds)


def drawn(name, rows, folder):
    """The path of NAME.png, drawn if the table has a plot and matplotlib is here; none otherwise."""
    if not hasattr(TABLES[name], "plot"):
        return []
    try:
        figure = TABLES[name].plot(rows)
    except ModuleNotFoundError as error:
        print(f"{name}.png is not drawn: {error.name} is missing; pip install -e .[notebooks] brings it")
        return []
    path = Path(folder) / f"{name}.png"
    figure.savefig(path)
    return [path]


def needs_model(name):
    """Does a table measure a trained network?"""
    return "model" in signature(TABLES[name].rows).parameters


def weights_of(name):
    """The weights that a table measures first."""
    return getattr(TABLES[name], "WEIGHTS", "town-ddpm")


def title_and_about(module):
    """The first line of a module's docstring, and the rest as one paragraph."""
    title, _, about = module.__doc__.partition("\n")
    return title, " ".join(about.split())
