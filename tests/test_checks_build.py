# ruff: noqa: E501 - a table of mistakes reads better wide
"""The staged build: a right file passes every step, planted mistakes are named, and nothing a file holds is raised."""

import ast
import re
import sys
from dataclasses import replace
from pathlib import Path

import my_bra
import nbformat
import pytest
import torch
from repository import NOTEBOOKS

from bra import checks
from bra.biformer import NANO, TINY
from bra.checks.build import STAGES, WHOLE, build
from bra.checks.judge import judge
from bra.checks.whole import numbers, random_biformer

FILE = Path(my_bra.__file__)
SOURCE = FILE.read_text()
PARTS = {part.name: step for step, parts in STAGES.items() for part in parts}


def written(folder, source):
    """The file with this source."""
    (folder / "my_bra.py").write_text(source)
    return folder / "my_bra.py"


def only(*names):
    """What the right file imports, and of the rest only these functions."""
    return "\n".join(
        ast.get_source_segment(SOURCE, node)
        for node in ast.parse(SOURCE).body
        if isinstance(node, ast.Import | ast.ImportFrom) or getattr(node, "name", None) in names
    )


def told(found):
    """What a build says about each name."""
    return {row.name: row.verdict.text for row in found.rows}


@pytest.mark.parametrize("step", STAGES)
def test_the_complete_file_passes_every_step(step):
    found = build(step, FILE)
    assert found, found
    steps = list(STAGES)[: list(STAGES).index(step) + 1]
    assert [row.name for row in found.rows if row.name in PARTS] == [name for name in PARTS if PARTS[name] in steps]
    assert {row.name for row in found.rows} - {*PARTS} == {name for s in steps for name in WHOLE.get(s, ())}
    assert "All right" in repr(found) and repr(found).count("  right") == len(found.rows)


@pytest.mark.parametrize("step", [step for step in STAGES if STAGES[step]])
def test_every_step_alone_passes_with_only_its_functions(step, tmp_path):
    names = [part.name for part in STAGES[step]]
    found = build(step, written(tmp_path, only(*names)))
    assert not found or step == "partition"
    for row in found.rows:
        if row.name in names:
            assert row.verdict or row.verdict.text.startswith("Right by itself, but not with your "), row
        elif row.name in PARTS:
            assert row.verdict.text == "not there yet"
        else:
            assert row.verdict.text == "waits for the functions above"


