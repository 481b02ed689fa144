"""An explorer in a notebook: stored, exported, and live in JupyterLab."""

import contextlib
import json
import re

from browser import jupyter_lab, offline, run_jupyter, write_notebook
from explored import SETUP, region_name, regions
from playwright.sync_api import TimeoutError


def test_a_stored_notebook_needs_no_kernel_and_no_network(browser, explorer, tmp_path):
    write_notebook(tmp_path / "x.ipynb", SETUP + "explorer.query = 6\nexplorer", "explorer")
    run_jupyter(tmp_path, "nbconvert", "--to", "notebook", "--execute", "--inplace", "x.ipynb")
    stored = json.loads((tmp_path / "x.ipynb").read_text())
    for cell in stored["cells"]:
        del cell["outputs"][0]["data"]["application/vnd.jupyter.widget-view+json"]
    stored["metadata"].pop("widgets", None)
    (tmp_path / "x.ipynb").write_text(json.dumps(stored))
    run_jupyter(tmp_path, "nbconvert", "--to", "html", "x.ipynb")
    with offline(browser, tmp_path / "x.html", foreign=("https://cdnjs.cloudflare.com/",)) as page:
        assert page.locator(".explorer").count() == 2, "both of the two that are alike"
        first = page.locator("[data-explorer]").first
        view = explorer.views[0]
        assert f"{region_name(view, 6)} reads {', '.join(map(str, view.index[6].tolist()))}." in status_of(first)
        first.locator(".stage").press("ArrowDown")
        assert f"{region_name(view, 10)} reads {', '.join(map(str, view.index[10].tolist()))}." in status_of(first)
        assert region_name(view, 6) in status_of(page.locator("[data-explorer]").last)


def test_in_jupyterlab_python_and_the_page_follow_each_other(browser, explorer, tmp_path):
    write_notebook(
        tmp_path / "x.ipynb",
        "from made import explorer\nexplorer",
        "print('now', explorer.choice())",
        "explorer.step = 7; explorer.block = 1; explorer.token = 7",
        "print('then', explorer.choice())",
        "explorer.token = None; explorer.step = 40; explorer.block = 0; explorer.query = 9",
    )
    (tmp_path / "made.py").write_text(SETUP)
    wrong = []
    with jupyter_lab(tmp_path) as address:
        context = browser.new_context(viewport={"width": 1280, "height": 1000})
        try:
            page = context.new_page()
            page.on("request", lambda asked: wrong.append(asked.url) if not is_local(asked.url) else None)
            page.on("pageerror", lambda error: wrong.append(str(error)))
            page.goto(address.format("x.ipynb"))
            page.locator(".jp-Notebook-ExecutionIndicator[data-status=idle]").wait_for()
            talk(page, explorer)
        finally:
            context.close()
    assert not wrong, wrong


def is_local(address):
    return address.startswith(("http://127.0.0.1", "ws://127.0.0.1", "data:", "blob:"))


def status_of(place):
    return place.locator(".status").text_content()


def run_cell(page, number):
    cell = page.locator(".jp-CodeCell").nth(number)
    prompt = cell.locator(".jp-InputPrompt")
    for _ in range(10):  # a notebook that has just been opened may still look elsewhere for its keys
        cell.locator(".cm-content").click()
        page.keyboard.press("Control+Enter")
        with contextlib.suppress(TimeoutError):
            prompt.filter(has_not_text="[ ]").wait_for(timeout=2000)
            break
    prompt.filter(has_text=re.compile(r"\d")).wait_for()
    return cell


def talk(page, explorer):
    """Clicks that reach Python, and settings in Python that reach the page."""
    view = explorer.views[0]
    cell = run_cell(page, 0)
    said = lambda text: page.locator(".status", has_text=text).wait_for()  # noqa: E731
    said(f"{region_name(view, 5)} reads {', '.join(map(str, view.index[5].tolist()))}")
    assert regions(page, "reads", view) == view.index[5].tolist()
    cell.locator(".stage").click(position={"x": 2, "y": 2})
    said(f"{region_name(view, 0)} reads {', '.join(map(str, view.index[0].tolist()))}")
    cell.locator(".stage").press("ArrowDown")
    cell.locator("input[value=tokens]").check()
    text = run_cell(page, 1).locator(".jp-OutputArea-output", has_text="now").text_content()
    assert text.strip() == "now {'query': 4, 'block': 0, 'token': 34, 'step': 40}"
    run_cell(page, 2)
    said("coarse.0, step 7: token (row 1, column 2) of region 4")
    cell.locator("input[value=reads]").check()
    cell.locator("input[type=range]").fill("0")
    text = run_cell(page, 3).locator(".jp-OutputArea-output", has_text="then").text_content()
    assert text.strip() == "then {'query': 4, 'block': 1, 'token': None, 'step': 3}"
    run_cell(page, 4)
    said(f"deep.fine, step 40: {region_name(view, 9)} reads {', '.join(map(str, view.index[9].tolist()))}")
