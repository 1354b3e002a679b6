"""The command line: minidiff edit | inpaint | outpaint | generate | demo | bench."""

import argparse
import sys
import warnings
from importlib.metadata import version
from pathlib import Path

from tqdm import tqdm

from minidiff import bench, demo
from minidiff.control import controls
from minidiff.editor import Editor, options_of
from minidiff.images import check_output, save_png

EDIT = """\
Change a picture as an instruction says: add, remove, recolour, replace, move or resize a thing, change the
season, the time of day, the style, or what a sign says. --control context looks at other pictures, too;
sdedit, invert and p2p read not an instruction but a caption of the result.

example: minidiff edit street.png "make the car blue" blue.png
         minidiff edit street.png "use the style of image 2" drawn.png --with sketch.png
"""
INPAINT = """\
Fill a hole in a picture, and keep every other pixel exactly as it is.

example: minidiff inpaint street.png hole.png edited.png --prompt "a red house on a summer day"
"""
OUTPAINT = """\
Paint on beyond the edges of a picture, and keep its own pixels exactly as they are.

example: minidiff outpaint street.png wide.png --right 32
"""
GENERATE = """\
Draw a picture from words, of what Toytown has: a house, a tree, a person, a car, a sign and a fence, in four
seasons, by day, at dusk and at night.

example: minidiff generate night.png --prompt 'a blue house and a sign that says "AB" at night in winter'
         minidiff generate drawn.png --prompt "a red house in spring" --map depth.png
"""
FILES = {
    "IN": "the picture: PNG, JPEG, WebP, BMP or GIF, sides multiples of 8 from 32 to 512 (else --resize)",
    "MASK": "a picture as large as IN: white = may change, black = stays; or, if it has transparent pixels: "
            "transparent = may change, whatever the colours (one file may be both IN and MASK)",
    "OUT": "a PNG, since a JPEG could not keep pixels as they are",
}
HELP = {
    "steps": "levels from noise to picture; more: slower, finer",
    "visits": "how often RePaint goes over each stretch of levels; more: slower, fits better",
    "jump": "levels that RePaint climbs back, to go over them again; fewer than --steps",
    "scale": "guidance: how closely to follow the prompt, 1 = as learnt",
    "guidance": "how to guide in latents: plain, or norm, which keeps each cell's length",
    "guided_above": "guide only above this level, 0 to 1; below, guidance adds grain",
    "image_scale": "how closely to stay with the picture, 1 = as learnt",
    "text_scale": "how closely to follow the instruction, 1 = as learnt",
    "rescale": "0 to 1: how far to bring strong guidance back to the contrast of the plain prediction",
    "strength": "0 to 1: how far up the levels SDEdit restarts; more changes more",
    "source": "a caption of what IN shows, for inversion and Prompt-to-Prompt",
    "words": "0 to 1: share of the steps in which the new caption looks where the old one did",
    "cells": "0 to 1: share of the steps in which the picture's parts attend as in the old one",
    "overlap": "pixels that neighbouring windows share, where the picture is larger than those learnt from",
}
PICTURES = ("map", "others")                                    # options that have arguments of their own


class Parser(argparse.ArgumentParser):
    """A parser whose complaints take two lines, and whose help keeps its line breaks."""

    def __init__(self, *arguments, **settings):
        super().__init__(*arguments, formatter_class=argparse.RawDescriptionHelpFormatter, **settings)

    def error(self, message):
        """Leave with status 2."""
        self.exit(2, f"{self.prog}: {message}\n{self.prog} --help says more\n")


