"""What a run tells when it has ended: its pictures, summary and explorer, a table, and its weights evaluated again."""

import copy
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import nn

from bra import draw
from bra.data import DataSet, Images, RecallBoards, derive_seed, normalise, printable
from bra.data.loading import Loaded
from bra.explorer.page import portrait_page
from bra.explorer.portrait import Portrait, read_history
from bra.explorer.portray import SURE, answer, of_held_out, of_pixels, open_photograph, padded
from bra.explorer.telling import telling
from bra.files import write_atomically
from bra.layer import BiLevelRoutingAttention, record_routes
from bra.look.calls import bra_layers
from bra.look.views import look
from bra.measure import environment
from bra.patterns import random_regions
from bra.topk import TableRouter
from bra.train.evaluation import evaluate
from bra.train.models import load_model
from bra.train.parallel import pick_device
from bra.train.runs import RunFolder
from bra.train.tasks import SCORES
from bra.train.writer import RunWriter

MOST = 20  # classes whose scores are told one by one


def finish(run: RunWriter, model: nn.Module, data: DataSet) -> None:
    """Write the weights, the pictures and the summary of a run that has taken its last step."""
    evaluations = [line for line in run.read_metrics() if "held_out" in line]
    first, last = evaluations[0], evaluations[-1]
    summary = {"held_out": last["held_out"], "seconds": last["seconds"], "device": str(next(model.parameters()).device)}
    summary["best"] = run.read_best()
    if first["step"] == 0:
        summary["untrained"] = first["held_out"]
    if "damaged" in last:
        summary["damaged"] = last["damaged"]
    summary["parameters"] = sum(p.numel() for p in model.parameters())
    draw.training_curves(run.read_metrics(), run.score).save(run.curves)
    if isinstance(data, RecallBoards):
        if run.config["router"] == "topk":
            summary["blind"] = evaluate(blindfold(model, run.config["seed"]), data)
        draw_boards(model, data, last["held_out"]["hit_rate"]).save(run.boards)
    else:
        draw_photo(model, data).save(run.routes)
        if data.asks != "classes":
            draw_answer(model, data).save(run.answers)
    run.finish(model, summary | {"environment": environment()})  # before the explorer: should that fail, they are safe
    write_explorer(run, model, data)


def write_explorer(run: RunWriter, model: nn.Module, data: DataSet) -> None:
    """Write the explorer of a run that has taken its last step."""
    last = [line for line in run.read_metrics() if "held_out" in line][-1]
    held_out, pages = last["held_out"], run.read_routing()
    number = telling(data, pages, held_out.get("hit_rate", []))
    history = read_history(pages, number)
    portrait = of_held_out(model, data, str(run.path), held_out, history, last["step"], number)
    write_atomically(run.explorer, portrait_page(portrait))


def blindfold(model: nn.Module, seed: int) -> nn.Module:
    """The same weights, but every region reads regions chosen at random."""
    model = copy.deepcopy(model)
    for i, layer in enumerate(module for module in model.modules() if isinstance(module, BiLevelRoutingAttention)):
        layer.router = TableRouter(random_regions(layer.grid, layer.router.k, derive_seed("blind", seed, i)))
    return model.to(next(model.parameters()).device)


@torch.no_grad()
def draw_boards(model: nn.Module, data: DataSet, hit_rate: list[float]) -> draw.Picture:
    """Four held-out boards, the answers, and the routes in the block whose hit rate, of `hit_rate`, is best."""
    boards = next(data.held_out(4))
    model.eval()
    with record_routes(model) as routes:
        said = model(boards.image.to(next(model.parameters()).device))
    index, grid = routes[hit_rate.index(max(hit_rate))].index.cpu(), (data.task.cells,) * 2
    if data.asks == "classes":
        pairs = zip(said.argmax(dim=1), boards.label, strict=True)
        titles = [f"says {data.classes[s]}, is {data.classes[i]}" for s, i in pairs]
        return draw.routed_boards(boards.image, index, grid, boards.square, boards.target, titles)
    if data.asks == "pixels":
        found = [mask.cpu() for mask in said.argmax(dim=1) == 1]
        right = [mask & (truth == 1) for mask, truth in zip(found, boards.label, strict=True)]
        titles = [f"{both.sum()} of {mask.sum()} marked are right" for both, mask in zip(right, found, strict=True)]
    else:
        found = [answer["boxes"][answer["scores"] > SURE].cpu() for answer in said]
        titles = ["1 box" if len(boxes) == 1 else f"{len(boxes)} boxes" for boxes in found]
    return draw.marked_boards(boards.image, index, grid, boards.target, boards.square, found, titles)


@torch.no_grad()
def draw_photo(model: nn.Module, data: DataSet) -> draw.Picture:
    """The first held-out image, and what its middle region reads in the last block of every routed stage."""
    images = next(data.held_out(1)).image
    model.eval()
    given = normalise(images, data.mean, data.std).to(next(model.parameters()).device)
    layers = bra_layers(model)
    views = {layers[view.name].dim: view for view in look(model, given, tokens=False)}
    image = padded(images[0] / 127.5 - 1, answer(model, given)[1])
    return draw.routed_stages(image, {f"stage {i}, last block": view for i, view in enumerate(views.values())})


