"""The pages of results: tables, figures and numbers are those of book/results, and the sentences are true of them."""

import json
import re
import shutil
import statistics

import pytest
from reporting import figures, phrases, tables
from reporting.reading import RESULTS, read
from repository import ROOT
from sphinx.cmd.build import build_main

PAGES = {path.name: path.read_text() for path in sorted((ROOT / "book").glob("*.md"))}
USED = {  # what the pages show, by kind
    "results": [name for text in PAGES.values() for name in re.findall(r"^```\{results\} (.*)$", text, re.M)],
    "figures": [name for text in PAGES.values() for name in re.findall(r"^```\{results-figure\} (.*)$", text, re.M)],
    "phrases": [name for text in PAGES.values() for name in re.findall(r"\{result\}`(.*?)`", text, re.S)],
}


def runs(name, label):
    """The runs of one setting, straight from the file."""
    return [run for run in json.loads((RESULTS / f"{name}.json").read_text())["runs"] if run.get("label") == label]


def invented(entry):
    """The runs of one of our entries, straight from its file."""
    return json.loads((RESULTS / "invent" / f"{entry}.json").read_text())["runs"]


def row(file, rows="rows", /, **wanted):
    """The one row of a file that has what is wanted."""
    rows = json.loads((RESULTS / f"{file}.json").read_text())[rows]
    (found,) = (row for row in rows if all(row.get(key) == value for key, value in wanted.items()))
    return found


def model(way, what):
    return row("bench_all_cpu", part="model", name="T", size=1024, mode="train", way=way)[what]


def layer(way, mode, what, side=256):
    return row("bench_all_cpu", part="layer", side=side, c=64, mode=mode, way=way)[what]


def predicted(way, mode):
    return row("kernels_predicted", gpu="A100", size=512, stage=2, mode=mode, way=way)["seconds"]


def untrained(start, when, block):
    content = json.loads((RESULTS / "recall_untrained.json").read_text())
    return [run[when][block] for run in content["runs"] if run["start"] == start]


def cut(name):
    return [run[name] for run in json.loads((RESULTS / "recall_cuts.json").read_text())["runs"]]


