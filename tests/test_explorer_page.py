import base64
import html
import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from bra.explorer.join import FRONT_END
from bra.explorer.page import fragment, portrait_page
from bra.explorer.payload import LARGEST_SIDE, PADDING, pack
from bra.explorer.portrait import Portrait, Snapshot, read_history
from bra.explorer.portray import of_photograph
from bra.look.views import View
from bra.train.report import of_run

ROOT = Path(__file__).parent.parent
EVIL = """</script><img src=x onerror='alert(1)'>"&<!--"""


def view_of(grid=(2, 3), size=(4, 9), k=2, heads=2, name="stages.0.1.attention", weights=True):
    """A view with random tables; regions of nothing but padding have an affinity of -inf."""
    regions, tokens = grid[0] * grid[1], -(-size[0] // grid[0]) * -(-size[1] // grid[1])
    affinity = 5 * torch.randn(regions, regions, dtype=torch.float64)
    shares = torch.randn(regions, tokens, heads, k * tokens, dtype=torch.float64).mul(2).softmax(dim=-1)
    return View(grid, size, name, affinity.topk(k).indices, affinity, shares if weights else None)


def picture(view, pixels=5, channels=3):
    return torch.rand(channels, pixels * view.size[0], pixels * view.size[1]) * 2 - 1


def payload_of(image, views, **known):
    return pack(Portrait(image, views, **known))


def decode(text, kind):
    return np.frombuffer(base64.b64decode(text), dtype=kind)


def decode_affinity(routes, regions):
    codes = decode(routes["affinity"], "<u2").reshape(regions, regions)
    values = routes["low"] + (routes["high"] - routes["low"]) * codes / (PADDING - 1)
    return np.where(codes == PADDING, -np.inf, values)


def decode_weights(layer, shape):
    """As the front end reads them: squares of the codes, each row of them brought to a sum of 1."""
    codes = decode(layer["weights"], np.uint8)
    if layer["levels"] == 15:
        codes = np.stack([codes >> 4, codes & 15], axis=1).reshape(-1)[: np.prod(shape)]
    squares = codes.reshape(shape).astype(float) ** 2
    return squares / squares.sum(axis=-1, keepdims=True)


@pytest.mark.parametrize(("grid", "size", "k"), [((2, 3), (4, 9), 2), ((1, 1), (5, 7), 1), ((5, 3), (5, 3), 15)])
def test_the_routes_come_back(grid, size, k):
    view = view_of(grid, size, k)
    layer = payload_of(picture(view), [view])["layers"][0]
    (routes,) = layer["routes"]
    assert (layer["label"], layer["grid"], layer["size"]) == ("stage 0, block 1", list(grid), list(size))
    assert decode(routes["index"], "<u2").reshape(-1, routes["k"]).tolist() == view.index.tolist()
    found, regions = decode_affinity(routes, grid[0] * grid[1]), view.affinity.numpy()
    step = (routes["high"] - routes["low"]) / (PADDING - 1)
    rounding = 5e-5 * max(abs(routes["low"]), abs(routes["high"]))  # both ends have five digits
    assert abs(found - regions).max() <= step / 2 + rounding
    assert routes["low"] == pytest.approx(regions.min(), rel=5e-5)
    assert routes["high"] == pytest.approx(regions.max(), rel=5e-5)


def test_within_its_range_an_affinity_is_off_by_half_a_code_at_most():
    view = view_of()
    view.affinity[0, :2] = torch.tensor([-8.0, 16.0])  # five digits hold both ends exactly
    view = replace(view, affinity=view.affinity.clamp(-8, 16))
    (routes,) = payload_of(picture(view), [view])["layers"][0]["routes"]
    assert abs(decode_affinity(routes, 6) - view.affinity.numpy()).max() <= 24 / (PADDING - 1) / 2 * (1 + 1e-9)


def test_padding_and_affinities_that_are_all_alike_come_back():
    view = view_of()
    view.affinity[:, 4] = -torch.inf
    view.affinity[2, 2] = view.affinity[view.affinity.isfinite()].max() + 1
    (routes,) = payload_of(picture(view), [view])["layers"][0]["routes"]
    found = decode_affinity(routes, 6)
    assert (np.isinf(found) == view.affinity.isinf().numpy()).all() and np.isinf(found).sum() == 6
    for value in (3.25, -torch.inf):
        alike = replace(view, affinity=torch.full((6, 6), value))
        (routes,) = payload_of(picture(view), [alike])["layers"][0]["routes"]
        assert (decode_affinity(routes, 6) == value).all()
        assert np.isfinite([routes["low"], routes["high"]]).all(), "JSON knows no infinity"


@pytest.mark.parametrize("levels", [255, 15])
def test_the_token_weights_come_back(levels, monkeypatch):
    monkeypatch.setattr("bra.explorer.payload.BYTES_UP_TO", 10**6 if levels == 255 else 0)
    view = view_of((1, 3), (5, 9), 1, heads=3)  # 2025 numbers: odd
    assert view.weights.numel() % 2 == 1
    view.weights[1, 2, 0] = 0  # reads nothing but padding
    layer = payload_of(picture(view), [view])["layers"][0]
    assert (layer["levels"], layer["heads"]) == (levels, 3)
    assert len(decode(layer["weights"], np.uint8)) == (2025 if levels == 255 else 1013)
    with np.errstate(invalid="ignore"):
        found = decode_weights(layer, view.weights.shape)
    assert np.isnan(found[1, 2, 0]).all() and np.isnan(found).sum() == 15, "all codes 0: the front end shows nothing"
    found = np.nan_to_num(found)
    assert found.sum(axis=-1)[view.weights.sum(dim=-1).numpy() > 0] == pytest.approx(1)
    wanted = view.weights.numpy()
    largest = wanted.max(axis=-1, keepdims=True)
    off = (
        2 * np.sqrt(wanted * largest) * 0.5 / levels + 0.25 * largest / levels**2
    )  # of w = (code / levels)^2 * largest
    off = off + wanted * off.sum(axis=-1, keepdims=True)  # and of the sum, which is not quite 1
    assert (abs(found - wanted) <= 1.2 * off + 1e-12).all()
    assert (found.argmax(axis=-1) == wanted.argmax(axis=-1)).mean() > (0.99 if levels == 255 else 0.7)


def test_few_weights_have_a_byte_and_many_half_of_one():
    few, many = view_of(), view_of((4, 4), (32, 32), 3)  # 49152 x 2 x 3 numbers and more
    assert many.weights.numel() < 500_000 < 4 * many.weights.numel()
    assert payload_of(picture(few), [few])["layers"][0]["levels"] == 255
    assert [layer["levels"] for layer in payload_of(picture(many), [many] * 6)["layers"]] == [15] * 6, (
        "all layers alike"
    )


def test_without_weights_a_layer_has_no_heads():
    view = view_of(weights=False)
    layer = payload_of(picture(view), [view])["layers"][0]
    assert (layer["heads"], layer["weights"]) == (0, "")


@pytest.mark.parametrize("channels", [1, 3])
def test_the_image_comes_back(channels):
    view = view_of()
    codes = torch.randint(256, (channels, 20, 45))
    packed = payload_of(codes / 127.5 - 1, [view])["image"]
    pixels = decode(packed["rgb"], np.uint8).reshape(packed["height"], packed["width"], 3)
    assert pixels.tolist() == codes.expand(3, -1, -1).permute(1, 2, 0).tolist()
    beyond = torch.cat([torch.full((1, 20, 20), -3.0), torch.full((1, 20, 25), 2.0)], dim=2)
    assert set(decode(payload_of(beyond, [view])["image"]["rgb"], np.uint8)) == {0, 255}, "clamped, never wrapped"


def test_a_large_image_is_scaled_down():
    view = view_of()
    image = torch.full((3, 900, 2025), -1.0)
    image[0, :, :1000] = 1  # red at the left
    packed = payload_of(image, [view])["image"]
    assert (packed["height"], packed["width"]) == (round(900 * LARGEST_SIDE / 2025), LARGEST_SIDE)
    pixels = decode(packed["rgb"], np.uint8).reshape(packed["height"], packed["width"], 3)
    assert pixels[:, 0].tolist() == [[255, 0, 0]] * packed["height"] and (pixels[:, -1] == 0).all()


def history_of(views, steps):
    return [
        {
            "step": step,
            "index": [(view.index + step) .remainder(len(view.index)).tolist() for view in views],
            "affinity": [(view.affinity + step).tolist() for view in views],
        }
        for step in steps
    ]  # fmt: skip


def test_the_history_is_of_before_the_views_and_the_views_are_last():
    views = [view_of(), view_of((3, 2), (6, 13), 3)]
    payload = payload_of(picture(views[0]), views, history=read_history(history_of(views, [0, 10, 40, 50])), step=40)
    assert payload["steps"] == [0, 10, 40], "a page of the last step, or later, is not shown twice"
    for view, layer in zip(views, payload["layers"], strict=True):
        for step, routes in zip([0, 10, 0], layer["routes"], strict=True):  # the last: the view's own
            expected = (view.index + step).remainder(6)
            assert decode(routes["index"], "<u2").reshape(6, -1).tolist() == expected.tolist()
            low, high = (view.affinity + step).min().item(), (view.affinity + step).max().item()
            assert (routes["low"], routes["high"]) == pytest.approx((low, high), rel=1e-4)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"image": torch.zeros(2, 20, 45)},
            r"image must be \(3 h w\) or \(1 h w\) to be shown, but is \(2, 20, 45\): pass shown=",
        ),
        ({"image": torch.zeros(3, 20, 0)}, r"to be shown, but is \(3, 20, 0\)"),
        ({"image": torch.zeros(3, 45, 20)}, r"map of stages.0.1.attention, 4 x 9 tokens, but is 45 x 20 pixels"),
        ({"image": torch.full((3, 20, 45), float("nan"))}, "image must be finite to be shown, but 2700 of its values"),
        ({"image": torch.eye(45)[None, :20] / 0}, "image must be finite to be shown, but 900 of its values are not"),
        ({"views": []}, "views must hold at least one layer, but there is none"),
        ({"truth": (0, 6)}, r"truth must be two regions of 0 to 5, but is \(0, 6\)"),
        ({"truth": (-1, 3)}, r"truth must be two regions of 0 to 5, but is \(-1, 3\)"),
        ({"columns": {"loss": [1.0, 2.0]}}, "columns must have 1 values, one a layer, but 'loss' has 2"),
        ({"pages": [0, 10, 10]}, "history must be in the order of its steps, but 10 follows 10"),
        ({"wrong": "layers"}, "history must have 1 layers a page, but has 2 at step 0"),
        ({"wrong": "index"}, r"index of stages.0.1.attention must have 6 rows on a grid of 2 x 3, but its shape is"),
        ({"wrong": "affinity"}, r"affinity of stages.0.1.attention must be \(6, 6\) on a grid of 2 x 3, but its shape"),
        ({"wrong": "nan"}, "affinity of stages.0.1.attention must be finite or -inf, but 1 of 36 entries are not"),
    ],
)
def test_what_does_not_fit_is_refused(change, message):
    view = view_of()
    views, image = change.get("views", [view]), change.get("image", picture(view))
    history = history_of([view], change.get("pages", [0]))
    table = history[0]
    match change.get("wrong"):
        case "layers":
            table["index"], table["affinity"] = 2 * table["index"], 2 * table["affinity"]
        case "index":
            table["index"][0] = table["index"][0][:5]
        case "affinity":
            table["affinity"][0] = table["affinity"][0][:5]
        case "nan":
            table["affinity"][0][2][3] = float("nan")
    with pytest.raises(ValueError, match=message):
        Portrait(
            image,
            views,
            history=read_history(history),
            step=99,
            truth=change.get("truth"),
            columns=change.get("columns", {}),
        )