def main(arguments=None):
    """Run the command line, return its exit status. Bad input: two lines on stderr, nothing written."""
    args = parser().parse_args(arguments)
    warnings.showwarning = lambda message, *_: print(f"note: {message}", file=sys.stderr)
    try:
        args.run(args)
    except (ValueError, OSError, RuntimeError) as error:            # RuntimeError: no memory left, say
        lines = (str(error) or type(error).__name__).splitlines()
        print(f"minidiff: {lines[0]}", *lines[1:2], sep="\n", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("minidiff: interrupted", file=sys.stderr)
        return 130
    return 0


def parser():
    """The parser of all commands."""
    main_parser = Parser("minidiff", description="Learn how diffusion models edit images, in Toytown.",
                         epilog="minidiff COMMAND --help says more about a command")
    main_parser.add_argument("--version", action="version", version=f"minidiff {version('minidiff')}")
    commands = main_parser.add_subparsers(metavar="COMMAND", required=True)
    add_edit(commands)
    add_inpaint(commands)
    add_outpaint(commands)
    add_generate(commands)
    add_module(commands, "demo", demo, "edit a few pictures, and write a page that shows them")
    add_module(commands, "bench", bench, "measure the editors, print and save the tables")
    return main_parser


def add_module(commands, name, module, summary):
    """A command that a module brings along: its docstring, add_arguments and main."""
    command = commands.add_parser(name, help=summary, description=module.__doc__)
    module.add_arguments(command)
    command.set_defaults(run=module.main)


def add_edit(commands):
    """minidiff edit IN INSTRUCTION OUT"""
    command = commands.add_parser("edit", help="change a picture by an instruction", description=EDIT)
    add_files(command, "IN")
    command.add_argument("instruction", metavar="INSTRUCTION", help='what to do; "" changes nothing')
    add_files(command, "OUT")
    command.add_argument("--with", dest="others", action="append", default=[], metavar="IMAGE",
                         help='"image 2" of the INSTRUCTION, then "image 3" (control: context)')
    command.add_argument("--resize", action="store_true", help="bring all to the nearest size that runs")
    command.add_argument("--as-decoded", action="store_true",
                         help="leave all as the decoder makes it, put no pixel of IN back (control: context)")
    add_common(command, "edit", "dual-cfg")
    command.set_defaults(run=run_edit)


def add_inpaint(commands):
    """minidiff inpaint IN MASK OUT"""
    command = commands.add_parser("inpaint", help="fill a hole in a picture", description=INPAINT)
    add_files(command, "IN", "MASK", "OUT")
    command.add_argument("--prompt", default="", help='what the whole picture shows ("")')
    command.add_argument("--resize", action="store_true", help="bring both to the nearest size that runs")
    command.add_argument("--scribble", action="store_true", help="MASK is a line drawn round what may change")
    add_common(command, "inpaint", "repaint")
    command.set_defaults(run=run_inpaint)


def add_outpaint(commands):
    """minidiff outpaint IN OUT"""
    command = commands.add_parser("outpaint", help="paint on beyond its edges", description=OUTPAINT)
    add_files(command, "IN", "OUT")
    for side in ("left", "right", "top", "bottom"):
        command.add_argument(f"--{side}", type=int, default=0, metavar="N", help=f"to add at the {side}")
    command.add_argument("--prompt", default="", help='what the whole new picture shows ("")')
    command.add_argument("--resize", action="store_true", help="first bring it to the nearest size that runs")
    add_common(command, "outpaint", "repaint")
    command.set_defaults(run=run_outpaint)


def add_generate(commands):
    """minidiff generate OUT"""
    command = commands.add_parser("generate", help="draw a picture from words", description=GENERATE)
    add_files(command, "OUT")
    command.add_argument("--prompt", default="", help='what to draw; writing on a sign in double quotes ("")')
    command.add_argument("--n", type=int, default=1, help="how many pictures (1)")
    command.add_argument("--map", help="a depth, segmentation or pose map to follow")
    command.add_argument("--resize", action="store_true", help="bring the map to the nearest size that runs")
    add_common(command, "generate", "free")
    command.set_defaults(run=run_generate)


def add_files(command, *names):
    """Positional arguments, among those of FILES."""
    for name in names:
        command.add_argument(name.lower(), metavar=name, help=FILES[name])


def add_common(command, task, default):
    """The options of every verb, and those that its control mechanisms have in their signatures."""
    there = controls(task)
    command.add_argument("--seed", type=int, default=0, help="the same seed gives the same picture (0)")
    command.add_argument("--model", help="name or path of the weights (those that the control was made for)")
    command.add_argument("--device", default="auto", help="auto, cpu, cuda or mps (auto)")
    command.add_argument("--control", choices=there, help=f"control mechanism ({default})")
    defaults = {}                                               # option -> control -> its default
    for control in dict.fromkeys((default, *there)):
        for name, value in options_of(there[control]).items():
            defaults.setdefault(name, {})[control] = value
    defaults = {name: values for name, values in defaults.items() if name not in PICTURES}
    for name, values in defaults.items():
        kind = next((type(value) for value in values.values() if value is not None), int)
        metavar = "TEXT" if kind is str else "NUMBER"
        command.add_argument(option_string(name), type=kind, default=argparse.SUPPRESS,
                             metavar=metavar, help=HELP.get(name, name) + usual(values))
    command.set_defaults(task=task, option_names=tuple(defaults))


def option_string(name):
    """An option of the editor, as it is written on the command line."""
    return "--" + name.replace("_", "-")


def usual(values):
    """The default of an option in brackets, as its help ends; who has which, where controls differ."""
    told = {control: value for control, value in values.items() if value not in (None, "")}
    owners = {}                                                 # default -> the controls that have it
    for control, value in told.items():
        owners.setdefault(value, []).append(control)
    if len(owners) < 2:
        return "".join(f" ({value})" for value in owners)
    told = (f"{value}: {', '.join(names)}" for value, names in owners.items())
    return f" ({'; '.join(told)})"


def chosen(args):
    """The options that the command line gave for the editor."""
    given = {name: getattr(args, name) for name in args.option_names if hasattr(args, name)}
    control = {"control": args.control} if args.control else {}
    takes = options_of(controls(args.task)[args.control]) if args.control else given
    unknown, known = ([option_string(name) for name in names if name not in PICTURES]
                      for names in (given.keys() - takes.keys(), takes))
    if unknown:
        found = f"{args.task} by {args.control} has no option {', '.join(sorted(unknown))}"
        raise ValueError(f"{found}:\n{', '.join(known) or 'none'} expected")
    return {"seed": args.seed, "strict": True, **control, **given}


def run_edit(args):
    """Edit by an instruction."""
    out = check_output(args.out)
    edit = Editor.load(args.model, args.device).begin_edit(
        [getattr(args, "in"), *args.others], args.instruction, resize=args.resize,
        as_decoded=args.as_decoded, **chosen(args))
    finish(edit, [out])


def run_inpaint(args):
    """Inpaint, unless the mask lets nothing change."""
    out = check_output(args.out)
    edit = Editor.load(args.model, args.device).begin_inpaint(
        getattr(args, "in"), args.mask, args.prompt, resize=args.resize, scribble=args.scribble,
        **chosen(args))
    if not edit.edit_mask.any():
        raise ValueError(f"{args.mask}: nothing may change,\nsome white or transparent pixels expected")
    finish(edit, [out])


def run_outpaint(args):
    """Outpaint, unless no side is to grow."""
    out = check_output(args.out)
    sides = (args.left, args.right, args.top, args.bottom)
    if not any(sides):
        raise ValueError("nothing may change: at least one of --left, --right, --top, --bottom expected")
    edit = Editor.load(args.model, args.device).begin_outpaint(
        getattr(args, "in"), *sides, args.prompt, resize=args.resize, **chosen(args))
    finish(edit, [out])


def run_generate(args):
    """Generate one picture, or several with numbers in their names."""
    out = Path(args.out)
    names = [out] if args.n == 1 else [out.with_stem(f"{out.stem}-{i}") for i in range(1, args.n + 1)]
    outs = [check_output(name) for name in names]
    finish(Editor.load(args.model, args.device).begin_generate(
        args.prompt, args.n, map=args.map, resize=args.resize, **chosen(args)), outs)


def finish(edit, outs):
    """Walk an edit to its end under a progress bar, save its pictures, and say what it kept and cost."""
    for _ in tqdm(edit, unit="step", leave=False):
        pass
    result = edit.result()
    for picture, out in zip(result.images, outs, strict=True):
        save_png(picture, out)
        print(f"{out}: {picture.width} x {picture.height}")
    if "max_diff" in result.measures:
        print("kept pixels: largest difference {max_diff:.0f} of 255".format(**result.measures))
    elif "changed" in result.measures:
        told = "changed: {changed:.0%} of the pixels, by more than 4 of 255"
        if "codec_changed" in result.measures:
            back = "; {uncomposited_changed:.0%} before others were put back"
            told += back * (not result.edit_mask.all()) + "\nits codec alone changes {codec_changed:.0%}"
        print(told.format(**result.measures))
    print(f"{result.network_calls} network calls, {result.seconds:.1f} s")