MASK = "scores = scores.masked_fill(~(valid_keys | ~some), -torch.inf)"
WRONG = [  # name of the function or row, what is replaced, by what, what must be said
    ("partition_regions", 'rearrange(x, "b (i u) (j v) c -> b (i j) (u v) c", i=grid[0], j=grid[1])', "x.reshape(len(x), grid[0] * grid[1], -1, x.shape[3])", "horizontal strips"),
    ("partition_regions", "-> b (i j) (u v) c", "-> b (j i) (u v) c", "column by column. Region 1"),
    ("merge_regions", 'rearrange(regions, "b (i j) (u v) c -> b (i u) (j v) c", i=grid[0], u=size[0] // grid[0])', "regions.reshape(len(regions), *size, -1)", "whole regions one behind"),
    ("merge_regions", "b (i j) (u v) c -> b (i u)", "b (j i) (u v) c -> b (i u)", "as numbered column by column"),
    ("merge_regions", "b (i j) (u v) c -> b (i u)", "b (i j) (v u) c -> b (i u)", "tokens column by column"),
    ("merge_regions", "-> b (i u) (j v) c", "-> b (u i) (v j) c", "scatter the tokens"),
    ("merge_regions", "i=grid[0], u=size[0] // grid[0]", "i=grid[1], u=size[0] // grid[1]", "Rows and columns of the grid"),
    ("merge_regions", "u=size[0]", "u=size[1]", "Height and width are swapped"),
    ("pad_to_grid", "F.pad(x, (0, 0, 0, beside, 0, below))", "F.pad(x, (0, 0, 0, below, 0, beside))", "counts from the last axis"),
    ("pad_to_grid", "F.pad(x, (0, 0, 0, beside, 0, below))", "F.pad(x, (0, 0, beside, 0, below, 0))", "above and on the left"),
    ("pad_to_grid", "-h % grid[0], -w % grid[1]", "h % grid[0], w % grid[1]", "what is left over"),
    ("pad_to_grid", "-h % grid[0], -w % grid[1]", "-h % grid[1], -w % grid[0]", "grid[0] must divide the height"),
    ("pad_to_grid", "-h % grid[0], -w % grid[1]", "grid[0] - h % grid[0], grid[1] - w % grid[1]", "fits already"),
    ("pad_to_grid", "F.pad(x, (0, 0, 0, beside, 0, below)), valid_map", "x, valid_map", "nothing is padded"),
    ("pad_to_grid", "below)), valid_map", "below)), ~valid_map", "upside down"),
    ("pad_to_grid", "below)), valid_map", "below)), valid_map | True", "every token is real"),
    ("pad_to_grid", "F.pad(torch.ones(h, w, dtype=torch.bool), (0, beside, 0, below))", "torch.ones(h, w) > 0", "size of the map before padding"),
    ("pad_to_grid", "below)), valid_map", "below)), (F.pad(x, (0, 0, 0, beside, 0, below)) != 0).any(dim=3)[0]", "A real token may be 0"),
    ("pad_to_grid", "below)), valid_map", "below))", "must return two tensors"),
    ("pad_to_grid", "dtype=torch.bool", "dtype=torch.float32", "must be bool, but is torch.float32"),
    ("region_means", "return regions.mean(dim=2)", "return regions.mean(dim=1)", "average over the regions"),
    ("region_means", "return regions.mean(dim=2)", "return regions.sum(dim=2)", "Without a mask you return the sum"),
    ("region_means", "return regions.mean(dim=2)", "return regions.mean(dim=2, keepdim=True)", "axis of the tokens must be gone"),
    ("region_means", "return regions.mean(dim=2)", "return regions.mean(dim=-1)", "average over the channels"),
    ("region_means", "valid.sum(dim=1, keepdim=True).clamp(min=1)", "valid.shape[1]", "divide by all tokens"),
    ("region_means", ".clamp(min=1)", "", "0 / 0"),
    ("region_means", "return total / valid.sum(dim=1, keepdim=True).clamp(min=1)", "return regions.mean(dim=2)", "Padded tokens count"),
    ("region_means", "valid=None", "valid", "missing 1 required positional argument"),
    ("region_affinity", "q_means @ k_means.transpose(1, 2)", "k_means @ q_means.transpose(1, 2)", "transposed"),
    ("region_affinity", "q_means @ k_means.transpose(1, 2)", "q_means @ q_means.transpose(1, 2)", "queries with queries"),
    ("region_affinity", "q_means @ k_means.transpose(1, 2)", "k_means @ k_means.transpose(1, 2)", "keys with keys"),
    ("region_affinity", "k_means.transpose(1, 2)", "k_means.transpose(1, 2) / q_means.shape[2] ** 0.5", "changes no order"),
    ("region_affinity", "q_means @ k_means.transpose(1, 2)", "(q_means @ k_means.transpose(1, 2)).softmax(dim=2)", "softmax is too much"),
    ("region_affinity", "q_means @ k_means.transpose(1, 2)", "q_means.transpose(1, 2) @ k_means", "compare channels"),
    ("region_affinity", "q_means @ k_means.transpose(1, 2)", "q_means @ k_means[0].T", "keys of the first"),
    ("top_k_regions", "affinity.topk(k, dim=-1)", "affinity.topk(k, dim=-1, largest=False)", "smallest"),
    ("top_k_regions", ".topk(k, dim=-1).indices", ".topk(k, dim=1).indices.transpose(1, 2)", "sort columns"),
    ("top_k_regions", ".topk(k, dim=-1).indices", ".topk(k, dim=-1).values", "return affinities"),
    ("top_k_regions", ".topk(k, dim=-1).indices", ".topk(k, dim=-1)", "one tensor, not 2"),
    ("gather_regions", "regions[image, index]", "regions[0, index]", "tokens of the first"),
    ("gather_regions", "regions[image, index].flatten(2, 3)", 'rearrange(regions[image, index], "b r k t c -> b r (t k) c")', "It must be (k t)"),
    ("gather_regions", ".flatten(2, 3)", "", "share one axis"),
    ("gather_regions", "regions[image, index].flatten(2, 3)", "(lambda b, r, t, c, k: regions[:, :, None].expand(b, r, r, t, c).gather(2, index[..., None, None].expand(b, r, k, t, c)).flatten(2, 3))(*regions.shape, index.shape[2])", "axis 1, not 2"),
    ("gather_regions", "regions[image, index].flatten(2, 3)", "regions[:, None, : index.shape[2]].flatten(2, 3).expand(-1, regions.shape[1], -1, -1)", "the index is not used"),
    ("gather_regions", "regions[image, index]", "regions[image, index.sort().values]", "sort the routed"),
    ("gather_regions", "regions[image, index]", "regions[image, index[:1].expand_as(index)]", "routes of the first"),
    ("gather_regions", ".flatten(2, 3)", ".sum(dim=2)", "one behind the other"),
    ("attend", "scale * q @", "q @", "The scale is missing: multiply the scores by it"),
    ("attend", "(q.shape[-1] // heads) ** -0.5 if", "1.0 if", "where scale is None"),
    ("attend", "(q.shape[-1] // heads) ** -0.5 if scale is None else scale", "(q.shape[-1] // heads) ** -0.5", "Use the scale that is given"),
    ("attend", "(q.shape[-1] // heads) ** -0.5 if", "q.shape[-1] ** -0.5 if", "you take all channels"),
    ("attend", "scores.softmax(dim=-1)", "scores.softmax(dim=-2)", "over the queries"),
    ("attend", "scores.softmax(dim=-1) @", "torch.cat([s.softmax(dim=-1) / index.shape[2] for s in scores.chunk(index.shape[2], dim=-1)], dim=-1) @", "softmax of its own"),
    ("attend", '"b r n (m d) -> b r m n d", m=heads', '"b r n (m d) -> b r m n d", m=1', "one head"),
    ("attend", '"b r n (m d) -> b r m n d", m=heads', '"b r n (d m) -> b r m n d", m=heads', "another order"),
    ("attend", 'rearrange(out, "b r m n d -> b r n (m d)")', "out.reshape(*out.shape[:2], out.shape[3], -1)", "still stand before the tokens"),
    ("attend", "gather_regions(k, index), gather_regions(v, index)", "gather_regions(v, index), gather_regions(k, index)", "Keys and values are swapped"),
    ("attend", "gather_regions(k, index), gather_regions(v, index)", "k.repeat(1, 1, index.shape[2], 1), v.repeat(1, 1, index.shape[2], 1)", "attends to itself alone"),
    ("attend", MASK, "pass", "mask is not used"),
    ("attend", MASK, MASK.replace("(valid_keys | ~some)", "valid_keys"), "0 / 0"),
    ("attend", MASK, MASK.replace("-torch.inf", "0.0"), "e^0 = 1"),
    ("attend", MASK, MASK.replace("~(valid_keys | ~some)", "valid_keys"), "upside down"),
    ("attend", " * some", "", "the mean of what is not real"),
    ("LocalContextEnhancement", "padding=kernel // 2, ", "padding=2, ", "Your padding is 2"),
    ("LocalContextEnhancement", "padding=kernel // 2, ", "", "Your map shrinks"),
    ("LocalContextEnhancement", ", groups=dim", "", "conv.weight has the shape (3, 3, 5, 5), but must have (3, 1, 5, 5)"),
    ("LocalContextEnhancement", "(0, 3, 1, 2)).permute(0, 2, 3, 1)", "(0, 3, 2, 1)).permute(0, 3, 2, 1)", "Rows and columns of your filter"),
    ("LocalContextEnhancement", "2)).permute(0, 2, 3, 1)", "2))", "channels first"),
    ("LocalContextEnhancement", "self.conv", "self.depthwise", "must hold conv.weight, of shape (3, 1, 5, 5); yours has depthwise"),
    ("LocalContextEnhancement", "groups=dim", "groups=dim, bias=False", "must hold conv.bias"),
    ("LocalContextEnhancement", "self.conv(v.permute(0, 3, 1, 2))", "self.conv(v)", "raised RuntimeError in line "),
    ("BiLevelRoutingAttention", "return self.out(out + nearby)", "return self.out(out) + nearby", "LCE after `out`"),
    ("BiLevelRoutingAttention", "q, k, v = self.qkv", "k, q, v = self.qkv", "Queries and keys are swapped"),
    ("BiLevelRoutingAttention", "k, dim**-0.5", "k, None", "scale by the channels of a head"),
    ("BiLevelRoutingAttention", "affinity = affinity.masked_fill(~valid.any(dim=1), -torch.inf)", "pass", "nothing but padding"),
    ("BiLevelRoutingAttention", "region_means(q, valid), region_means(k, valid)", "region_means(q), region_means(k)", "enters your means"),
    ("BiLevelRoutingAttention", "self.scale, valid)", "self.scale)", "share of your softmax"),
    ("BiLevelRoutingAttention", "merge_regions(v, self.grid, size)[:, :h, :w])", "merge_regions(v, self.grid, size))[:, :h, :w]", "filters the padding"),
    ("BiLevelRoutingAttention", "self.scale, valid), self.grid, size)[:, :h, :w]", "self.scale, valid), self.grid, size)", "raised"),
    ("BiLevelRoutingAttention", "self.qkv = nn.Linear(dim, 3 * dim)", "self.qkv = nn.Linear(dim, 3 * dim, bias=False)", "must hold qkv.bias"),
    ("BiLevelRoutingAttention", "self.out = nn", "self.extra = self.out = nn", "holds extra."),
    ("gradients", "q, k, v, index, self.heads", "q, k, v.detach(), index, self.heads", "is not bra's, though the outputs agree"),
    ("gradients", "attend(q, k, v, index", "attend(q.detach(), k, v, index", "No gradient reaches the queries"),
    ("gradients", "return self.out(out + nearby)", "return self.out(out + nearby).detach()", "no gradient: it is detached"),
    ("gradients", "nearby = self.lce(", "with torch.no_grad():\n            nearby = self.lce(", "No gradient reaches lce.conv.weight"),
    ("any size", "valid = partition_regions(valid_map", "valid = self.valid = getattr(self, 'valid', None) if hasattr(self, 'valid') else partition_regions(valid_map", "keeps something from the first"),
    ("any size", "size = padded", "assert h > 1, 'too small'\n        size = padded", "raised AssertionError in line "),
    ("any size", "self.grid)[0, :, :, 0]  # r t", "self.grid).squeeze()", "raised IndexError in line "),
    ("k = R", "self.grid, self.k, self.scale = heads, grid, k,", "self.grid, self.k, self.scale = heads, grid, min(k, 7),", "entries are wrong"),
    ("in BiFormer nano", "h, w = x.shape[1:3]\n        padded", "h, w = x.shape[1:3]\n        x = x if self.training else 0 * x\n        padded", "Routed block 1 of 2"),
    ("in BiFormer nano", "h, w = x.shape[1:3]\n        padded", "h, w = x.shape[1:3]\n        self.calls = getattr(self, 'calls', 0) + 1\n        x = x if self.training or self.calls < 2 else 0 * x\n        padded", "The logits differ"),
    ("in BiFormer tiny", "grid, k, dim**-0.5", "grid, min(k, 12), dim**-0.5", "Routed block 5 of 12 gives another map: dim 256, heads 8, grid (7, 7), k 16"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "old", "new", "says"), WRONG, ids=[f"{w[0]}: {w[3]}" for w in WRONG])