@pytest.mark.parametrize("shape", [(20, 45), (17, 40), (21, 43)])
def test_an_image_may_be_a_little_more_or_less_than_its_tokens(shape):
    payload_of(torch.zeros(3, *shape), [view_of()])


def test_at_first_the_region_that_asks_is_chosen_or_the_middle_one():
    view = view_of((3, 5), (3, 5), 2)
    portrait = Portrait(picture(view), [view], step=7, history=read_history(history_of([view], [3])))
    assert portrait.start() == {"query": 7, "block": 0, "token": None, "step": 7}
    assert replace(portrait, truth=(4, 2)).start()["query"] == 4


def test_what_to_try_first_is_what_can_be_tried():
    view = view_of()
    plain = Portrait(picture(view), [view], truth=(4, 2))
    assert plain.hint == "Click a region, or move with the arrow keys."
    told = replace(plain, asker="the plain square")
    assert told.hint == "Click the plain square, or move with the arrow keys."
    learnt = replace(told, step=7, history=read_history(history_of([view], [3])))
    assert learnt.hint.startswith(told.hint) and "press Play" in learnt.hint
    texts = {"title": "a", "question": "b?", "says": "c", "source": "d"}
    payload = pack(replace(learnt, **texts))
    assert {name: payload[name] for name in texts} == texts and payload["hint"] == learnt.hint


