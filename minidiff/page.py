"""One HTML page with its pictures inside, to look at or to send to a friend."""

import base64
from html import escape
from io import BytesIO

STYLE = """
:root { color-scheme: light dark; --ink: light-dark(#1c2430, #e9e6df); --paper: light-dark(#fbf8f2, #161a21);
        --line: light-dark(#d9d2c3, #333a46); --soft: light-dark(#6a7280, #9aa3b2) }
body { margin: 0 auto; max-width: 68rem; padding: 2.5rem 1.5rem 5rem; background: var(--paper);
       color: var(--ink); font: 17px/1.55 system-ui, sans-serif }
h1 { font-size: 2.2rem; letter-spacing: -.02em; margin: 0 } h2 { margin: 3rem 0 .2rem }
p { max-width: 56rem } .lead { color: var(--soft); margin-top: .3rem }
.row { display: flex; flex-wrap: wrap; gap: 1.1rem; align-items: flex-start; margin-top: 1rem }
figure { margin: 0 } figure.given img { outline: 2px dashed var(--line); outline-offset: 3px }
img { image-rendering: pixelated; border-radius: 4px; display: block; max-width: 100% }
figcaption { color: var(--soft); font-size: .85rem; margin-top: .5rem; max-width: 13rem }
table { border-collapse: collapse; font-size: .9rem; margin-top: 1rem; font-variant-numeric: tabular-nums }
th, td { padding: .35rem .8rem; border-bottom: 1px solid var(--line); text-align: right }
th:first-child, td:first-child { text-align: left; padding-left: 0 }
th { color: var(--soft); font-weight: 500; vertical-align: bottom }
"""


def page(chapters, film, rows):
    """The whole page as a string: chapters of pictures, the film of the first edit, the table.

    chapters: objects with title, text, given, pieces (see minidiff.demo).  film: the bytes of a GIF.
    rows: dicts of strings with the same keys.
    """
    first, *others = map(chapter, chapters)
    reel = figure(film, "a film of the first: x_t, and the clean picture that is seen in it", 512)
    return f"""<!doctype html>
<html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>minidiff: the demo</title><style>{STYLE}</style>
<h1>minidiff</h1>
<p class="lead">Every editor is the same reverse process; they differ only in what must not change.</p>
{first}
<div class="row">{reel}</div>
{"".join(others)}
<h2>What was kept</h2>
<p>An edit must succeed <b>and</b> keep what nobody asked to change. Kept pixels come back identical: 60 dB is
the cap of their PSNR. Contrast at the edge: the steps across the mask's edge against those elsewhere, about 1
where no edge shows.</p>
{table(rows)}
</html>
"""


def chapter(part):
    """A title, a line of text, what goes in and what comes out."""
    given = [figure(png(picture), caption, 3 * picture.width, "given") for picture, caption in part.given]
    made = [(piece.edit.result().image, piece.caption) for piece in part.pieces]
    made = [figure(png(picture), caption, 3 * picture.width) for picture, caption in made]
    title, text, row = escape(part.title), escape(part.text), "".join(given + made)
    return f'<h2>{title}</h2><p>{text}</p><div class="row">{row}</div>'


def figure(data, caption, width, kind="made"):
    """A picture inside the page, `width` CSS pixels wide, with its caption.  data: bytes of a PNG or GIF."""
    mime = "image/gif" if data.startswith(b"GIF") else "image/png"
    source = f"data:{mime};base64,{base64.b64encode(data).decode()}"
    caption = escape(caption)
    return f'<figure class="{kind}"><img src="{source}" width="{width}" alt="{caption}">' \
           f"<figcaption>{caption}</figcaption></figure>"


def table(rows):
    """Rows as an HTML table."""
    head = "".join(f"<th>{escape(name)}</th>" for name in rows[0])
    lines = ["".join(f"<td>{escape(cell)}</td>" for cell in row.values()) for row in rows]
    return f"<table><tr>{head}</tr>" + "".join(f"<tr>{line}</tr>" for line in lines) + "</table>"


def png(picture):
    """The bytes of a PIL picture as PNG."""
    buffer = BytesIO()
    picture.save(buffer, "PNG", optimize=True)
    return buffer.getvalue()