CELLS = {  # one number of every table, computed another way
    "recall_routers > top-2 > mean hit rate": lambda: (
        f"{statistics.fmean(max(run['held_out']['hit_rate']) for run in runs('recall_routers', 'top-2')):.2f}"
    ),
    "recall_routers > crossed > worst seed": lambda: (
        f"{100 * min(run['held_out']['accuracy'] for run in runs('recall_routers', 'crossed')):.1f}%"
    ),
    "recall_routers > top-4, independent > steps to 95%": lambda: "{} to {}".format(
        *(f(r["steps_to_95"] for r in runs("recall_routers", "top-4, independent")) for f in (min, max))
    ),
    "recall_untrained > independent, settled > most, block 1": lambda: (
        f"{max(untrained('independent', 'settled', 1)):.2f}"
    ),
    "recall_cuts > without target to square > mean": lambda: f"{statistics.fmean(cut('without target to square')):.0%}",
    "recall_longer > dilated, 2000 steps > seed 2": lambda: (
        f"{runs('recall_longer', 'dilated, 2000 steps')[2]['held_out']['accuracy']:.1%}"
    ),
    "recall_leaks > crossed, stem > seed 1": lambda: (
        f"{runs('recall_leaks', 'crossed, stem')[1]['held_out']['accuracy']:.1%}"
    ),
    "recall_boards > all, noise 1 > seed 2": lambda: (
        f"{runs('recall_boards', 'all, noise 1')[2]['held_out']['accuracy']:.1%}"
    ),
    "fashion_mnist > local > mean": lambda: (
        f"{statistics.fmean(run['held_out']['accuracy'] for run in runs('fashion_mnist', 'local')):.1%}"
    ),
    "dense_recall > random > right cell": lambda: (
        f"{statistics.fmean(run['held_out']['right_cell'] for run in runs('dense_recall', 'random')):.2f}"
    ),
    "dense_recall_boxes > top-4 > worst seed": lambda: (
        f"{min(run['held_out']['ap'] for run in runs('dense_recall_boxes', 'top-4')):.2f}"
    ),
    "invent > soft > independent": lambda: (
        f"{statistics.fmean(run['accuracy'] for run in invented('soft') if run['board'] == 'independent'):.1%}"
    ),
    "invent > top_k > hit rate": lambda: f"{statistics.fmean(max(r['hit_rate']) for r in invented('top_k')):.2f}",
    "invent soft independent": lambda: "{:.1f} to {:.1f}".format(
        *(100 * f(run["accuracy"] for run in invented("soft") if run["board"] == "independent") for f in (min, max))
    ),
    "invent budget": lambda: f"{json.loads((RESULTS / 'invent' / 'top_k.json').read_text())['rules']['budget']}",
    "nuclei > convolution > seed 1": lambda: f"{100 * runs('nuclei', 'convolution')[1]['held_out']['iou']:.1f}",
    "bench_all_cpu models > T, 1, 1024, 16 x 16, train > faster": lambda: (
        f"{model('official', 'seconds') / model('ours', 'seconds'):.1f}"
    ),
    "bench_all_cpu models > T, 1, 1024, 16 x 16, train > smaller": lambda: (
        f"{model('official', 'bytes') / model('ours', 'bytes'):.1f}"
    ),
    "bench_all_cpu others > T, 1, 1024, train > ours, compiled": lambda: f"{model('compiled', 'seconds'):.2f}",
    "bench_all_cpu layers train > 1024, 1, 256 x 256, 1, 1 > ms: dense": lambda: (
        f"{1000 * layer('dense', 'train', 'seconds'):.0f}"
    ),
    "bench_all_cpu layers inference > 1024, 1, 256 x 256, 1, 1 > MiB: ours": lambda: (
        f"{layer('ours', 'inference', 'bytes') / 1024**2:.0f}"
    ),
    "bench_all_cpu attention > 1, 256, 16, 128, 4 > ms: expanded": lambda: (
        f"{1000 * row('bench_all_cpu', part='core', b=1, t=16, way='expanded')['seconds']:.0f}"
    ),
    "dense_cpu > detector, 512, train > s: windows": lambda: (
        f"{row('dense_cpu', host='detector', height=512, width=512, mode='train', attention='windows')['seconds']:.1f}"
    ),
    "bench_peers_cpu > Swin-T, timm > MiB: train": lambda: (
        f"{row('bench_peers_cpu', way='timm Swin-T', mode='train')['bytes'] / 1024**2:.0f}"
    ),
    "bench_profile_cpu > attention > BiFormer-S, ours": lambda: (
        f"{row('bench_profile_cpu', way='ours', group='attention', threads=2)['seconds']:.2f}"
    ),
    "kernels_predicted train > A100, 512, 2, 16 > fused": lambda: f"**{1e6 * predicted('fused', 'train'):.0f}**",
    "kernels_predicted inference > A100, 512, 2, 16 > gathered": lambda: (
        f"{1e6 * predicted('gathered', 'inference'):.0f}"
    ),
    "classroom > 07_layer > memory, MiB": lambda: (
        f"{row('classroom', 'notebooks', notebook='07_layer')['bytes'] / 1024**2:.0f}"
    ),
    "bench_all_cpu dense train": lambda: "{:.0f}, {:.0f} and {:.0f}".format(
        *(layer("dense", "train", "seconds", s) / layer("ours", "train", "seconds", s) for s in (56, 128, 256))
    ),
    "recall_routers best blind": lambda: (
        f"{statistics.fmean(run['held_out']['accuracy'] for run in runs('recall_routers', 'crossed')):.0%}"
    ),
    "bench_peers_cpu swin train memory": lambda: "{:.2f}".format(
        row("bench_peers_cpu", way="timm Swin-T", mode="train")["bytes"]
        / row("bench_peers_cpu", way="ours", mode="train")["bytes"]
    ),
}


@pytest.mark.parametrize("name", CELLS)
def test_a_number_of_the_book_is_that_of_the_file(name):
    assert phrases.phrase(name) == CELLS[name]()


def test_every_table_is_compared_and_shown_and_every_name_exists():
    assert {name.split(" > ")[0] for name in CELLS if ">" in name} == tables.TABLES.keys()
    assert sorted(USED["results"]) == sorted(tables.TABLES), "each table stands on one page"
    assert sorted(USED["figures"]) == sorted(figures.FIGURES)
    told = [" ".join(name.split()) for name in USED["phrases"]]
    assert {name for name in told if ">" not in name} == phrases.PHRASES.keys(), "a phrase that no page tells can go"
    assert all(phrases.phrase(name) for name in told)


