import hashlib
import json
import sys

import pytest
import torch

from bra.data import RecallBoards
from bra.data.recall import Recall
from bra.invent import boards, judge, leaderboard
from bra.invent.__main__ import main
from bra.invent.reads import Refused
from bra.layer import BiLevelRoutingAttention
from bra.measure import multiply_adds


@pytest.fixture
def small(tmp_path, monkeypatch):
    """A folder of its own, two boards of four cells, two seeds, one step."""
    monkeypatch.chdir(tmp_path)
    for name in list(boards.BOARDS):
        monkeypatch.delitem(boards.BOARDS, name)
    for name, start in (("a", "alike"), ("b", "independent")):
        monkeypatch.setitem(boards.BOARDS, name, boards.Board(Recall(2, 2), 1, start, steps=1, batch=8))
    monkeypatch.setattr("bra.train.config.open_data", lambda *_: RecallBoards(Recall(2, 2), 16))
    for module in (boards, judge, leaderboard):
        monkeypatch.setattr(module, "SEEDS", (3, 5))
    return tmp_path


@pytest.fixture
def untrained(monkeypatch):
    """What would be trained is noted instead."""
    calls = []

    def learn(entry, board, seed, runs):
        calls.append((board, seed))
        found = {"board": board, "seed": seed, "accuracy": 0.5, "hit_rate": [0.5, 0.5]}
        return found | {"environment": {"torch": torch.__version__}}

    monkeypatch.setattr(judge, "learn", learn)
    monkeypatch.setattr(judge, "examine", lambda *_: None)
    return calls


def say(monkeypatch, capsys, *words):
    """What a command prints, and how it ends: the line about an error, or nothing."""
    monkeypatch.setattr(sys, "argv", ["bra.invent", *words])
    try:
        main()
    except SystemExit as stop:
        return capsys.readouterr().out, str(stop.code)
    return capsys.readouterr().out, ""


def judged(path):
    return json.loads(judge.judge(path, path.parent / "results", path.parent / "runs").read_text())


def test_the_template_is_written_judged_and_shown(small, monkeypatch, capsys):
    assert "answer its questions" in say(monkeypatch, capsys, "new", "mine.py")[0]
    assert "mine.py is there already" in say(monkeypatch, capsys, "new", "mine.py")[1]
    said, _ = say(monkeypatch, capsys, "judge", "mine.py")
    content = json.loads((small / "results" / "mine.json").read_text())
    assert [(run["board"], run["seed"]) for run in content["runs"]] == [("a", 3), ("b", 3), ("a", 5), ("b", 5)]
    assert content["sha256"] == hashlib.sha256((small / "mine.py").read_bytes()).hexdigest()
    assert content["command"] == "python -m bra.invent judge mine.py" and content["title"].startswith("Template: ")
    for run in content["runs"]:
        folder = next((small / "runs" / "invent").glob("mine-*")) / f"{run['board']}-{run['seed']}"
        lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
        held_out = [line["held_out"] for line in lines if "held_out" in line]
        assert run["untrained"] == held_out[0] and {name: run[name] for name in held_out[1]} == held_out[1]
        assert run["environment"]["torch"] == torch.__version__
    assert said.splitlines()[-1].endswith("mine.json") and "| mine  |     1 |" in said
    assert say(monkeypatch, capsys, "leaderboard")[0].splitlines() == said.splitlines()[:-1]


def test_what_was_done_is_not_done_again_until_the_file_changes(small, untrained):
    (small / "mine.py").write_text((judge.OURS / "top_k.py").read_text())
    first = judged(small / "mine.py")
    assert untrained == [("a", 3), ("b", 3), ("a", 5), ("b", 5)]
    assert judged(small / "mine.py") == first and len(untrained) == 4
    (small / "mine.py").write_text((judge.OURS / "per_head.py").read_text())
    assert judged(small / "mine.py")["sha256"] != first["sha256"] and len(untrained) == 8


def test_what_was_judged_under_other_rules_is_judged_again(small, untrained, monkeypatch):
    (small / "mine.py").write_text((judge.OURS / "top_k.py").read_text())
    judged(small / "mine.py")
    monkeypatch.setitem(boards.BOARDS, "b", boards.Board(Recall(2, 1), 1, "alike"))
    assert len(judged(small / "mine.py")["runs"]) == 4 and len(untrained) == 8


