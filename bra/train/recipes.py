"""Recipes: settings of a training run that go together."""

from dataclasses import replace

from bra.train.augment import Augment
from bra.train.config import TrainConfig
from bra.train.tasks import Dense

# what the official dense recipes share: BiFormer-T's weight decay, no clipping, and how it runs on GPUs
OFFICIAL = TrainConfig(model="tiny", weight_decay=1e-4, clip=None, precision="bf16", workers=4)


def recall() -> TrainConfig:
    """The built-in task: a BiFormer whose only news travels by routing, 500 steps of 128 fresh boards.

    Command: `python -m bra.train recall`. Hardware: two CPU cores, a minute. Expected: 100% of the held-out boards, hit
    rate 1.00. Run, with three seeds: book/results/recall_routers.json, top-4.
    """
    return TrainConfig()


def dense_recall() -> TrainConfig:
    """The built-in task asking where: mark the pixels of the glyph that has the square's colour, 400 steps.

    The same network without leaks, and on it a head with which every token paints its own pixels. With --data
    recall-boxes, its box: each token speaks of one box, by torchvision's FCOS; this needs the extra `dense`.
    Command: `python -m bra.train dense-recall`. Hardware: two CPU cores, two minutes. Expected: an IoU of 0.99.
    Run, with three seeds: book/results/dense_recall.json, top-4. Boards of 64 pixels, read on two levels: --model
    board-pyramid --recall.cells 8 --batch 64 --steps 300 --learning-rate 6e-3, an IoU of 0.98 with one seed, and 0.00
    at the usual rate (book/results/dense_recall_64.json).
    """
    return TrainConfig(data="recall-pixels", steps=400)


def fashion_mnist() -> TrainConfig:
    """Fashion-MNIST, BiFormer nano, 4 epochs, no augmentation.

    Command: `python -m bra.train fashion-mnist`, with Debian's package dataset-fashion-mnist, or with
    --data fashion-mnist:FOLDER. Hardware: two CPU cores, five minutes. Expected: 90%. Run with three seeds and five
    routers: book/results/fashion_mnist.json.
    """
    return TrainConfig(data="fashion-mnist:/usr/share/datasets/fashion-mnist", model="nano", epochs=4.0)


def own_masks() -> TrainConfig:
    """Your own masks, few and small: a Semantic FPN on BiFormer nano, 100 steps of 4 crops of 128 x 128 pixels.

    No weights to start from. Regions of 32 pixels, 16 of them in a crop, of which each reads 4. Larger images:
    --image-size 256; a longer run: --steps 1000.
    Command: `python -m bra.train own-masks --data masks:my_images`. Hardware: one CPU core, a minute or two. Expected:
    with `python -m bra.data nuclei --out my_images`, 12 pictures to learn from, what book/results/nuclei.json has for
    top-4. Run, with one seed.
    """
    return TrainConfig(
        data="masks:my_images",
        dense=Dense(head="semantic-fpn", region=32),
        steps=100,
        evaluate_every=20,
        batch=4,
        warmup=10,
        image_size=128,
    )


def segmentation() -> TrainConfig:
    """ADE20K, Semantic FPN on BiFormer-T: 80,000 steps of 32 crops of 512 x 512 pixels, half a cosine from 2e-4.

    Regions of 64 pixels: 8 x 8 of them at 512, as the official configuration has it
    (semantic_segmentation/configs/ade20k/sfpn.biformer_small.py: AdamW, weight decay 1e-4, 1,000 steps of warm-up, drop
    path 0.15, batch norm over all GPUs). Its photometric distortion is left out; so is fp16, for bf16.
    Start from ImageNet: --weights CHECKPOINT. Command: `torchrun --nproc_per_node 8 -m bra.train segmentation --data
    ade20k:ADEChallengeData2016 --weights biformer_tiny.pth`. Hardware: 8 GPUs. Expected: the paper reports 48.9 mIoU
    for S. Not run.
    """
    return replace(
        OFFICIAL,
        data="ade20k:data/ADEChallengeData2016",
        dense=Dense(head="semantic-fpn", region=64),
        steps=80_000,
        evaluate_every=4_000,
        batch=32,
        learning_rate=2e-4,
        warmup=1_000,
        drop_path=0.15,
        image_size=512,
    )


def upernet() -> TrainConfig:
    """ADE20K, UPerNet on BiFormer-T: 160,000 steps of 16 crops, a line from 6e-5 to 0.

    As semantic_segmentation/configs/ade20k/upernet.biformer_small.py: weight decay 0.01, 1,500 steps of warm-up, drop
    path 0.3; its auxiliary head and its dropout are left out. Expected: the paper reports 49.8 mIoU for S, 50.8 at
    several scales. Command: `torchrun --nproc_per_node 8 -m bra.train upernet --data ade20k:ADEChallengeData2016
    --weights biformer_tiny.pth`; needs the extra `dense`. Hardware: 8 GPUs. Not run.
    """
    return replace(
        segmentation(),
        dense=Dense(head="upernet", region=64),
        steps=160_000,
        evaluate_every=16_000,
        batch=16,
        learning_rate=6e-5,
        decay="linear",
        warmup=1_500,
        weight_decay=0.01,
        drop_path=0.3,
    )