def test_every_row_of_a_table_is_as_long_as_its_head():
    for name in tables.TABLES:
        table = tables.table(name)
        assert table.rows and all(len(cells) == len(table.columns) for cells in table.rows), name
        keys = [tuple(cells[: table.keys]) for cells in table.rows]
        assert len(set(keys)) == len(keys), f"{name}: two rows bear one name"


@pytest.mark.parametrize("name", figures.FIGURES)
def test_figures_tell_their_numbers_and_can_be_read_on_a_phone(name):
    picture = figures.figure(name)
    assert len(re.findall(r"\d\.\d", picture.alt)) >= 5
    assert picture.figure.get_figwidth() <= 5.0  # inches, 480 pixels of a browser; a phone shows 358
    picture.figure.draw_without_rendering()
    shown = [text for text in picture.figure.findobj(lambda part: hasattr(part, "get_fontsize")) if text.get_text()]
    assert min(text.get_fontsize() for text in shown) * 358 / 480 >= 9


def reached(name, label, what="accuracy"):
    return [run["held_out"][what] for run in runs(name, label)]


def test_what_the_pages_say_of_learning_is_so():
    looking, blind = ("top-4", "top-4, independent"), ("local", "random")
    for ours, theirs in ((ours, theirs) for ours in looking for theirs in blind):
        for routed, table in zip(reached("fashion_mnist", ours), reached("fashion_mnist", theirs), strict=True):
            assert routed < table, "in every seed"
    assert all(max(run["held_out"]["hit_rate"]) > 0.8 for run in runs("recall_boards", "top-4, noise 1"))
    assert max(reached("recall_boards", "all, noise 1")) < 0.3, "all fails as well"
    assert min(reached("recall_boards", "top-4, 8 glyphs") + reached("recall_boards", "top-4, 6x6 cells")) > 0.999
    assert min(reached("recall_longer", "crossed, 2000 steps")) > 0.99
    assert (
        0.44
        < min(reached("recall_longer", "dilated, 2000 steps"))
        < max(reached("recall_longer", "dilated, 2000 steps"))
        < 0.46
    )
    assert max(cut("without both") + cut("left out: both")) < 0.2 and min(cut("without two others")) > 0.95
    assert min(untrained("alike", "settled", 0)) > 0.9 > max(untrained("independent", "settled", 0))
    means = {
        name: statistics.fmean(reached("nuclei", name, "iou")) for name in ("top-4", "all", "local", "convolution")
    }
    assert min(means, key=means.get) == "top-4"


def test_what_the_page_says_of_routers_that_were_invented_is_so():
    reached = {
        entry: {(run["board"], run["seed"]): run["accuracy"] for run in invented(entry)}
        for entry in ("top_k", "per_head", "soft", "everything", "template")
    }
    plain = reached["top_k"]
    assert all(len(runs) == 6 for runs in reached.values()), "two boards with three seeds each"
    assert min(reached["everything"].values()) > 0.98 and max(reached["template"].values()) < 0.21
    assert all(share > plain[case] for case, share in reached["per_head"].items()), "ahead in each run"
    ahead = {case for case in plain if reached["soft"][case] > plain[case]}
    assert {case for case in plain if case[0] == "alike"} <= ahead
    assert {case for case in plain if case[0] == "independent"} - ahead == {("independent", 0), ("independent", 1)}
    both = [
        [reached[entry]["alike", s] + reached[entry]["independent", s] for s in range(3)] for entry in ("top_k", "soft")
    ]
    assert [plain > soft for plain, soft in zip(*both, strict=True)] == [True, True, False], "its place hangs on one"