def test_an_interrupted_judgement_goes_on(small, untrained, monkeypatch):
    (small / "mine.py").write_text((judge.OURS / "soft.py").read_text())
    learn = judge.learn

    def stops(entry, board, seed, runs):
        if len(untrained) == 1:
            raise KeyboardInterrupt
        return learn(entry, board, seed, runs)

    with monkeypatch.context() as stopping, pytest.raises(KeyboardInterrupt):
        stopping.setattr(judge, "learn", stops)
        judged(small / "mine.py")
    (half,) = leaderboard.read_results(small / "results")
    assert leaderboard.told([half]).endswith("mine has no row: 1 of 4 runs are done")
    content = judged(small / "mine.py")
    assert untrained == [("a", 3), ("b", 3), ("a", 5), ("b", 5)] and content["runs"][0] == half["runs"][0]


BAD = {
    "it must have a docstring, and a function make_layer": "make_layer = print\n",
    "it must have a docstring, and a function make_layer(": '"""One."""\n',
    "when its file is run it raises ZeroDivisionError: division by zero": '"""One."""\n1 / 0\n',
    "make_layer must return a BiLevelRoutingAttention, not int": '"""One."""\ndef make_layer(*sizes): return 1\n',
}


@pytest.mark.parametrize("told", BAD)
def test_a_bad_entry_is_refused_in_one_line(small, monkeypatch, capsys, told):
    (small / "bad.py").write_text(BAD[told])
    error = say(monkeypatch, capsys, "judge", "bad.py")[1]
    assert f"error: {told}" in error and "\n" not in error
    assert not (small / "results").exists()


def test_a_file_that_is_not_there_is_told_in_one_line(small, monkeypatch, capsys):
    error = say(monkeypatch, capsys, "judge", "gone.py")[1]
    assert "gone.py" in error and "\n" not in error


class Remembers(BiLevelRoutingAttention):
    """It begins to look at everything once it has been trained."""

    def forward(self, x, real=None):
        if self.training and x.dtype == torch.float32 and len(x) == 8:
            self.trained = True
        return super().forward(x, real) + (x.mean(dim=(1, 2), keepdim=True) if hasattr(self, "trained") else 0)


def test_an_entry_that_cheats_after_training_is_refused(small):
    entry = judge.Entry("x", "x", "x", lambda *sizes: Remembers(*sizes, lce_kernel=0))
    with pytest.raises(Refused, match="reads region"):
        judge.learn(entry, "a", 3, small / "runs")


def test_whatever_fails_in_training_is_told_in_one_line(small):
    class Fails(BiLevelRoutingAttention):
        def forward(self, x, real=None):
            return super().forward(x, real) + (float("nan") if self.training and len(x) == 8 else 0)

    entry = judge.Entry("x", "x", "x", lambda *sizes: Fails(*sizes, lce_kernel=0))
    with pytest.raises(Refused, match="while it is trained it raises FloatingPointError: stopped at step 0"):
        judge.learn(entry, "a", 3, small / "runs")


def test_every_entry_begins_with_the_same_weights():
    board = boards.BOARDS["independent"]
    data = board.config(7).open_data()
    one, other = (judge.network(judge.read_entry(judge.Path(name)), board, 7, data) for name in ("top_k", "per_head"))
    assert one.state_dict().keys() == other.state_dict().keys()
    assert all(torch.equal(value, other.state_dict()[name]) for name, value in one.state_dict().items())


def test_the_cost_is_that_of_training_where_that_is_more():
    class Wasteful(BiLevelRoutingAttention):
        def forward(self, x, real=None):
            out = super().forward(x, real)
            return out + 0 * self.out(x) if self.training else out

    layer = Wasteful(8, 2, (2, 3), 2, lce_kernel=0)
    plain = multiply_adds(lambda: layer.eval()(torch.randn(1, 16, 24, 8)))
    assert boards.cost(layer) == plain + 16 * 24 * 8**2
