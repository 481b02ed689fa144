"""Check of notebook 05: attention among the gathered tokens."""

from einops import rearrange
from torch import Tensor

from bra.checks.judge import Answer, Fact, Mistake, Verdict, judge, numbers, recall


def attention(attend_by_hand: Answer) -> Verdict:
    """attend_by_hand(q, keys, values, heads): (b r t c), twice (b r k*t c) -> (b r t c); scale (c / heads)^(-1/2).

    For each head softmax(scale q keys^T) values, the heads side by side.
    """

    def attend(split="(m d)", merge="(m d)", power=-0.5, axis=-1, one_head=False, all_channels=False) -> Answer:
        def answer(q: Tensor, keys: Tensor, values: Tensor, heads: int) -> Tensor:
            m = 1 if one_head else heads
            q, keys, values = (rearrange(x, f"b r n {split} -> b r m n d", m=m) for x in (q, keys, values))
            width = q.shape[-1] * (heads if all_channels else 1)
            weights = (q @ keys.transpose(-2, -1) * width**power).softmax(dim=axis)
            return rearrange(weights @ values, f"b r m n d -> b r n {merge}")

        return answer

    def mixed(q: Tensor, keys: Tensor, values: Tensor, heads: int) -> Tensor:
        q, keys, values = (x.reshape(*x.shape[:2], heads, x.shape[2], -1) for x in (q, keys, values))
        weights = (q @ keys.transpose(-2, -1) * q.shape[-1] ** -0.5).softmax(dim=-1)
        return rearrange(weights @ values, "b r m n d -> b r n (m d)")

    def unmoved(attended: Answer) -> Answer:
        """Heads that stand before the tokens still when they are reshaped away."""

        def answer(q: Tensor, keys: Tensor, values: Tensor, heads: int) -> Tensor:
            out = rearrange(attended(q, keys, values, heads), "b r n (m d) -> b r m n d", m=heads)
            return out.reshape(q.shape)

        return answer

    mistakes = [
        Mistake("The scale is missing: multiply the scores by (c / heads)^(-1/2).", attend(power=0)),
        Mistake("You scale by all channels. Here count the channels of one head, c / heads.",
                attend(all_channels=True)),
        Mistake("You multiply by the root of the head's channels. Divide by it.", attend(power=0.5)),
        Mistake("Your softmax runs over the queries. For each query, the weights of the keys must sum to 1.",
                attend(axis=-2)),
        Mistake("Your softmax runs over the heads. It must run over the keys.", attend(axis=2)),
        Mistake("Your heads take every m-th channel. A head holds neighbouring channels: (m d), not (d m).",
                attend(split="(d m)", merge="(d m)")),
        Mistake("You put the heads together in another order than you took them apart: (m d) both times.",
                attend(merge="(d m)")),
        Mistake("You use one head for all channels. Split the channels first.", attend(one_head=True)),
        Mistake("You use one head for all channels. Split the channels first.",
                lambda q, keys, values, heads: attend(one_head=True)(q * heads**0.5, keys, values, heads)),
        Mistake("You reshape (tokens, c) to (heads, tokens, d) at once, which mixes tokens and channels. Split the "
                "channels, then move the heads in front of the tokens.", mixed),
        Mistake("Your heads still stand before the tokens when you put them together: move them back behind, then "
                "reshape.", unmoved(attend())),
        Mistake("You reshape (tokens, c) to (heads, tokens, d) at once, and back: that mixes tokens and channels. "
                "Split the channels, then move the heads.", unmoved(mixed)),
        Mistake("Keys and values are swapped: scores come from the keys, and the values are summed.",
                lambda q, keys, values, heads: attend()(q, values, keys, heads)),
        Mistake("You add up keys. The weights come from the keys, but they weigh values.",
                lambda q, keys, values, heads: attend()(q, keys, keys, heads)),
    ]  # fmt: skip
    inputs = [
        (numbers(1, 1, 2, 8), numbers(1, 1, 3, 8, seed=1), numbers(1, 1, 3, 8, seed=2), 2),
        (numbers(2, 3, 5, 28), numbers(2, 3, 6, 28, seed=1), numbers(2, 3, 6, 28, seed=2), 4),
        (100 * numbers(1, 2, 3, 4), numbers(1, 2, 5, 4, seed=1), numbers(1, 2, 5, 4, seed=2), 2),  # e^100 is no number
    ]
    return judge(attend_by_hand, inputs, attend(), mistakes, "Every head attends as it should.")


def attention_recall(of_a_query, routed, dense) -> Verdict:
    """Weights of one query and head, of one image, and of dense attention: 56 x 56 tokens, R = 49, k = 2, 4 heads."""
    facts = [
        Fact("my_weights_of_a_query", of_a_query, 128, "One for each token that is read: k regions of T tokens.", {
            64: "That is one region. k = 2 are read.",
            512: "You count all heads. One is asked for.",
            2: "Every token of a region that is read gets a weight, not every region.",
        }),
        Fact("my_weights", routed, 1_605_632, "Heads times queries times the weights of a query.", {
            401_408: "That is one head. There are 4.",
            25_088: "You count a query for each region. Each of the 56 x 56 tokens asks.",
        }),
        Fact("my_dense_weights", dense, 39_337_984, "Heads times queries times keys, and every token is a key.", {
            9_834_496: "That is one head. There are 4.",
        }),
    ]  # fmt: skip
    return recall(facts, "Dense attention has R / k = 24.5 times as many.")