def test_a_planted_mistake_is_named_and_no_other_function_is_wrong(name, old, new, says, tmp_path):
    start = SOURCE.find(f"def {name}(") if SOURCE.find(f"def {name}(") >= 0 else SOURCE.find(f"class {name}(")
    start = start if name in PARTS else SOURCE.find("class BiLevelRoutingAttention")
    following = SOURCE.find("\n\n\n", start)
    body = SOURCE[start:following] if following >= 0 else SOURCE[start:]
    assert old in body
    found = build("biformer", written(tmp_path, SOURCE[:start] + body.replace(old, new) + SOURCE[start + len(body) :]))
    texts = told(found)
    assert not found and says in texts[name], texts[name]
    others = {other: text for other, text in texts.items() if other != name and other in PARTS}
    blamed = {other: text for other, text in others.items() if text.startswith("Right by itself")}
    assert all(text == f"Right by itself, but not with your {name}." for text in blamed.values()), blamed
    assert all(row.verdict for row in found.rows if row.name in others.keys() - blamed.keys())


def test_each_step_has_at_least_two_planted_mistakes_and_every_row_one():
    steps = PARTS | {name: step for step, checks_ in WHOLE.items() for name in checks_}
    assert {name for name, *_ in WRONG} == steps.keys()
    for step in STAGES:
        assert sum(steps[name] == step for name, *_ in WRONG) >= 2, step


