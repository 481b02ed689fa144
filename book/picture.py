"""`python book/picture.py`: the picture of the start page, of the network in book/results/recall-topk."""

from pathlib import Path

import torch

from bra import draw, record_routes
from bra.files import results
from bra.train.models import load_model

OUT = Path(__file__).parent / "_static" / "boards.png"
BLOCK, BOARDS = 0, [0, 2]  # the block that the answer comes through (notebook 12); two of the held-out boards

if __name__ == "__main__":
    model, data, _ = load_model(results("recall-topk"))
    boards = next(data.held_out(4))
    with torch.no_grad(), record_routes(model) as routes:
        said = model.eval()(boards.image).argmax(dim=1)
    titles = [f"It says: {data.classes[said[i]]}. It is: {data.classes[boards.label[i]]}" for i in BOARDS]
    places = (boards.image, routes[BLOCK].index, boards.square, boards.target)
    image, index, square, target = (each[BOARDS] for each in places)
    draw.routed_boards(image, index, (4, 4), square, target, titles).save(OUT)
    print(OUT)
