"""What a user installs: the wheel has the data and runs outside the checkout, and every version is pinned."""

import re
import subprocess
import sys
import tomllib
import zipfile
from importlib.metadata import distribution
from pathlib import Path

import pytest
from PIL import Image

ROOT = Path(__file__).parent.parent
RUN = "import sys; sys.path.insert(0, sys.argv.pop(1)); from minidiff.cli import main; sys.exit(main())"
WHERE = "import sys; sys.path.insert(0, sys.argv[1]); import minidiff.checkpoint as c; print(c.data_folder())"


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """The wheel, built without network, unpacked."""
    folder = tmp_path_factory.mktemp("wheel")
    options = ["--quiet", "--no-deps", "--no-build-isolation", "--no-index", "--wheel-dir", str(folder)]
    subprocess.run([sys.executable, "-m", "pip", "wheel", *options, str(ROOT)], check=True)
    (built,) = folder.glob("minidiff-*.whl")
    zipfile.ZipFile(built).extractall(folder / "unpacked")
    return folder / "unpacked"


def run_alone(wheel, cwd, program, *words):
    """Run a program in a fresh interpreter that has the wheel in front of everything, in another folder."""
    command = [sys.executable, "-I", "-c", program, str(wheel), *map(str, words)]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True)


def test_the_wheel_has_every_file_of_data_and_the_font(wheel):
    data = {path.relative_to(ROOT / "data") for path in (ROOT / "data").rglob("*") if path.is_file()}
    inside = wheel / "minidiff" / "_data"
    packed = {path.relative_to(inside) for path in inside.rglob("*")}
    assert data <= packed and Path("demo/street.png") in packed
    assert (wheel / "minidiff" / "toytown" / "glyphs.txt").is_file()
    assert not any((wheel / name).exists() for name in ("tests", "train", "notebooks", "data"))


def test_the_wheel_runs_outside_the_checkout(wheel, tmp_path, tiny_weights):
    data = run_alone(wheel, tmp_path, WHERE).stdout.strip()
    assert data == str(wheel / "minidiff" / "_data")
    made = run_alone(wheel, tmp_path, RUN, "demo", "--steps", 2, "--model", tiny_weights)
    assert made.returncode == 0, made.stderr
    assert (tmp_path / "out" / "demo" / "index.html").is_file() and "step/s" in made.stderr


def test_the_shipped_weights_are_in_the_wheel_and_draw(wheel, tmp_path):
    made = run_alone(wheel, tmp_path, RUN, "generate", "out.png", "--prompt", "a red house", "--steps", 2)
    assert made.returncode == 0, made.stderr
    assert Image.open(tmp_path / "out.png").size == (64, 64)


def pins():
    """constraints.txt: name in lower case -> version."""
    lines = [line for line in (ROOT / "constraints.txt").read_text().splitlines() if not line.startswith("#")]
    assert all(re.fullmatch(r"[A-Za-z0-9._-]+==[A-Za-z0-9._]+", line) for line in lines)
    return {normal(line.split("==")[0]): line.split("==")[1] for line in lines}


def normal(name):
    return re.sub(r"[-_.]+", "-", name).lower()


def test_every_version_that_an_install_needs_is_pinned():
    """Follow what pyproject asks for through what is installed, by the extras and markers of this machine."""
    packaging = pytest.importorskip("packaging.requirements")
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = [project["dependencies"], *project["optional-dependencies"].values()]
    queue, seen, known = [packaging.Requirement(line) for lines in wanted for line in lines], set(), pins()
    while queue:
        need = queue.pop()
        name = normal(need.name)
        if name == "minidiff" or (name, *sorted(need.extras)) in seen:
            continue
        seen.add((name, *sorted(need.extras)))
        assert name in known, f"{name} is not in constraints.txt"
        assert need.specifier.contains(known[name], prereleases=True), f"{need}: {known[name]} is pinned"
        for line in distribution(name).requires or []:
            inner = packaging.Requirement(line)
            extras = [{"extra": extra} for extra in ("", *need.extras)]
            if inner.marker is None or any(map(inner.marker.evaluate, extras)):
                queue.append(inner)
    assert len(seen) > 50


def test_the_commands_that_the_readme_promises_exist():
    targets = re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(), re.M)
    assert {"demo", "test", "lab", "bench", "train", "lint", "student"} <= set(targets)
    assert "make test" in (ROOT / ".ci" / "run").read_text()
    assert "MIT License" in (ROOT / "LICENSE").read_text()
    scripts = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]
    assert scripts == {"minidiff": "minidiff.cli:main"}
