"""Recipes: settings of a training run that go together."""

from dataclasses import replace

from bra.train.augment import Augment
from bra.train.config import TrainConfig


def recall() -> TrainConfig:
    """The built-in task: a BiFormer whose only news travels by routing, 500 steps of 128 fresh boards.

    Command: `python -m bra.train recall`. Hardware: two CPU cores, a minute. Expected: 100% of the held-out boards, hit
    rate 1.00. Run, with three seeds: book/results/recall_routers.json, top-4.
    """
    return TrainConfig()


def dense_recall() -> TrainConfig:
    """The built-in task asking where: mark the pixels of the glyph that has the square's colour, 400 steps.

    The same network without leaks, and on it a head with which every token paints its own pixels. With --data
    recall-boxes, its box: each token speaks of one box, by torchvision's FCOS; `pip install "bra[dense]"`.
    Command: `python -m bra.train dense-recall`. Hardware: two CPU cores, two minutes. Run, with three seeds:
    book/results/dense_recall.json.
    """
    return TrainConfig(data="recall-pixels", steps=400)


def fashion_mnist() -> TrainConfig:
    """Fashion-MNIST, BiFormer nano, 4 epochs, no augmentation.

    Command: `python -m bra.train fashion-mnist`, with Debian's package dataset-fashion-mnist, or with
    --data fashion-mnist:FOLDER. Hardware: two CPU cores, five minutes. Expected: 90%. Run with three seeds and five
    routers: book/results/fashion_mnist.json.
    """
    return TrainConfig(data="fashion-mnist:/usr/share/datasets/fashion-mnist", model="nano", epochs=4.0)


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
}
