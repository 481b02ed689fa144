"""`python book/picture.py`: the picture of the start page, of the network in book/results/recall-topk."""

from pathlib import Path

from bra.files import results
from bra.train.evaluation import evaluate
from bra.train.models import load_model
from bra.train.report import draw_boards

OUT = Path(__file__).parent / "_static" / "boards.png"

if __name__ == "__main__":
    model, data, _ = load_model(results("recall-topk"))
    picture = draw_boards(model, data, evaluate(model, data)["hit_rate"])
    picture.figure.savefig(OUT, dpi=110, bbox_inches="tight")
    print(OUT)