def test_the_same_explorer_is_the_same_page_and_another_is_not():
    view = view_of()
    portrait = Portrait(picture(view), [view], title="a", columns={"x": [0.5]})
    assert portrait_page(portrait) == portrait_page(replace(portrait))
    name = lambda portrait, **state: re.search(  # noqa: E731
        r'data-explorer="(\w+)"', fragment(pack(portrait), portrait.start() | state)
    )[1]
    assert len({name(portrait), name(portrait, query=1), name(replace(portrait, title="b"))}) == 3


def test_nothing_that_a_user_names_becomes_html():
    view = replace(view_of(), name=EVIL)
    portrait = Portrait(picture(view), [view], title=EVIL, columns={EVIL: [EVIL]})
    text, payload = portrait_page(portrait), pack(portrait)
    assert text.count("</script>") == 1 and text.count("<script") == 1
    assert "<img" not in text and "<!--" not in text
    assert f"<title>{html.escape(EVIL)}</title>" in text and f'aria-label="{html.escape(EVIL)}"' in text
    content = json.loads(re.search(r'\nmount\("\w+", (.*)\);\n</script>', text)[1])
    assert content["payload"] == payload and payload["title"] == payload["layers"][0]["label"] == EVIL
    assert payload["columns"] == {EVIL: [EVIL]}