def detection() -> TrainConfig:
    """COCO, RetinaNet on BiFormer-T, 1x: 12 epochs of 16 images, shorter side 800, rate 1e-4, a tenth after 8 and 11.

    As object_detection/configs/coco/retinanet.1x.biformer_small.py: AdamW, weight decay 1e-4, 500 steps of warm-up,
    drop path 0.2; fp16 there, bf16 here. Its grid is 16 x 16 whatever the image, 50 to 83 pixels a region: here 64.
    Batch norm keeps its running statistics in training, as there (norm_eval of models_mm/biformer_mm.py).
    Start from ImageNet: --weights CHECKPOINT. Command: `torchrun --nproc_per_node 8 -m bra.train detection --data
    coco:data/coco --weights biformer_tiny.pth`; needs the extra `dense`. Hardware: 8 GPUs. Expected: the paper
    reports 45.9 AP for S. Not run.
    """
    return replace(
        OFFICIAL,
        data="coco:data/coco",
        dense=Dense(head="retinanet", region=64, batch_norm="frozen"),
        epochs=12.0,
        batch=16,
        learning_rate=1e-4,
        decay="steps",
        warmup=500,
        drop_path=0.2,
        image_size=800,
    )


def mask_rcnn() -> TrainConfig:
    """COCO, Mask R-CNN on BiFormer-T, 1x: as `detection`, with weight decay 0.05.

    As object_detection/configs/coco/maskrcnn.1x.biformer_small.py. Command: `torchrun --nproc_per_node 8 -m bra.train
    mask-rcnn --data coco:data/coco --weights biformer_tiny.pth`. Hardware: 8 GPUs. Expected: the paper reports 47.8 AP
    of boxes and 43.2 of masks for S. Not run.
    """
    made = detection()
    return replace(made, dense=replace(made.dense, head="mask-rcnn"), weight_decay=0.05)


def paper() -> TrainConfig:
    """The paper's recipe for ImageNet-1k (section 4.1, and the official configuration): BiFormer-T, 300 epochs.

    AdamW, rate 1e-3 at batch 1024, 5 epochs of warm-up, weight decay 0.05, drop path 0.1 (for S: --drop-path 0.15),
    RandAugment 9, MixUp 0.8, CutMix 1.0, erasing 0.25, label smoothing 0.1, no clipping. Evaluated are the weights
    themselves: the official code also keeps an average, of decay 0.99996. Repeated augmentation, which the official
    arguments turn on by default, is left out.
    Command: `torchrun --nproc_per_node 8 -m bra.train paper --data folder:IMAGENET`. Hardware: 8 GPUs. Hours: not
    known. Expected: the paper reports 81.4% top-1 for T and 83.8% for S. Not run.
    """
    return TrainConfig(
        data="folder:data/imagenet",
        model="tiny",
        epochs=300.0,
        batch=1024,
        learning_rate=1e-3,
        learning_rate_batch=1024,
        warmup_epochs=5.0,
        clip=None,
        drop_path=0.1,
        augment=Augment(
            least_area=0.08, flip=0.5, rand_augment=9.0, mixup=0.8, cutmix=1.0, erasing=0.25, smoothing=0.1
        ),
        centre=0.875,
        precision="bf16",
        workers=8,
    )


def imagenet100() -> TrainConfig:
    """ImageNet-100 from scratch, BiFormer-T: the paper's recipe with 100 epochs, clipping, and averaged weights.

    100 epochs of 126,689 images in batches of 1024 are 12,300 steps. The average's decay 0.999 looks back 1,000 steps,
    8 epochs; ImageNet-1k's 0.99996 is meant for 25,000, twice the run.
    Command: `python -m bra.train imagenet100 --data folder:data/imagenet100`. Hardware: one GPU of 80 GB; with less
    memory, --accumulate 4. Hours and accuracy: not run; notebook 13 has estimates, and what others reach.
    """
    return replace(paper(), data="folder:data/imagenet100", epochs=100.0, clip=1.0, average=0.999)


RECIPES = {
    "recall": recall,
    "dense-recall": dense_recall,
    "fashion-mnist": fashion_mnist,
    "imagenet100": imagenet100,
    "paper": paper,
    "own-masks": own_masks,
    "segmentation": segmentation,
    "upernet": upernet,
    "detection": detection,
    "mask-rcnn": mask_rcnn,
}
