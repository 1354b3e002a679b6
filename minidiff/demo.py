"""A tour: obey, take from a second picture, fill a hole, mend a torn picture, paint beyond an edge, draw.

It writes a PNG of every result, a film of the reverse process, and one HTML page that shows them all.
"""

from dataclasses import dataclass, field
from pathlib import Path

from PIL import Image
from tqdm import tqdm

from minidiff.checkpoint import data_folder, write_atomically
from minidiff.edit import Edit
from minidiff.editor import Editor
from minidiff.images import load_pair, save_png, to_pil, to_tensor
from minidiff.page import page
from minidiff.process.sample import State
from minidiff.show import film_strip, gif, grid, overlay

FRAMES = 60                                                 # of the film of each edit
SUMMER = "{} on the right and an orange car in the middle, on a summer day"
DUSK = ("a blue car on the left, a red house on the left, a person in a purple jacket and a pine tree "
        "on the right at dusk in summer")
SPRING = "a picture of a round tree in the middle, a green house and a yellow car, on a spring day"
INSTRUCTIONS = {"told-winter": "make it winter", "told-night": "make it night",
                "told-removed": "remove the car", "told-blue": "make the car blue"}
CAPTIONS = {
    "words-house": "a picture of a red house, a round tree and a yellow car on a summer day",
    "words-sign": 'a picture of a white house and a sign that says "AB" at night in winter',
    "words-autumn": "a picture of a person in a red jacket, a fence and a round tree at dusk in autumn",
    "words-blueprint": "a blueprint of a blue house, a pine tree and a black car by day in spring",
}
MAPPED = {
    "depth": "a picture of a red house, a pine tree, a person and a blue car on a summer day",
    "segmentation": "a picture of a house, a pine tree, a person and a car at night in winter",
    "pose": "a picture of a person in a red jacket and a white house at dusk in autumn",
}


