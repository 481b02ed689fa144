"""Every rule is broken by an entry planted here, and the referee says which."""

import pytest
import torch
from torch import nn

from bra.attention import attend
from bra.data.recall import CELL
from bra.invent import boards
from bra.invent.entries import everything, per_head, soft, template, top_k
from bra.invent.judge import Entry, network
from bra.invent.reads import Refused, examine_network
from bra.invent.rules import examine
from bra.layer import BiLevelRoutingAttention, record_routes
from bra.topk import Routes, TopKRouter

SIZES = (6, 2, (2, 3), 2)


def layer(dim, heads, grid, k, kind=BiLevelRoutingAttention, **parts):
    return kind(dim, heads, grid, k, **{"lce_kernel": 0} | parts)


def reads_everything(q, k, v, index, heads, scale=None, valid=None):
    regions = torch.arange(index.shape[1]).expand(*index.shape[:2], -1)
    return attend(q, k, v, regions, heads, scale, valid)


def reads_the_first(q, k, v, index, heads, scale=None, valid=None):
    return attend(q, k, v, index[..., :1], heads, scale, valid)


def forgets_padding(q, k, v, index, heads, scale=None, valid=None):
    return attend(q, k, v, index, heads, scale)


class Changed(BiLevelRoutingAttention):
    """A layer whose output is changed on its way."""

    def forward(self, x, real=None):
        return self.change(super().forward(x, real), x)


class Shorter(Changed):
    def change(self, out, x):
        return out[:, 1:]


class Noisy(Changed):
    def change(self, out, x):
        return out + torch.rand(1)


class Counting(Changed):
    calls = 0

    def change(self, out, x):
        self.calls += 1
        return out + 1 / self.calls


class LooksAtOthers(Changed):
    def change(self, out, x):
        return out + out.mean(dim=0)


class LooksAroundInTraining(Changed):
    def change(self, out, x):
        return out + out.mean(dim=(1, 2), keepdim=True) * self.training


class Twice(Changed):
    def change(self, out, x):
        return out + super(Changed, self).forward(x)


class Smuggles(BiLevelRoutingAttention):
    """The affinity of its routes was made from every region, and each output gets its mean."""

    def forward(self, x, real=None):
        with record_routes(self) as routes:
            out = super().forward(x, real)
        return out + routes[0].affinity.mean(dim=(1, 2))[:, None, None, None]


class Chooses(TopKRouter):
    """A router whose index is changed."""

    def __init__(self, k, change):
        super().__init__(k)
        self.change = change

    def forward(self, q_means, k_means, valid_regions=None):
        index, affinity = super().forward(q_means, k_means, valid_regions)
        return Routes(self.change(index), affinity)


def fails(dim, heads, grid, k):
    raise RuntimeError("two\nlines")


BROKEN = {
    "make_layer must return a BiLevelRoutingAttention, not Linear": lambda dim, heads, grid, k: nn.Linear(dim, dim),
    "make_layer was asked for": lambda dim, heads, grid, k: layer(2 * dim, heads, grid, k),
    "when make_layer is called it raises RuntimeError: two lines": fails,
    "must be finite and (2, 4, 6, 6), as its input is, but is (2, 3, 6, 6)": lambda *sizes: layer(*sizes, kind=Shorter),
    "the same map gives another output": lambda *sizes: layer(*sizes, kind=Noisy),
    "the same map gives another output the second": lambda *sizes: layer(*sizes, kind=Counting),
    "layer.router must be called once": lambda *sizes: layer(*sizes, kind=Twice),
    "an image's output depends on the other images": lambda *sizes: layer(*sizes, kind=LooksAtOthers),
    "region 1 reads region 0, but its routes name": lambda *sizes: layer(*sizes, kind=LooksAroundInTraining),
    "reads region": lambda *sizes: layer(*sizes, attend=reads_everything),
    "reads region ": lambda *sizes: layer(*sizes, lce_kernel=5),
    "but its routes name": lambda *sizes: layer(*sizes, kind=Smuggles),
    "it reads nothing there": lambda *sizes: layer(*sizes, attend=reads_the_first),
    "depends on tokens that are not real": lambda *sizes: layer(*sizes, attend=forgets_padding),
    "must be (b r k) of int64": lambda *sizes: layer(*sizes, router=Chooses(2, lambda index: index.int())),
    "must name regions 0 to 5": lambda *sizes: layer(*sizes, router=Chooses(2, lambda index: index - 6)),
}


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize("said", BROKEN)
def test_a_broken_rule_is_told_in_one_line(said):
    with pytest.raises(Refused) as told:
        examine(BROKEN[said], *SIZES)
    assert said.strip() in str(told.value) and "\n" not in str(told.value)


