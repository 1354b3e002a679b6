"""What the tests of every check ask: is right called right, each mistake by its name, a skeleton unsolved?

The checks live beside the notebooks: importing this file puts them on Python's path.
"""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "notebooks"))
from checks.verdict import Unsolved  # noqa: E402


def suite(checks):
    """The tests (right, wrong, unsolved) of these checks, for a test file to give names to.

    checks: (check, right answer, {words: wrong answer, whose verdict must contain them}), one an exercise.
    """
    def exercise(check):
        return check.__name__.removeprefix("check_")

    def test_right(check, right, wrongs):
        verdict = check(right)
        assert verdict.state == "right", verdict.words
        assert verdict.function is right, "another function than the answer, to go on with"
        assert len(wrongs) >= 3

    def test_wrong(check, words, wrong):
        verdict = check(wrong)
        assert verdict.state == "wrong" and words in verdict.words, verdict.words
        assert verdict.function is not wrong, "the wrong answer, to go on with"

    def test_unsolved(check):
        def skeleton(*arguments):
            raise Unsolved("write the equation")

        verdict = check(skeleton)
        assert verdict.state == "unsolved", verdict.words
        told = "not solved yet: this one is yours to write: write the equation."
        assert verdict.words == told, verdict.words

    names = [exercise(check) for check, _, _ in checks]
    mistakes = [pytest.param(check, words, wrong, id=f"{exercise(check)}: {words}")
                for check, _, wrongs in checks for words, wrong in wrongs.items()]
    return (pytest.mark.parametrize("check, right, wrongs", checks, ids=names)(test_right),
            pytest.mark.parametrize("check, words, wrong", mistakes)(test_wrong),
            pytest.mark.parametrize("check", [check for check, _, _ in checks], ids=names)(test_unsolved))