@torch.no_grad()
def draw_answer(model: nn.Module, data: DataSet) -> draw.Picture:
    """The first held-out image, the truth, and what the network says."""
    batch = next(data.held_out(1))
    model.eval()
    said = model(normalise(batch.image, data.mean, data.std).to(next(model.parameters()).device))
    image = batch.image[0] / 127.5 - 1
    if data.asks == "boxes":
        true = batch.boxes[0, batch.label[0] > 0]
        return draw.boxed(image, {"annotated": true, "found": said[0]["boxes"][said[0]["scores"] > SURE].cpu()})
    label = F.interpolate(batch.label[:, None].float(), image.shape[1:], mode="nearest-exact")[0, 0].long()
    return draw.class_maps(image, {"annotated": label, "found": said[0].argmax(dim=0).cpu()}, data.classes)


def of_run(folder: Path, number: int | None = 0, photograph: Path | None = None) -> Portrait:
    """A run's model and a held-out image of its data, or a photograph; with its last weights, or else its best so far.

    number: which image; None: one on which the training shows. Raises FileNotFoundError for a run that has kept no
    weights yet; what `load_model` and `of_held_out` raise.
    """
    run = RunFolder(folder)
    kept = run.all_kept()
    if not kept:
        raise FileNotFoundError(f"{folder} holds no weights of a run: train first, or give another folder")
    model, data, config = load_model(folder, kept[0], workers=0)
    if photograph is not None:
        size = data.settings.size if isinstance(data, Loaded) and data.asks != "boxes" else of_first(data)
        share = data.settings.centre if isinstance(data, Images) else 1.0
        pixels = open_photograph(photograph, size, share if data.asks == "classes" else None)
        pixels = pixels if data.channels == 3 else pixels.float().mean(dim=0, keepdim=True).to(torch.uint8)
        return of_pixels(model, pixels, data, f"{folder}, {photograph.name}")
    if kept[0] == "best":
        return of_held_out(model, data, f"{folder}, best weights so far", number=number or 0)
    held_out, pages = run.read_summary()["held_out"], run.read_routing()
    number = telling(data, pages, held_out.get("hit_rate", [])) if number is None else number
    history = read_history(pages, number) if number >= 0 else []
    return of_held_out(model, data, str(folder), held_out, history, config.steps, number)


def of_first(data: DataSet) -> int:
    """The width of the first held-out image."""
    return next(data.held_out(1)).image.shape[-1]


def evaluate_again(folder: Path, data: str | None = None, device: str = "auto", workers: int = 2) -> str:
    """Accuracy of a run's weights, those at the end and the best, beside what the run noted when it measured them.

    data: where the data are now; None: where they were. Raises FileNotFoundError if the run has kept no weights yet;
    ValueError if they do not fit.
    """
    run = RunFolder(folder)
    noted = {"best": run.read_best()[run.score]} if run.best.exists() else {}
    if run.ended:
        noted["model"] = run.read_summary()["held_out"][run.score]
    if not noted:
        raise FileNotFoundError(f"{folder} holds no weights of a run: train first, or give another folder")
    lines = [f"{'weights':24}{run.score + ' now':>12}   noted"]
    for name, before in noted.items():
        model, found, _ = load_model(folder, name, workers=workers, **({"data": data} if data else {}))
        now = evaluate(model.to(pick_device(device)), found)[run.score]
        lines.append(f"{name + '.safetensors':24}{now:12.4%}{before:10.4%}")
    return "\n".join(lines)


def best_block(measured: dict) -> dict[str, float]:
    """The numbers worth a glance: loss, score, and the hit rate of the best block."""
    shown = {name: measured[name] for name in ("loss", *SCORES.values()) if name in measured}
    return shown | ({"hit_rate": max(measured["hit_rate"])} if "hit_rate" in measured else {})


def table(run: RunFolder) -> str:
    """A short table: what the run reached, and what one gets without looking."""
    config, summary = run.read_settings(), run.read_summary()
    rows = [(f"{config['router']} routing", best_block(summary["held_out"]))]
    if "untrained" in summary:  # not in a run of an earlier version
        rows.append(("before training", best_block(summary["untrained"])))
    if config["data"] == "recall":
        rows.append(("guessing a shape on the board", {"accuracy": 1 / config["recall"]["glyphs"]}))
    if "blind" in summary:
        rows.append(("same weights, blind routing", best_block(summary["blind"])))
    hits = any("hit_rate" in values for _, values in rows)
    lines = [f"{'':32}{run.score:>8}" + "  hit rate (best block)" * hits]
    for name, values in rows:
        hit = f"{values['hit_rate']:10.3f}" if "hit_rate" in values else f"{'-':>10}" * hits
        lines.append(f"{name:32}{values[run.score]:8.2%}{hit}")
    if each := summary["held_out"].get("ious"):
        named = zip(run.read_classes(), each, strict=True)
        lines += [f"  {name:30}{iou:8.2%}" for name, iou in named if iou >= 0][:MOST]
    if damaged := summary.get("damaged"):
        lines.append(f"left out, damaged: {len(damaged)} images: {', '.join(damaged[:5])}{' ...' * (len(damaged) > 5)}")
    files = ", ".join(sorted(path.name for path in run.path.iterdir()))
    lines += [f"{summary['seconds']:.0f} s of training on {summary['device']}", f"{run.path}: {files}"]
    if run.explorer.exists():  # not for a run of an earlier version
        lines.append(f"open {run.explorer} in a browser: whom each region reads")
    return "\n".join(map(printable, lines))