def test_an_early_function_broken_later_is_seen_and_does_not_make_the_later_ones_wrong(tmp_path):
    broken = SOURCE.replace("regions[image, index]", "regions[0, index]")
    found = build("layer", written(tmp_path, broken))
    assert "tokens of the first" in told(found)["gather_regions"]
    assert told(found)["attend"] == "Right by itself, but not with your gather_regions."
    assert told(found)["BiLevelRoutingAttention"] == "Right by itself, but not with your gather_regions."
    assert told(found)["gradients"] == "waits for the functions above"


def test_two_mistakes_that_cancel_are_both_told(tmp_path):
    swapped = SOURCE.replace("-> b (i j) (u v) c", "-> b (j i) (u v) c").replace(
        "b (i j) (u v) c -> b (i u)", "b (j i) (u v) c -> b (i u)"
    )
    found = told(build("partition", written(tmp_path, swapped)))
    assert "column by column" in found["partition_regions"] and "column by column" in found["merge_regions"]


@pytest.mark.parametrize(("source", "says"), [
    ("import torch\ndef partition_regions(x, grid:\n    return x\n", "Line 2"),
    ("x = 1\n  y = 2\n", "Line 2: unexpected indent"),
    ("import torch\n\n1 / 0\n", "ZeroDivisionError in line 3: division by zero"),
    ("from bra import nothing_such\n", "ImportError in line 1"),
    ("import sys\nsys.exit(3)\n", "SystemExit in line 2: 3"),
    ("x = '\0'", "my_bra.py"),
])  # fmt: skip
def test_a_file_that_cannot_be_read_is_told_in_one_line(source, says, tmp_path):
    found = build("gather", written(tmp_path, source))
    assert not found and says in repr(found), found
    assert len(repr(found).splitlines()) == 1 and str(tmp_path) not in repr(found)


