"""How long the notebooks take, wherever that is said: `python .ci/minutes.py` counts again and writes the numbers.

Nobody was timed. Reading is WORDS words and LINES lines of code a minute: shown ones, without assertions. Solving is a
minute for each line of a solution, three at least, and for each line that the step adds to one's own file. Both are
rounded up to the next five minutes.
"""

import ast
import json
import math
import re
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent
WORDS, LINES = 200, 15
LEAST = 3  # minutes for one exercise
HEAD = r"About \d+ minutes to read and \d+ to solve"
PAGES = ("README.md", "book/index.md", "book/teach.md")


def lines_of(code):
    """Lines that are no comment, no assertion and not empty."""
    return sum(not re.match(r"\s*(#|assert\b|$)", line) for line in code.splitlines())


def words_of(text):
    """Words, without code blocks, formulas and the targets of links."""
    return len(re.sub(r"```.*?```|\$[^$]*\$|\]\([^)]*\)|[#*`|>-]", " ", text, flags=re.DOTALL).split())


def own_lines(stem, root=ROOT):
    """Lines that this step adds to the reader's own file: of a right answer, for the parts that its check names."""
    checks = root / "bra" / "checks" / f"{stem[3:]}.py"
    parts = set(re.findall(r"Part\(\w+, \'\'\'\n(?:def|class) (\w+)", checks.read_text())) if checks.exists() else set()
    answer = (root / "tests" / "support" / "my_bra.py").read_text()
    return sum(
        lines_of(ast.get_source_segment(answer, node))
        for node in ast.parse(answer).body
        if getattr(node, "name", None) in parts
    )


def minutes(path, root=ROOT):
    """Of one notebook: to read, and to solve."""
    words = lines = solving = 0
    for cell in json.loads(path.read_text())["cells"]:
        source, tags = "".join(cell["source"]), cell["metadata"].get("tags", [])
        if cell["cell_type"] == "markdown":
            words += words_of(source)
        elif "solution" in tags:
            solving += max(LEAST, lines_of(source))
        elif not {"hide-input", "remove-cell"} & set(tags):
            lines += lines_of(source)
    return five(words / WORDS + lines / LINES), five(solving + own_lines(path.stem, root))


def five(number):
    """Up to the next five."""
    return 5 * math.ceil(number / 5)


def written(text, counted):
    """A page with these minutes, {stem: (to read, to solve)}, behind every link and in every table's row."""
    for stem, (read, solve) in counted.items():
        link = rf"\]\((?:\.\./)?notebooks/{stem}\.ipynb\)"
        text = re.sub(rf"({link}, )\d+ minutes", rf"\g<1>{read + solve} minutes", text)
        text = re.sub(rf"({link} \|[^\n]*?\| )\d+( \+ \d+)?(?= \|)", rf"\g<1>{read} + {solve}", text)
    return text


def main(root=ROOT):
    """Rewrite heads and pages; print the table."""
    counted = {path.stem: minutes(path, root) for path in sorted((root / "notebooks").glob("*.ipynb"))}
    for stem, (read, solve) in counted.items():
        path = root / "notebooks" / f"{stem}.ipynb"
        head = f"About {read} minutes to read and {solve} to solve"
        path.write_text(re.sub(HEAD, head, path.read_text(), count=1))
        print(f"{stem:16} {read:4} {solve:4}")
    for page in PAGES:
        (root / page).write_text(written((root / page).read_text(), counted))
    read, solve = (sum(column) for column in zip(*counted.values(), strict=True))
    print(f"{'all':16} {read:4} {solve:4}, {(read + solve) / 60:.1f} hours")


if __name__ == "__main__":
    sys.exit(main())