def test_what_the_pages_say_of_speed_is_so():
    for side in (14, 32):  # stage 3 at 224 and 512 pixels
        for mode in ("inference", "train"):
            dense, ours = (
                row("bench_all_cpu", part="layer", side=side, c=256, mode=mode, way=way)["seconds"]
                for way in ("dense", "ours")
            )
            assert 0.9 < dense / ours < 1.15
    rows = json.loads((RESULTS / "bench_all_cpu.json").read_text())["rows"]
    compiled = {(r["name"], r["size"], r["mode"]): r["seconds"] for r in rows if r["way"] == "compiled"}
    ours = {
        (r["name"], r["size"], r["mode"]): r["seconds"] for r in rows if r["way"] == "ours" and r["part"] == "model"
    }
    assert all((compiled[case] < ours[case]) == (case[2] == "inference") for case in ours)
    mine, swin = (
        {r["group"]: r["seconds"] for r in read("bench_profile_cpu")["rows"] if (r["way"], r["threads"]) == (way, 2)}
        for way in ("ours", "timm Swin-T")
    )
    assert {group for group in swin if mine[group] < swin[group]} == {
        "linear layers",
        "norms and GELU",
        "copies and zeros",
    }
    filters = {group: seconds for group, seconds in mine.items() if "x" in group or "convolutions" in group}
    assert max(filters, key=filters.get) == "depthwise 5 x 5, backward"


def test_what_is_predicted_for_gpus_is_so():
    def seconds(gpu, size, stage, way):
        return row("kernels_predicted", gpu=gpu, size=size, stage=stage, way=way, mode="train")["seconds"]

    for size in (224, 512, 1024):
        for stage in (1, 2, 3):
            faster = seconds("H100", size, stage, "fused") < seconds("H100", size, stage, "gathered")
            assert faster == ((size, stage) != (1024, 1))
        assert seconds("T4", size, 1, "gathered") < min(
            seconds("T4", size, 1, way) for way in ("fused", "flex", "dense")
        )
    assert all(
        seconds(gpu, 224, 3, "dense")
        < min(seconds(gpu, 224, 3, way) for way in ("gathered", "masked", "fused", "flex"))
        for gpu in ("T4", "RTX 4090", "A100", "H100")
    )


BROKEN = {  # what a page asks for, and the one line that the build says of it
    "```{results} recall_longr\n```": "no table 'recall_longr'",
    "```{results-figure} nuclei\n```": "no figure 'nuclei'",
    "{result}`recall_routers best`": "no phrase 'recall_routers best'",
    "{result}`recall_longer > crossed > seed 0`": "no row 'crossed'",
    "{result}`recall_longer > crossed, 2000 steps > seed 7`": "no column 'seed 7'",
    "```{results} fashion_mnist\n```": "fashion_mnist.json does not say by which command it was measured",
    "```{results} nuclei\n```": "nuclei.json does not say where it was measured: no processor",
    "```{results} dense_recall\n```": "no result 'dense_recall': there is no dense_recall.json in kept",
}


@pytest.mark.filterwarnings("ignore")  # of Sphinx and what it imports
def test_a_page_that_asks_for_what_is_not_there_fails_in_one_line(tmp_path, capsys):
    (tmp_path / "kept").mkdir()
    shutil.copy(RESULTS / "recall_longer.json", tmp_path / "kept")
    for name, told in (("fashion_mnist", "command"), ("nuclei", "processor")):
        content = json.loads((RESULTS / f"{name}.json").read_text())
        (content if told in content else content["environment"]).pop(told)
        (tmp_path / "kept" / f"{name}.json").write_text(json.dumps(content))
    (tmp_path / "conf.py").write_text(
        'extensions = ["myst_parser", "reporting.pages"]\nresults_folder = "kept"\nhtml_theme = "basic"\n'
    )
    good = "```{results} recall_longer\n```\n\nCrossed: {result}`recall_longer > crossed, 2000 steps > seed 0`."
    (tmp_path / "index.md").write_text("# Page\n\n" + "\n\n".join([good, *BROKEN]) + "\n")
    assert build_main(["-W", "--keep-going", "-q", str(tmp_path), str(tmp_path / "out")]) == 1
    stderr = capsys.readouterr().err
    said = [line for line in stderr.splitlines() if "index.md" in line]
    assert len(said) == len(BROKEN), stderr
    assert all(sum(expected in line for line in said) == 1 for expected in BROKEN.values()), stderr
    html = re.sub("<.*?>", "", (tmp_path / "out" / "index.html").read_text())
    reached = f"{runs('recall_longer', 'crossed, 2000 steps')[0]['held_out']['accuracy']:.1%}"
    assert html.count(reached) == 2, "in the table and in the sentence"
    for told in ("python -m bra.bench.experiments recall_longer", "Intel", "PyTorch 2.13.0+cpu", "seeds 0 to 2"):
        assert told in html
