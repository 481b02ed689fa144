"""Detection: torchvision's detectors in our batches, and COCO's average precision (pycocotools)."""

import contextlib
import io

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from bra.arguments import install

INSTALL = install("dense")


def require_detection() -> None:
    """Raise ValueError unless torchvision and pycocotools can be imported."""
    try:
        import pycocotools.mask  # noqa: F401
        import torchvision.models.detection  # noqa: F401
    except (ImportError, RuntimeError, AttributeError) as error:  # of another build than torch it imports half
        raise ValueError(f"torchvision and pycocotools must be installed for boxes: {INSTALL} ({error})") from error


class DetectionNetwork(nn.Module):
    """A detector of torchvision: images of many sizes in one batch (b c h w), normalised, and what they show."""

    def __init__(self, detector: nn.Module):
        super().__init__()
        self.detector = detector

    def forward(self, images: Float[Tensor, "b c h w"], batch=None) -> dict | list[dict]:
        """In training the losses, by name; in evaluation of each image boxes, labels, scores and, if any, masks.

        batch: sizes, and in training objects, as in `bra.data`'s batches for detection; None: no image is padded.
        """
        sizes = [images.shape[2:]] * len(images) if batch is None else batch.size.tolist()
        listed = [image[:, :h, :w] for image, (h, w) in zip(images, sizes, strict=True)]
        return self.detector(listed, objects(batch) if self.training else None)


def objects(batch) -> list[dict[str, Tensor]]:
    """The objects of each image as torchvision wants them, crowds left out."""
    found = []
    for i, (h, w) in enumerate(batch.size.tolist()):
        there = (batch.label[i] > 0) & ~batch.crowd[i]
        found.append({"boxes": batch.boxes[i, there], "labels": batch.label[i, there]})
        if has_masks(batch):
            found[-1]["masks"] = batch.masks[i, there, :h, :w].to(torch.uint8)
    return found


def has_masks(batch) -> bool:
    """Whether masks were read, be there any object or not."""
    return batch.masks.shape[-1] > 0


def run_lengths(masks) -> list[dict]:
    """Masks (n h w) as COCO keeps them: run lengths, column by column."""
    from pycocotools.mask import encode

    return [encode(np.asfortranarray(mask.cpu().numpy().astype(np.uint8))) for mask in masks]


def findings(said: list[dict[str, Tensor]], batch) -> list[dict]:
    """Of each image what was said and what is true, to go into `average_precision`."""
    found = []
    for i, ((h, w), answer) in enumerate(zip(batch.size.tolist(), said, strict=True)):
        there = batch.label[i] > 0
        truth = {name: getattr(batch, name)[i, there].cpu() for name in ("boxes", "label", "crowd", "area")}
        answer = {name: value.float().cpu() for name, value in answer.items() if name in ("boxes", "labels", "scores")}
        found.append({"size": (h, w), "truth": truth, "said": answer})
        if has_masks(batch) and "masks" in said[i]:
            found[-1]["true masks"] = run_lengths(batch.masks[i, there, :h, :w])
            found[-1]["said masks"] = run_lengths(said[i]["masks"][:, 0] > 0.5)
    return found


def average_precision(found: list[dict], classes: list[str]) -> dict[str, float]:
    """COCO's average precision over IoU 0.5 to 0.95, at 0.5 and at 0.75; that of masks too, where there are any.

    found: of every image once, from `findings`. -1 where there is no object at all, as COCO's own evaluation has it.
    """
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    truth, said = [], []
    for number, image in enumerate(found, 1):
        masks = image.get("true masks")
        true, answer = image["truth"], image["said"]
        for i, box in enumerate(corner_and_size(true["boxes"])):
            entry = {"id": len(truth) + 1, "image_id": number, "category_id": int(true["label"][i]), "bbox": box}
            entry |= {"iscrowd": int(true["crowd"][i]), "area": float(true["area"][i])}
            truth.append(entry | ({"segmentation": masks[i]} if masks is not None else {}))
        for i, box in enumerate(corner_and_size(answer["boxes"])):
            entry = {"image_id": number, "category_id": int(answer["labels"][i]), "bbox": box}
            entry["score"] = float(answer["scores"][i])
            said.append(entry | ({"segmentation": image["said masks"][i]} if masks is not None else {}))
    images = [{"id": n, "height": image["size"][0], "width": image["size"][1]} for n, image in enumerate(found, 1)]
    categories = [{"id": n, "name": name} for n, name in enumerate(classes, 1)]
    kinds = {"": "bbox"} | ({"mask_": "segm"} if any("true masks" in image for image in found) else {})
    if not said:  # pycocotools refuses an empty list
        worst = 0.0 if truth else -1.0
        return {f"{prefix}{name}": worst for prefix in kinds for name in ("ap", "ap50", "ap75")}
    measures = {}
    with contextlib.redirect_stdout(io.StringIO()):  # it prints its tables
        coco = COCO()
        coco.dataset = {"images": images, "annotations": truth, "categories": categories, "info": {}}
        coco.createIndex()
        for prefix, kind in kinds.items():
            other = "segmentation" if kind == "bbox" else "bbox"  # loadRes would measure areas by boxes if it saw any
            answers = [{name: value for name, value in entry.items() if name != other} for entry in said]
            evaluation = COCOeval(coco, coco.loadRes(answers), kind)
            evaluation.evaluate()
            evaluation.accumulate()
            evaluation.summarize()
            ap, ap50, ap75 = map(float, evaluation.stats[:3])
            measures |= {f"{prefix}ap": ap, f"{prefix}ap50": ap50, f"{prefix}ap75": ap75}
    return measures


def corner_and_size(boxes: Float[Tensor, "n 4"]) -> list[list[float]]:
    """Left, top, width, height, as COCO writes boxes."""
    return torch.cat([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]], dim=1).tolist()