def test_a_file_in_another_encoding_is_told(tmp_path):
    (tmp_path / "my_bra.py").write_bytes(b"x = '\xe9'\n")
    assert "my_bra.py is no Python yet" in repr(build("gather", tmp_path / "my_bra.py"))


@pytest.mark.parametrize(("line", "says"), [
    ("def gather_regions(regions, index): return regions.nothing", "raised AttributeError in line "),
    ("def gather_regions(regions, index): ...", "returns nothing yet"),
    ("def gather_regions(regions, index): return [1]", "not a list"),
    ("def gather_regions(regions): return regions", "raised TypeError"),
    ("gather_regions = 3", "must be a function, but its type is int"),
    ("class gather_regions: ...", "must be a function, but its type is class"),
    ("gather_regions = None", "not there yet"),
    ("from bra import gather_regions", "bra's own"),
    ("import sys\ndef gather_regions(regions, index): sys.exit()", "raised SystemExit"),
    ("def gather_regions(regions, index): return gather_regions(regions, index)", "raised RecursionError"),
    ("def gather_regions(regions, index): return regions.zero_()", "changes its input"),
    ("def LocalContextEnhancement(dim, kernel=5): return torch.nn.Identity()", "must be a class, and an nn.Module"),
    ("class LocalContextEnhancement: ...", "must be a class, and an nn.Module"),
    ("class BiLevelRoutingAttention(nn.Module): ...", "raised TypeError"),
    ("class BiLevelRoutingAttention(nn.Module):\n    def __init__(self, *given): super().__init__()", "must hold qkv.weight, of shape (12, 4); yours has nothing else"),
])  # fmt: skip
def test_what_is_no_answer_is_told(line, says, tmp_path):
    found = build("layer", written(tmp_path, f"{SOURCE}\n{line}\n"))
    name = re.search("gather_regions|LocalContextEnhancement|BiLevelRoutingAttention", line)[0]
    assert says in told(found)[name], told(found)[name]