@dataclass
class Piece:
    """One result of the tour: the stem of its file, what it is, the edit that makes it, and a film of it.

    film: up to FRAMES of its States.
    """

    name: str
    caption: str
    edit: Edit
    film: list[State] = field(default_factory=list)

    def run(self, bar):
        """Walk the edit to its end, one step of the bar a State, and film it."""
        every = -(-len(self.edit) // FRAMES)
        for i, state in enumerate(self.edit):
            bar.update()
            if i % every == 0 or state.t == 0:
                self.film.append(state)


@dataclass
class Chapter:
    """A title, what to see, the pictures that go in, each with a line of text, and what comes out."""

    title: str
    text: str
    given: list[tuple[Image.Image, str]]
    pieces: list[Piece]


def add_arguments(parser):
    """The options of `minidiff demo`, for an argparse parser."""
    parser.add_argument("--out", default="out/demo", metavar="DIR", help="where it writes (out/demo)")
    parser.add_argument("--model", help="name or path of weights in place of town-ddpm")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or mps (auto)")
    parser.add_argument("--steps", type=int, default=50, help="levels from noise to picture (50)")


def main(args):
    """Make the tour and save it in args.out; print how well each edit kept what it had to."""
    folder = Path(args.out)
    folder.mkdir(parents=True, exist_ok=True)
    editor, specialists = (Editor.load(name, args.device) for name in (args.model or "town-ddpm", None))
    chapters = tour(editor, specialists, args.steps)
    pieces = [piece for chapter in chapters for piece in chapter.pieces]
    with tqdm(total=sum(len(piece.edit) for piece in pieces), unit="step") as bar:
        for piece in pieces:
            bar.set_description(f"{piece.name:12}")
            piece.run(bar)
            save_png(piece.edit.result().image, folder / f"{piece.name}.png")
    film, rows = gif(pieces[0].film), [row(piece) for piece in pieces]
    save_png(overview(chapters[0]), folder / "overview.png")
    save_png(film_strip(pieces[0].film), folder / "film.png")
    write_atomically(folder / "film.gif", film)
    write_atomically(folder / "index.html", page(chapters, film, rows).encode())
    print(table(rows))
    print(f"The page: {(folder / 'index.html').resolve()}")


def tour(editor, specialists, steps):
    """The chapters, their edits ready to run: by a caption model, and by networks trained for their task."""
    return [told(specialists, steps), tokens(specialists, steps), hole(editor, steps),
            trained(specialists, steps), torn(editor, steps), beyond(editor, steps), words(editor, steps),
            mapped(specialists, steps)]


def told(editor, steps):
    """A picture changed as instructions say, and nothing marked."""
    file = data_folder() / "demo" / "street.png"
    pieces = [Piece(name, f"“{words}”", editor.begin_edit(file, words, steps=steps))
              for name, words in INSTRUCTIONS.items()]
    text = ("InstructPix2Pix starts from pure noise and sees the picture beside it; nobody marks what may "
            "change. So nothing holds the rest but what it has learnt: look at what else moved.")
    return Chapter("Say what to change", text, [(Image.open(file).convert("RGB"), "given")], pieces)


def tokens(editor, steps):
    """One network that edits, takes from a second picture, fills a hole, and draws."""
    street, cottage, hole = (data_folder() / "demo" / f"{name}.png" for name in ("street", "cottage", "hole"))
    told = {"tokens-autumn": (street, "make it autumn"),
            "tokens-white": (street, "make the house white"),
            "tokens-car": ([street, cottage], "replace the car by the car of image 2")}
    prompt, words = SUMMER.format("a white house"), CAPTIONS["words-house"]
    few = max(2, 2 * steps // 5)                                # straight paths: 20 where others take 50
    edits = {name: (f"“{line}”", editor.begin_edit(pictures, line, control="context", steps=few))
             for name, (pictures, line) in told.items()}
    edits["tokens-hole"] = f"a hole, “{prompt}”", editor.begin_inpaint(
        street, hole, prompt, control="latent-repaint", steps=few, jump=max(1, few // 5))
    edits["tokens-drawn"] = f"“{words}”", editor.begin_generate(words, control="context", steps=few)
    text = ("Words, pictures and noise are tokens of one sequence, in latents. The same transformer obeys "
            "beside one picture or two, and draws without any. Masks hold it as they do all others; where "
            "there is none, what an edit did not change is told from what the codec loses, and put back.")
    pieces = [Piece(name, *edit) for name, edit in edits.items()]
    given = [(Image.open(file).convert("RGB"), f"image {i}") for i, file in enumerate((street, cottage), 1)]
    return Chapter("Pictures as tokens", text, given, pieces)


def hole(editor, steps):
    """One hole, filled after three prompts."""
    files = [data_folder() / "demo" / name for name in ("street.png", "hole.png")]
    picture, edit_mask = load_pair(*files)
    pieces = []
    for thing in ("a white house", "a round tree", 'a sign that says "A1"'):
        options = {**repaint(steps), "scale": 4.0, "seed": 1}     # low scales and other seeds obey less often
        edit = editor.begin_inpaint(*files, SUMMER.format(thing), **options)
        pieces.append(Piece(f"hole-{len(pieces) + 1}", f"“{thing}”", edit))
    text = ("RePaint fills it from pure noise and holds all other pixels. The caption says what goes there; "
            "a network this small reads things better than their colours, and cannot spell.")
    given = [(picture, "given"), (marked(picture, edit_mask), "may change")]
    return Chapter("Fill a hole", text, given, pieces)


def marked(picture, edit_mask):
    """A PIL picture, orange stripes where it may change."""
    return to_pil(overlay(to_tensor(picture), edit_mask))


def trained(editor, steps):
    """The same hole by networks that were trained on holes."""
    files = [data_folder() / "demo" / name for name in ("street.png", "hole.png")]
    prompt = SUMMER.format("a white house")
    pieces = [
        Piece("hole-glide", "GLIDE: " + f"“{prompt}”", editor.begin_inpaint(
            *files, prompt, control="glide", steps=steps, seed=1)),
        Piece("hole-lama", "LaMa: one pass, no words", editor.begin_inpaint(*files, control="lama"))]
    text = ("GLIDE sees at every step what it has to fit to, so that one walk down is enough. LaMa is no "
            "diffusion at all: it gives its best guess at once, the blur of all that might stand there.")
    return Chapter("Trained on holes", text, [(marked(*load_pair(*files)), "may change")], pieces)


def torn(editor, steps):
    """Thin holes all over a picture, once without resampling and once with."""
    file = data_folder() / "demo" / "torn.png"              # transparent where it is torn
    picture, edit_mask = load_pair(file, file)
    visits = {"torn-once": (1, "every level once"), "torn-mended": (5, "every stretch five times")}
    pieces = [Piece(name, line, editor.begin_inpaint(file, file, DUSK, **repaint(steps, count)))
              for name, (count, line) in visits.items()]
    text = "Transparent pixels may change. To climb back and come down again lets the new fit the kept."
    return Chapter("Mend a torn picture", text, [(marked(picture, edit_mask), "given, torn")], pieces)


def beyond(editor, steps):
    """A picture made wider than any that the network ever saw."""
    file = data_folder() / "demo" / "cottage.png"
    edit = editor.begin_outpaint(file, left=32, prompt=SPRING, **repaint(steps))
    text = "The canvas grows by 32 pixels, and the new part is the hole; two windows cover the 96 pixels."
    given = [(Image.open(file).convert("RGB"), "given")]
    pieces = [Piece("cottage-wide", "32 more pixels on the left", edit)]
    return Chapter("Paint beyond the edge", text, given, pieces)


def words(editor, steps):
    """Pictures from captions alone."""
    pieces = [Piece(name, f"“{caption}”", editor.begin_generate(caption, steps=steps, scale=2.0))
              for name, caption in CAPTIONS.items()]
    return Chapter("Draw from words", "Everything may change, so the reverse process runs free.", [], pieces)


def mapped(editor, steps):
    """Pictures that stand where a map says: one caption each, of what the map leaves open."""
    files = {kind: data_folder() / "demo" / f"{kind}.png" for kind in MAPPED}
    pieces = [Piece(f"map-{kind}", f"{kind}: “{caption}”", editor.begin_generate(
        caption, map=files[kind], steps=steps, seed=1)) for kind, caption in MAPPED.items()]
    text = ("The caption model is frozen; a copy of its first half reads the map and tells it where things "
            "stand. No map knows colours, season or hour: they are the caption's, as far as it is obeyed.")
    given = [(Image.open(file).convert("RGB"), kind) for kind, file in files.items()]
    return Chapter("Draw from a map", text, given, pieces)


def repaint(steps, visits=5):
    """RePaint's options for the tour."""
    return dict(steps=steps, jump=max(1, steps // 10), visits=visits, scale=2.0)


def overview(chapter):
    """What goes into a chapter and what comes out, in one row, as a PIL picture."""
    shown = [*chapter.given, *((piece.edit.result().image, piece.caption) for piece in chapter.pieces)]
    return grid([to_tensor(picture) for picture, _ in shown], scale=3, titles=[line for _, line in shown])


def row(piece):
    """A line of the table: what the edit kept, and what it cost."""
    result, measures = piece.edit.result(), piece.edit.result().measures
    shown = {"max_diff": "{:.0f}", "changed": "{:.1%}", "psnr": "{:.0f} dB", "edge": "{:.2f}"}
    kept = {name: style.format(measures[name]) if name in measures else "" for name, style in shown.items()}
    return {"edit": piece.name, "kept: largest difference": kept["max_diff"], "changed": kept["changed"],
            "PSNR": kept["psnr"], "contrast at the edge": kept["edge"],
            "network calls": str(result.network_calls), "seconds": f"{result.seconds:.1f}"}


def table(rows):
    """Rows as text in aligned columns; the PSNR of identical pixels is capped at 60 dB."""
    lines = [list(rows[0]), *(list(row.values()) for row in rows)]
    widths = [max(map(len, column)) for column in zip(*lines)]
    aligned = [[cell.rjust(width) for cell, width in zip(line, widths)] for line in lines]
    return "\n".join("  ".join(line) for line in aligned)