@pytest.mark.parametrize("entry", [top_k, per_head, soft, everything, template], ids=lambda entry: entry.__name__)
def test_ours_keep_to_the_rules(entry):
    examine(entry.make_layer, 6, 3, (2, 2), 1)


SHARED = {}


class Whispers(BiLevelRoutingAttention):
    """Alone it reads what it says; the second of a network hears from the first what that saw everywhere."""

    def forward(self, x, real=None):
        heard, SHARED[len(x)] = SHARED.get(len(x), 0), x.mean(dim=(1, 2), keepdim=True).detach()
        return super().forward(x, real) + (heard if SHARED["on"] and not self.training else 0)


class Waits(BiLevelRoutingAttention):
    """It looks at everything once its weights have moved away from the start."""

    def forward(self, x, real=None):
        return super().forward(x, real) + x.mean(dim=(1, 2), keepdim=True) * (self.training and self.out.bias[0] > 1)


def trained(make_layer):
    """A network of the boards that could have been trained, and a board."""
    board = boards.BOARDS["independent"]
    data = board.config(0).open_data()
    model = network(Entry("x", "x", "x", make_layer), board, 0, data)
    return model, data.task.sample(1, 0).image


@pytest.mark.parametrize("entry", [top_k, per_head, soft])
def test_news_travels_by_the_routes_of_all_layers(entry):
    examine_network(*trained(entry.make_layer), CELL)


def test_whispering_between_layers_is_found_in_the_network():
    SHARED["on"] = False
    examine(lambda *sizes: layer(*sizes, kind=Whispers), *SIZES)
    SHARED.clear()
    model, image = trained(lambda *sizes: layer(*sizes, kind=Whispers))
    SHARED["on"] = True
    with pytest.raises(Refused, match=r"after training, news of region \d+ reaches region \d+ by no route"):
        examine_network(model, image, CELL)


def test_who_waits_for_training_to_begin_is_found_in_the_network():
    examine(lambda *sizes: layer(*sizes, kind=Waits), *SIZES)
    model, image = trained(lambda *sizes: layer(*sizes, kind=Waits))
    examine_network(model, image, CELL)
    model.stages[0][1].attention.out.bias.data[0] = 2.0
    with pytest.raises(Refused, match=r"region \d+ reads region \d+, but its routes name"):
        examine_network(model, image, CELL)


def test_whoever_has_no_weights_of_a_layer_is_refused():
    class Renamed(BiLevelRoutingAttention):
        def __init__(self, *sizes, **parts):
            super().__init__(*sizes, **parts)
            self.first = self.qkv
            del self.qkv

    class Wider(BiLevelRoutingAttention):
        def __init__(self, *sizes, **parts):
            super().__init__(*sizes, **parts)
            self.out = nn.Linear(self.dim, 2 * self.dim)

    with pytest.raises(Refused, match=r"must have the weights that every layer has, but lacks qkv.weight, qkv.bias"):
        trained(lambda *sizes: layer(*sizes, kind=Renamed))
    with pytest.raises(Refused, match="when top-k's first weights are put into its layer it raises RuntimeError"):
        trained(lambda *sizes: layer(*sizes, kind=Wider))
