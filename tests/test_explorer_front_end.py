"""The explorer's front end: joined from its files, and its data and geometry run by Node beside Python's."""

import json
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
import torch

from bra.explorer.join import FRONT_END, declared, join
from bra.explorer.payload import pack_routes, pack_view
from bra.look.views import View

ROOT = Path(__file__).parent.parent
FOLDER, SUPPORT = ROOT / "bra" / "explorer" / "front_end", ROOT / "tests" / "support"
CASES = [((3, 5), (7, 11)), ((4, 4), (7, 7)), ((2, 2), (1, 3)), ((7, 7), (3, 3)), ((1, 1), (1, 1)), ((3, 2), (5, 9))]


def case(grid, size):
    """A layer as the front end gets it, and what Python says of it."""
    regions, heads = grid[0] * grid[1], 2
    k, tokens = min(3, regions), -(-size[0] // grid[0]) * -(-size[1] // grid[1])
    affinity = torch.randn(regions, regions, dtype=torch.float64)
    index = torch.randint(regions, (regions, k))
    weights = torch.rand(regions, tokens, heads, k * tokens, dtype=torch.float64)
    view = View(grid, size, "mine", index, affinity)
    owners = view.owners().flatten().tolist()
    for region in range(regions):  # as in a layer: padding has no weight, and an affinity of -inf
        held = torch.tensor(
            [[cell in held_by(view, read) for cell in range(tokens)] for read in index[region].tolist()]
        )
        weights[region] *= held.flatten()
        if not view.is_real(region):
            affinity[:, region] = -torch.inf
    weights = (weights / weights.sum(dim=-1, keepdim=True)).nan_to_num(0.0)
    view = View(grid, size, "mine", index, affinity, weights)
    return {
        "packed": pack_view(view, 255) | {"routes": [pack_routes(view.index, view.affinity)]},
        "regions": [
            {
                "box": view.box(region),
                "real": view.is_real(region),
                "middle": view.middle(region),
                "reads": index[region].tolist(),
                "readers": list(view.readers(region).items()),
                "tokensRead": view.tokens_read(region),
            }
            for region in range(regions)
        ],
        "tokens": [
            {"region": owner, "maps": view.token_map(*divmod(token, size[1])).flatten(1).tolist()}
            for token, owner in enumerate(owners)
        ],
        "table": [[value if abs(value) < torch.inf else None for value in row] for row in affinity.tolist()],
    }


def held_by(view, region):
    """The places in a region that hold a token of the map."""
    row, column, height, width = view.box(region)
    return {view.locate(y, x)[1] for y in range(row, row + height) for x in range(column, column + width)}


def test_geometry_and_words_are_those_of_python(tmp_path):
    node = shutil.which("node") or pytest.skip("Node is not on the path")
    (tmp_path / "cases.json").write_text(json.dumps([case(*sizes) for sizes in CASES]))
    command = [node, "--test", "--test-reporter=tap", SUPPORT / "front_end.test.mjs"]
    environment = {**os.environ, "FRONT_END_CASES": str(tmp_path / "cases.json")}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
    assert int(re.search(r"^# pass (\d+)", done.stdout, re.M)[1]) == 4 * len(CASES) + 3


def test_the_joined_module_is_whole():
    node = shutil.which("node") or pytest.skip("Node is not on the path")
    done = subprocess.run(
        [node, "--check", "--input-type=module", "-"], input=FRONT_END, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr


def test_the_files_satisfy_typescript():
    compiler = shutil.which("tsc") or pytest.skip("tsc is not on the path: CONTRIBUTING.md says how to try it")
    done = subprocess.run([compiler, "-p", SUPPORT / "tsconfig.json"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


def test_joining_takes_out_imports_exports_and_types():
    sources = {
        "a": "/** @param {number} x */\nexport const twice = (x) => 2 * x;\n",
        "b": 'import { twice } from "./a.js";\n\nexport function four(/** @type {number} */ y) {\n'
        "  return twice(twice(y));\n}\n"
        "export default { render };\n",
    }
    expected = [
        "const STYLE = `\np { }`;\n",
        "const twice = (x) => 2 * x;\n",
        "\nfunction four(y) {\n  return twice(twice(y));\n}\nexport default { render };\n",
    ]
    assert join(sources, "p { }") == "\n".join(expected)
    assert "/**" not in FRONT_END and not re.search(r"^import\b", FRONT_END, re.M)
    assert len(re.findall(r"^export\b.*", FRONT_END, re.M)) == 1


@pytest.mark.parametrize(
    "line",
    [
        'import * as words from "./words.js";',
        'import "./words.js";',
        'import { clamp } from "d3";',
        'import { clamp,\n  short } from "./words.js";',
        "export { clamp };",
        "export default function () {}",
        "export let n = 1;",
    ],
)
def test_an_import_or_export_that_would_not_join_is_refused(line):
    with pytest.raises(ValueError, match=r"a\.js must import and export by plain lines, but has '(import|export)"):
        join({"a": f"{line}\nconst x = 1;\n"}, "")


@pytest.mark.parametrize(
    "second", ["const y = 0, x = 2;", "function x() {}", "export class x {}", "export const x = 2;"]
)
def test_a_name_that_two_files_declare_is_refused(second):
    with pytest.raises(ValueError, match=r"x must be declared once, but is in a\.js and in b\.js"):
        join({"a": "const x = 1;\n", "b": f"{second}\n"}, "")


@pytest.mark.parametrize("style", ["p { content: `; }", "p { content: '\\2014'; }", "p { --a: ${x}; }"])
def test_a_style_sheet_that_would_change_is_refused(style):
    with pytest.raises(ValueError, match="the style sheet must stand in a template string, but has"):
        join({}, style)


def test_each_file_of_the_front_end_has_its_place():
    from bra.explorer.join import ORDER

    assert sorted(ORDER) == sorted(path.stem for path in FOLDER.glob("*.js"))
    assert all(declared((FOLDER / f"{name}.js").read_text().replace("export ", "")) for name in ORDER)
    assert all(len(line) <= 128 for path in FOLDER.iterdir() for line in path.read_text().splitlines())