def test_without_a_file_the_reader_is_told_where_to_make_one_and_what_to_put_into_it(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for step, parts in STAGES.items():
        words = repr(checks.build(step))
        assert words.startswith("There is no my_bra.py yet.") and str(tmp_path) not in words and not checks.build(step)
        assert all(part.stub.strip() in words for part in parts)
        if parts:
            begun = words[words.index("import torch") :]
            texts = told(build(step, written(tmp_path / "..", begun)))
            assert all(re.search("returns nothing yet|must hold", texts[part.name]) for part in parts), texts


@pytest.mark.parametrize("step", STAGES)
def test_each_notebook_asks_for_its_part_before_the_exercises_and_shows_what_is_said_without_a_file(
    step, tmp_path, monkeypatch
):
    (path,) = [path for path in NOTEBOOKS if path.stem[3:] == step]
    cells = nbformat.read(path, 4).cells
    at = next(i for i, cell in enumerate(cells) if cell.source.startswith("## Your own file"))
    asked, call, following = cells[at : at + 3]
    assert call.source == f'checks.build("{step}")' and following.source.startswith("## Exercises")
    assert all(f"`{part.name}`" in asked.source for part in STAGES[step])
    monkeypatch.chdir(tmp_path)
    assert call.outputs[0].data["text/plain"] == repr(build(step)), "move notebooks/my_bra.py away, and make notebooks"


def test_a_step_that_is_not_begun_shows_its_contract(tmp_path):
    early = only("partition_regions", "merge_regions", "pad_to_grid")
    found = build("adjacency", written(tmp_path, f"{early}\n{only('region_means')}"))
    assert told(found)["region_affinity"] == "not there yet" and "To add now:" in repr(found)
    assert "def region_affinity(q_means, k_means):" in repr(found) and "def region_means" not in repr(found)


def test_the_file_is_read_anew_each_time_and_remembered_nowhere(tmp_path):
    path = written(tmp_path, SOURCE.replace("dim=-1).indices", "dim=-1).values "))  # the same length
    assert not build("topk", path)
    before = {*sys.modules}
    assert build("topk", written(tmp_path, SOURCE))
    assert {*sys.modules} == before and [p.name for p in tmp_path.iterdir()] == ["my_bra.py"]


def test_a_build_leaves_the_random_numbers_alone(tmp_path):
    path, before = written(tmp_path, f"{SOURCE}\ntorch.manual_seed(3)\n"), torch.get_rng_state()
    assert build("biformer", path)
    assert torch.equal(torch.get_rng_state(), before)


def test_an_unknown_step_is_refused():
    with pytest.raises(ValueError, match=r"up_to must be one of partition, .*, but is 'patterns'"):
        build("patterns")


def test_long_words_are_wrapped_below_their_column(tmp_path):
    lines = repr(
        build("partition", written(tmp_path, SOURCE.replace("0, beside, 0, below))", "0, below, 0, beside))")))
    )
    assert all(len(line) <= 110 for line in lines.splitlines()), lines


@pytest.mark.parametrize(("config", "pixels"), [(NANO, 32), (replace(TINY, num_classes=10), 64)])
def test_no_route_of_the_random_models_hangs_on_rounding(config, pixels):
    with torch.no_grad():
        model = random_biformer(config)
        for index, affinity in model.routes(numbers(1, 3, pixels, pixels)):
            real = affinity[0, 0].isfinite()  # what regions of padding read changes no output
            best = affinity[:, real][:, :, real].sort(dim=-1, descending=True).values
            k = index.shape[2]
            if k < best.shape[2]:
                gap = (best[..., k - 1] - best[..., k]).min() / best.abs().max()
                assert gap > 1e-4


@pytest.mark.parametrize("part", [part for parts in STAGES.values() for part in parts], ids=lambda part: part.name)
def test_every_mistake_that_is_known_is_told_as_itself(part, monkeypatch):
    module, seen = sys.modules[part.check.__module__], []
    monkeypatch.setattr(module, "judge", lambda *given: seen.append(given) or judge(*given))
    assert part.check(part.ours)
    for _, inputs, right, mistakes, *_ in seen:
        assert len({mistake.says for mistake in mistakes}) >= 4
        for mistake in mistakes:
            verdict = judge(mistake.answer, inputs, right, mistakes, "")
            assert verdict.text == mistake.says or (verdict and "Of two equal affinities" in mistake.says)
