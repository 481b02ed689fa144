"""What a page of the book writes to show a result: a Sphinx extension.

```{results} NAME       the table, and below it by which command and where it was measured
```{results-figure} NAME   the figure; its alternative text tells the numbers
{result}`NAME > row > column`, {result}`PHRASE`   one number in a sentence

A name that does not exist, and a result that does not say where it comes from, fail the build with one line.
"""

import os
from pathlib import Path

from docutils import nodes
from docutils.statemachine import StringList
from sphinx.util.docutils import SphinxDirective, SphinxRole

from .figures import figure, write
from .phrases import phrase
from .reading import read
from .tables import table


def source_of(name: str, content: dict, seen_from: str) -> str:
    """One line of Markdown: the command, the machine, the versions, seeds, dates, and the file."""
    runs = content.get("runs", [])
    places = [run["environment"] for run in runs if "environment" in run] or [content["environment"]]

    def told(word: str, between: str = " and ") -> str:
        return between.join(sorted({str(place[word]) for place in places}))

    seeds = sorted({run["seed"] for run in runs} or {content.get("seed", 0)})
    dirty = " (dirty: with changes not committed)" if "dirty" in told("commit") else ""
    gpus = {place.get("gpu") for place in places}
    files = [f"{{download}}`{file.split('/')[-1]}.json <{seen_from}/{file}.json>`" for file in files_of(name, content)]
    return (
        f"{'Measured' if content.get('measured', True) else 'Predicted, **not measured**,'} by `{content['command']}`: "
        f"{told('processor')}, threads {told('threads')}, {'no GPU' if gpus == {None} else told('gpu')}; "
        f"Python {told('python')}, PyTorch {told('torch')}; "
        f"seed{'s' if len(seeds) > 1 else ''} {seeds[0]}{f' to {seeds[-1]}' if len(seeds) > 1 else ''}; "
        f"{told('date', ' to ')}; commit {told('commit', ', ')}{dirty}. "
        f"All of it: {', '.join(files)}"
    )


def files_of(name: str, content: dict) -> list[str]:
    """The names of the files of a result: its own, or those in its folder."""
    return [f"{name}/{result['entry']}" for result in content["results"]] if "results" in content else [name]


class Results(SphinxDirective):
    """A table, and where it comes from."""

    required_arguments, final_argument_whitespace = 1, True

    def run(self) -> list[nodes.Node]:
        """Markdown, parsed by the page's own parser."""
        name = self.arguments[0].split()[0]
        try:
            shown, content = table(self.arguments[0], folder(self.env)), read(name, folder(self.env))
        except ValueError as error:
            return complain(self.state.document.reporter, error, self.lineno)
        for file in files_of(name, content):
            self.env.note_dependency(str(folder(self.env) / f"{file}.json"))
        source = source_of(name, content, f"/{self.config.results_folder}")
        text = f"{shown.markdown()}\n\n{source}"
        found = nodes.Element()
        self.state.nested_parse(StringList(text.splitlines(), self.env.docname), self.content_offset, found)
        for each in found.findall(nodes.table):
            each["classes"].append("results")
        found.children[-1]["classes"].append("results-source")
        return found.children


class ResultsFigure(SphinxDirective):
    """A figure, made while the book is built."""

    required_arguments, final_argument_whitespace = 1, True

    def run(self) -> list[nodes.Node]:
        """An image beside the doctrees, which Sphinx copies to where pages find it."""
        try:
            picture = figure(self.arguments[0], folder(self.env))
        except ValueError as error:
            return complain(self.state.document.reporter, error, self.lineno)
        self.env.note_dependency(str(folder(self.env) / f"{self.arguments[0].split()[0]}.json"))
        path = Path(self.env.doctreedir) / "results" / f"{self.arguments[0].replace(' ', '_')}.svg"
        path.parent.mkdir(parents=True, exist_ok=True)
        write(picture, path)
        uri = "/" + os.path.relpath(path, self.env.srcdir).replace(os.sep, "/")
        return [nodes.image(uri=uri, alt=picture.alt, classes=["results-figure"])]


class Result(SphinxRole):
    """One number."""

    def run(self) -> tuple[list[nodes.Node], list[nodes.Node]]:
        """As text."""
        try:
            number = phrase(self.text, folder(self.env))
        except ValueError as error:
            return [], complain(self.inliner.reporter, error, self.lineno)
        self.env.note_dependency(str(folder(self.env) / f"{self.text.split()[0]}.json"))
        return [nodes.Text(number)], []


def complain(reporter, error: ValueError, line: int) -> list[nodes.Node]:
    """One line, which names the page."""
    return [reporter.error(str(error), line=line)]


def folder(env) -> Path:
    """Where the results lie."""
    return Path(env.srcdir) / env.config.results_folder


def setup(app) -> dict:
    """Register them, and how they look."""
    app.config.html_static_path.append(str(Path(__file__).parent / "static"))
    app.add_css_file("results.css")
    app.add_config_value("results_folder", "book/results", "env")
    app.add_directive("results", Results)
    app.add_directive("results-figure", ResultsFigure)
    app.add_role("result", Result())
    return {"parallel_read_safe": True, "parallel_write_safe": True}
