"""The exam of the guide: points add up, every answer is computed, and another seed has right answers, too."""

import re
from fractions import Fraction

import exam
import numpy as np
import oracles
import pytest
from repository import ROOT
from test_form_guide import CELLS, blocks, numbers, said

PAGES = {name: (ROOT / "book" / f"{name}.md").read_text() for name in ("exam", "exam_solutions")}

QUESTIONS = re.findall(r"^\*\*(\d+)\.\*\* \((\d) points, (\d+) minutes\) (.*)", PAGES["exam"], re.M)
SOLUTIONS = dict(re.findall(r"^\*\*(\d+)\.\*\* (.*?)(?=^\*\*\d+\.\*\*|^## |\Z)", PAGES["exam_solutions"], re.M | re.S))


def test_points_and_minutes_of_the_exam_add_up():
    assert [int(number) for number, *_ in QUESTIONS] == list(range(1, len(QUESTIONS) + 1))
    points, minutes = (sum(int(question[n]) for question in QUESTIONS) for n in (1, 2))
    assert f"{len(QUESTIONS)} questions, {points} points, {minutes} minutes" in PAGES["exam"]
    easy = PAGES["exam"].partition("## Level 3")[0]
    found = [(int(p), int(m)) for n, p, m, _ in QUESTIONS if f"**{n}.**" in easy]
    told = f"{sum(p for p, _ in found)} points and {sum(m for _, m in found)} minutes"
    assert f"a test of {told}" in PAGES["exam"]


def test_every_question_has_a_solution_whose_numbers_are_computed():
    assert [*SOLUTIONS] == [number for number, *_ in QUESTIONS]
    assert PAGES["exam"].count("exam_solutions.md") == 1
    assert PAGES["exam"].rstrip().endswith("(exam_solutions.md).")
    for number, text in SOLUTIONS.items():
        block, asked = "\n".join(blocks(text)), PAGES["exam"].partition(f"**{number}.**")[2].partition("\n\n**")[0]
        answer = re.sub(
            r"```python.*?```|\[\d\d\]\(.*?\)|\]\(.*?\)|`[^`]*`|^.*?points? each", "", text, flags=re.S | re.M
        )
        elsewhere = said(CELLS[SAID[number]]) if number in SAID else ""
        unknown = numbers(answer) - numbers(block.replace("_", "")) - numbers(f"{asked} {elsewhere}")
        assert "assert " in block and not unknown, f"question {number}: {unknown} is nowhere computed"


SAID = {"4": "02_adjacency", "14": "08_biformer"}  # the notebooks whose numbers these solutions repeat


def test_the_page_has_the_questions_of_seed_0_and_their_answers():
    for number, each in enumerate(exam.questions(0), start=5):
        assert f"minutes) {each.question}" in PAGES["exam"]
        assert each.answer in SOLUTIONS[str(number)]


def ints(text):
    """The rows of whole numbers in a text: "1, 2; 3, 4"."""
    return [[int(number) for number in re.findall(r"-?\d+", row)] for row in text.split(";")]


@pytest.mark.parametrize("seed", range(12))
def test_variants_are_solvable_by_hand_and_answered_right(seed):
    route, gather, softmax, lce, backward = exam.questions(seed)
    block = [[int(n) for n in line.split()] for line in route.question.splitlines() if line.startswith("    ")]
    x = np.array(block, dtype=float).reshape(2, 4, 4).transpose(1, 2, 0)[None]
    regions = oracles.partition(x, (2, 2))
    q, k = oracles.means(regions), oracles.means(np.stack([regions.sum(-1), regions[..., 1]], axis=-1))
    affinity = oracles.affinity(q, k)
    index = oracles.top_k(affinity, 2)
    told = re.match(r"Mean queries (.*); mean keys (.*); affinity (.*); index (.*); themselves: (.*)\.$", route.answer)
    assert [ints(told[n]) for n in (1, 2, 3, 4)] == [each[0].tolist() for each in (q, k, affinity, index)]
    best = -np.sort(-affinity[0], axis=1)
    assert (best[:, :2] > best[:, 1:3]).all(), "a tie has no right answer"
    assert told[5] == (", ".join(str(i) for i in range(4) if i in index[0, i]) or "none")

    region = int(re.search(r"which tokens reach region (\d)", gather.question)[1])
    addresses = oracles.partition((10 * np.arange(4.0)[:, None] + np.arange(4))[None, :, :, None], (2, 2))
    tokens, rows = re.match(r"Tokens (.*); rows (.*)\.", gather.answer).groups()
    assert ints(tokens)[0] == oracles.gather(addresses, index)[0, region, :, 0].tolist()
    assert ints(rows)[0] == [8 + j for j in index[0, region].tolist()]

    scores, values = re.search(r"scores are (.*); the values are (.*?)\. Give", softmax.question).groups()
    powers = [int(term.split()[0]) for term in scores.split(", ")]
    weights, one, other = re.match(r"Weights (.*?); output (\S+); masked (\S+)\.$", softmax.answer).groups()
    whole, value = [2.0**p for p in powers], ints(values)[0]
    mixed = [sum(w * v for w, v in zip(whole[:n], value[:n], strict=True)) / sum(whole[:n]) for n in (4, 3)]
    assert [float(Fraction(each)) for each in weights.split(", ")] == pytest.approx([w / sum(whole) for w in whole])
    assert [float(Fraction(one)), float(Fraction(other))] == pytest.approx(mixed)

    place = [int(n) for n in re.search(r"and at row (\d), column (\d)\?", lce.question).groups()]
    filtered = oracles.depthwise(x[..., :1], np.array([[[[0.0, 1, 0], [1, 2, 0], [0, 0, 0]]]]), np.ones(1))
    assert ints(lce.answer.partition(";")[0].replace(" and", ","))[0] == [filtered[0, 0, 0, 0], filtered[0, *place, 0]]
    assert ("above" in lce.answer, "left" in lce.answer) == (place[0] == 2, place[1] == 2)

    readers = [sum(j in row for row in index[0].tolist()) for j in range(4)]
    assert ints(backward.answer)[0] == readers and readers.count(0) == 1
