"""The command line: what it writes, and that bad input costs two lines, a status and nothing else."""

import re

import numpy as np
import pytest
import torch
from PIL import Image

from minidiff import cli
from minidiff.cli import main
from minidiff.control.spatial import map_picture
from minidiff.images import to_pil
from minidiff.toytown import paint, scenes
from tests.test_images import png_header

QUICK = ["--steps", "4", "--jump", "2", "--visits", "2"]


@pytest.fixture(scope="module")
def street():
    return to_pil(paint(scenes(1, seed=3), 64))


@pytest.fixture
def folder(tmp_path, monkeypatch, street):
    """A folder to work in, with a picture and a mask."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("warnings.showwarning", None)                # main sets its own, for good
    street.save("street.png")
    mask = np.zeros((64, 64), np.uint8)
    mask[20:44, 16:40] = 255
    Image.fromarray(mask).save("hole.png")
    return tmp_path


@pytest.fixture
def run(folder, tiny_weights, capsys):
    """Run a command line with the tiny network: status, stdout, and stderr without progress bars."""

    def run(*words, model=True):
        words = [str(word) for word in words]
        try:
            status = main(words + (["--model", str(tiny_weights)] if model else []))
        except SystemExit as stop:
            status = stop.code
        out, err = capsys.readouterr()
        return status, out, re.sub(r"[^\n]*\r", "", err).strip()

    return run


def test_inpaint_keeps_every_other_pixel(run, street):
    status, out, err = run("inpaint", "street.png", "hole.png", "out.png", "--prompt", "a red house", *QUICK)
    assert (status, err) == (0, "") and "out.png: 64 x 64" in out and "largest difference 0" in out
    hole = np.asarray(Image.open("hole.png")) > 0
    changed = (np.asarray(Image.open("out.png")) != np.asarray(street)).any(-1)
    assert not changed[~hole].any() and changed[hole].mean() > 0.9


def test_outpaint_and_generate(run, folder, street):
    assert run("outpaint", "street.png", "wide.png", "--left", 32, *QUICK)[0] == 0
    wide = Image.open("wide.png")
    assert wide.size == (96, 64) and np.array_equal(wide.crop((32, 0, 96, 64)), street)
    assert run("generate", "new.png", "--prompt", "a house at night", "--n", 2, "--steps", 3)[0] == 0
    assert sorted(path.name for path in folder.glob("new*")) == ["new-1.png", "new-2.png"]
    assert run("generate", "one.png", "--steps", 3)[0] == 0 and Image.open("one.png").size == (64, 64)


def test_generate_follows_a_map(run, folder, tiny_control_weights):
    for name, seed, size in ("one", 3, (64, 64)), ("other", 4, (64, 64)), ("wide", 3, (96, 64)):
        to_pil(map_picture("depth", scenes(1, seed))).resize(size).save(f"{name}-map.png")
    options = "--prompt", "a red house", "--steps", 3, "--model", tiny_control_weights
    for out, name in ("one", "one"), ("again", "one"), ("other", "other"), ("wide", "wide"):
        status, said, err = run("generate", f"{out}.png", "--map", f"{name}-map.png", *options, model=False)
        width, height = Image.open(f"{name}-map.png").size
        assert (status, err) == (0, "") and f"{out}.png: {width} x {height}\n6 network calls" in said
        assert Image.open(f"{out}.png").size == (width, height)
    one, again, other = (np.asarray(Image.open(f"{name}.png")) for name in ("one", "again", "other"))
    assert np.array_equal(one, again) and (one != other).mean() > 0.1
    status, _, err = run("generate", "none.png", *options, model=False)
    assert status == 1 and "take 3 extra channels" in err and not (folder / "none.png").exists()


@pytest.mark.parametrize("control, options", [
    ("sdedit", ["--strength", 0.5]), ("invert", []), ("p2p", ["--source", "a house"])])
def test_edit_by_every_control_that_reads_captions(run, street, control, options):
    words = "edit", "street.png", "a red house", f"{control}.png", "--steps", 4
    status, out, err = run(*words, "--control", control, *options)
    assert (status, err) == (0, "") and "changed: 1" in out and "network calls" in out
    assert not np.array_equal(Image.open(f"{control}.png"), street)


def test_edit_brings_its_own_weights_and_nothing_asked_is_nothing_done(run, street):
    status, out, _ = run("edit", "street.png", "", "same.png", model=False)
    assert status == 0 and "changed: 0%" in out and "0 network calls" in out
    assert np.array_equal(Image.open("same.png"), street)
    status, out, _ = run("edit", "street.png", "make it winter", "winter.png", "--steps", 2, model=False)
    assert status == 0 and "6 network calls" in out             # three branches
    assert not np.array_equal(Image.open("winter.png"), street)


def test_a_scribble_is_filled(run, street):
    ring = np.zeros((64, 64), np.uint8)
    ring[10:40, 10:40], ring[12:38, 12:38] = 255, 0
    Image.fromarray(ring).save("ring.png")
    assert run("inpaint", "street.png", "ring.png", "out.png", "--scribble", *QUICK)[0] == 0
    changed = (np.asarray(Image.open("out.png")) != np.asarray(street)).any(-1)
    assert changed[14:36, 14:36].mean() > 0.9 and not changed[44:].any() and not changed[:, 44:].any()


def test_the_seed_makes_the_picture(run):
    for name, seed in ("a.png", 1), ("b.png", 1), ("c.png", 2):
        run("inpaint", "street.png", "hole.png", name, "--seed", seed, *QUICK)
    a, b, c = (np.asarray(Image.open(name)) for name in ("a.png", "b.png", "c.png"))
    assert np.array_equal(a, b) and not np.array_equal(a, c)


def test_resize_takes_any_size(run):
    Image.open("street.png").resize((300, 203)).save("large.png")
    Image.open("hole.png").resize((300, 203)).save("large-hole.png")
    quick = "--steps", 1, "--visits", 1
    status, _, err = run("inpaint", "large.png", "large-hole.png", "out.png", "--resize", *quick)
    assert status == 0 and Image.open("out.png").size == (304, 200)


def write_bad_files(street):
    """What may lie about: name -> how it is made."""
    Image.new("L", (64, 64)).save("black.png")
    Image.new("L", (64, 48), 255).save("small.png")
    street.resize((60, 60)).save("odd.png")
    street.save("photo-mask.png")
    Image.fromarray(np.zeros((64, 64), np.int32)).save("deep.tif")
    street.save("moving.gif", save_all=True, append_images=[street.rotate(90)])
    with open("street.png", "rb") as file:
        whole = file.read()
    for name, content in {"text.png": b"no picture", "empty.png": b"", "cut.png": whole[:700],
                          "bomb.png": png_header(10_000, 10_000)}.items():
        with open(name, "wb") as file:
            file.write(content)


BAD = {
    "wrong size": (["inpaint", "odd.png", "hole.png", "out.png"], "odd.png"),
    "sizes differ": (["inpaint", "street.png", "small.png", "out.png"], "64 x 48"),
    "side does not run": (["outpaint", "odd.png", "out.png", "--right", "32"], "--resize"),
    "no picture": (["inpaint", "text.png", "hole.png", "out.png"], "text.png"),
    "empty file": (["inpaint", "empty.png", "hole.png", "out.png"], "empty"),
    "cut file": (["inpaint", "cut.png", "hole.png", "out.png"], "cut.png"),
    "folder": (["inpaint", ".", "hole.png", "out.png"], "folder"),
    "no file": (["inpaint", "nowhere.png", "hole.png", "out.png"], "nowhere.png"),
    "100 megapixels": (["inpaint", "bomb.png", "hole.png", "out.png"], "50,000,000"),
    "100 megapixels, resize": (["outpaint", "bomb.png", "out.png", "--right", "8", "--resize"], "50,000,000"),
    "animation": (["inpaint", "moving.gif", "hole.png", "out.png"], "2 frames"),
    "unknown format": (["inpaint", "deep.tif", "hole.png", "out.png"], "deep.tif"),
    "empty mask": (["inpaint", "street.png", "black.png", "out.png"], "black.png: nothing may change"),
    "mask is a picture": (["inpaint", "street.png", "photo-mask.png", "out.png"], "neither black nor white"),
    "swapped": (["inpaint", "hole.png", "street.png", "out.png"], "neither black nor white"),
    "unknown words": (["inpaint", "street.png", "hole.png", "out.png", "--prompt", "a red hosue"], "house"),
    "unknown sign": (["generate", "out.png", "--prompt", 'a sign that says "Q"'], "Q"),
    "open quote": (["generate", "out.png", "--prompt", 'a sign that says "A'], "quot"),
    "no sides": (["outpaint", "street.png", "out.png"], "--left"),
    "canvas does not run": (["outpaint", "street.png", "out.png", "--right", "33"], "97 x 64"),
    "negative side": (["outpaint", "street.png", "out.png", "--right", "-8"], "-8"),
    "jpeg": (["inpaint", "street.png", "hole.png", "out.jpg"], ".png"),
    "unwritable": (["inpaint", "street.png", "hole.png", "nowhere/out.png"], "nowhere"),
    "output is a file's child": (["generate", "street.png/out.png"], "cannot be written"),
    "no steps": (["inpaint", "street.png", "hole.png", "out.png", "--steps", "0"], "steps"),
    "jump too far": (["inpaint", "street.png", "hole.png", "out.png", "--steps", "5", "--jump", "9"], "jump"),
    "no pictures": (["generate", "out.png", "--n", "0"], "n = 0"),
    "seed too large": (["generate", "out.png", "--seed", "99999999999999999999999"], ""),
    "device": (["generate", "out.png", "--device", "abacus"], "abacus"),
    "words for numbers": (["generate", "out.png", "--steps", "many"], "many"),
    "no such option": (["generate", "out.png", "--visits", "3"], "--visits"),
    "no such control": (["inpaint", "street.png", "hole.png", "out.png", "--control", "magic"], "magic"),
    "weights of another kind": (
        ["inpaint", "street.png", "hole.png", "out.png", "--control", "lama"], "one-pass"),
    "weights for another control": (["edit", "street.png", "make it winter", "out.png"], "extra channels"),
    "map of a bad size": (["generate", "out.png", "--map", "odd.png"], "odd.png is 60 x 60"),
    "map is no file": (["generate", "out.png", "--map", "nowhere.png"], "nowhere.png"),
    "no map": (["generate", "out.png", "--control", "map"], "no map came"),
    "weights take no map": (
        ["generate", "out.png", "--map", "street.png"], "take 0 extra channels, this control mechanism"),
    "map for a control that reads none": (
        ["generate", "out.png", "--map", "street.png", "--control", "free"], "no option map"),
    "unknown words in the source": (
        ["edit", "street.png", "a house", "out.png", "--control", "p2p", "--source", "a red hosue"], "house"),
    "no picture to edit": (["edit", "text.png", "make it winter", "out.png"], "text.png"),
    "no strength": (["edit", "street.png", "", "out.png", "--control", "sdedit", "--strength", "0"], "0"),
    "scale is no number": (["generate", "out.png", "--scale", "nan"], "scale = nan: a finite number"),
    "scale is endless": (
        ["inpaint", "street.png", "hole.png", "out.png", "--scale", "inf"], "scale = inf: a finite number"),
    "option of another control": (
        ["edit", "street.png", "", "out.png", "--control", "sdedit", "--image-scale", "2"],
        "edit by sdedit has no option --image-scale:\n--steps, --strength, --scale expected"),
    "too few files": (["inpaint", "street.png"], "MASK"),
    "no command": ([], "COMMAND"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_costs_two_lines_and_writes_nothing(case, run, folder, street):
    write_bad_files(street)
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    words, named = BAD[case]
    status, out, err = run(*words)
    assert status not in (0, None) and out == ""
    assert 1 <= len(err.splitlines()) <= 2 and "Traceback" not in err and named in err
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


@pytest.mark.parametrize("kind", ["vae", "clip"])
def test_weights_that_draw_nothing(run, folder, kind):
    status, _, err = run("generate", "out.png", "--model", f"town-{kind}", model=False)
    assert status == 1 and f"these weights are a {kind}, which draws no pictures" in err
    assert "those of an editor expected" in err
    assert not (folder / "out.png").exists()


@pytest.mark.parametrize("model", ["nowhere", "text.safetensors"])
def test_bad_weights(run, folder, model):
    (folder / "text.safetensors").write_bytes(b"no weights")
    (folder / "manifest.json").write_text("{}")
    status, out, err = run("generate", "out.png", "--model", model, model=False)
    assert status == 1 and model in err and len(err.splitlines()) <= 2 and not (folder / "out.png").exists()


def test_a_full_disk_leaves_no_partial_file(run, folder, monkeypatch):
    def full_disk(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full_disk)
    before = sorted(folder.iterdir())
    status, _, err = run("generate", "out.png", "--steps", 2)
    assert status == 1 and "No space left" in err and sorted(folder.iterdir()) == before


def test_an_interrupt_leaves_no_file(run, folder, monkeypatch):
    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(cli, "finish", interrupt)
    status, _, err = run("generate", "out.png", "--steps", 2)
    assert status == 130 and err == "minidiff: interrupted" and not (folder / "out.png").exists()


def test_a_strange_picture_is_edited_with_a_note(run):
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)).save("noise.png")
    status, _, err = run("inpaint", "noise.png", "hole.png", "out.png", *QUICK)
    assert status == 0 and "nothing like Toytown" in err
    assert len(err.splitlines()) <= 2 and "UserWarning" not in err


def test_help_tells_a_newcomer_what_to_do(run):
    status, out, _ = run("--help", model=False)
    assert status == 0 and all(name in out for name in ("inpaint", "outpaint", "generate", "demo", "bench"))
    status, out, _ = run("inpaint", "--help", model=False)
    text = " ".join(out.split())
    assert "white = may change" in text and "transparent = may change" in text
    assert "example: minidiff inpaint" in text
    assert all(option in out for option in ("--visits", "--jump", "--steps", "--scale", "--resize", "--seed"))
    _, out, _ = run("edit", "--help", model=False)
    text = " ".join(out.split()).replace("dual- cfg", "dual-cfg")
    assert "finer (50: dual-cfg, sdedit, invert, p2p; 20: context)" in text
    assert "as learnt (3.0: sdedit, context; 2.0: invert, p2p)" in text and "as learnt (1.5)" in text
    assert run("--version", model=False)[1].startswith("minidiff ")


def test_bench_is_handed_its_options(run, monkeypatch):
    seen = []
    monkeypatch.setattr(cli.bench, "main", seen.append)
    assert run("bench", "--only", "bias", "--quick", model=False)[0] == 0
    assert seen[0].only == ["bias"] and seen[0].quick


def test_demo_edits_the_pictures_that_ship(run, folder):
    status, out, _ = run("demo", "--steps", 4, "--out", "tour")
    assert status == 0 and "tour/index.html" in out and out.count("60 dB") >= 4
    page = (folder / "tour" / "index.html").read_text()
    assert page.count("data:image/png;base64,") >= 10 and page.count("data:image/gif;base64,") == 1
    assert "://" not in page                                     # nothing to fetch: all is inside
    names = {path.name for path in (folder / "tour").iterdir()}
    assert {"index.html", "film.gif", "film.png", "overview.png", "hole-1.png", "torn-mended.png"} <= names
    assert {"told-blue.png", "map-depth.png"} <= names
    assert Image.open("tour/cottage-wide.png").size == (96, 64) and Image.open("tour/film.gif").n_frames >= 4


def test_demo_refuses_a_folder_that_is_a_file(run):
    status, _, err = run("demo", "--steps", 4, "--out", "street.png")
    assert status == 1 and "street.png" in err and len(err.splitlines()) <= 2


def test_the_demos_pictures_run_and_are_of_toytown():
    from minidiff.checkpoint import data_folder
    from minidiff.familiar import unlike_toytown
    from minidiff.images import load_image, load_mask, to_tensor

    inputs = data_folder() / "demo"
    nothing = torch.zeros(1, 1, 64, 64, dtype=torch.bool)
    for name in "street.png", "cottage.png":
        assert unlike_toytown(to_tensor(load_image(inputs / name)), nothing) is None
    assert unlike_toytown(to_tensor(load_image(inputs / "torn.png")), load_mask(inputs / "torn.png")) is None
    assert 0.1 < load_mask(inputs / "torn.png").float().mean() < 0.4 and load_mask(inputs / "hole.png").any()