def test_a_page_can_load_nothing():
    view = view_of()
    text = portrait_page(Portrait(picture(view), [view]))
    policy = re.search(r'http-equiv="Content-Security-Policy" content="([^"]*)"', text)[1]
    assert policy.split("; ") == ["default-src 'none'", "script-src 'unsafe-inline'", "style-src 'unsafe-inline'"]
    assert text.index("Content-Security-Policy") < text.index("<style") < text.index("<script")
    assert re.findall(r"https?://[^\"']*", text) == ["http://www.w3.org/2000/svg"]
    assert not re.search(r"\bimport\b[ (\"']|\bfetch\(|XMLHttpRequest|WebSocket|eval\(|innerHTML|@import|url\(", text)
    assert not re.search(r"\b(src|href)=", text)


def test_the_front_end_moves_nothing_and_is_narrow():
    assert not re.search(r"\b(transition|animation|animate|scroll-behavior)\b", FRONT_END)
    assert max(map(len, FRONT_END.splitlines())) <= 140


def test_pages_are_small(tmp_path):
    from PIL import Image
    from skimage import data

    Image.fromarray(data.chelsea()).save(tmp_path / "cat.png")
    assert len(portrait_page(of_photograph(tmp_path / "cat.png"))) < 2_000_000
    portrait = of_run(ROOT / "book" / "results" / "recall-topk")
    index, affinity = [v.index for v in portrait.views], [v.affinity for v in portrait.views]
    history = [Snapshot(step, index, affinity) for step in range(14)]  # as many as 500 steps have, and more
    assert len(portrait_page(replace(portrait, history=history))) < 400_000
