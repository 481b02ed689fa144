"""The settings of a training run."""

import math
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Literal

from bra.biformer import MODELS, initialise_alike, initialise_by_width
from bra.data import BOARDS, DataSet, DenseSettings, ImageSettings, open_data
from bra.data.recall import Recall
from bra.train.augment import Augment
from bra.train.parallel import PRECISIONS
from bra.train.routers import ROUTERS
from bra.train.tasks import Dense

DECAYS = ("cosine", "linear", "steps")
STARTS = {"alike": initialise_alike, "independent": initialise_by_width}
PLACE = (
    "device",
    "workers",
    "tensorboard",
    "out",
    "resume",
)  # where a run happens: not kept in config.json, and free to change


@dataclass(frozen=True)
class TrainConfig:
    """Train a BiFormer and keep its settings, metrics, weights and pictures in a run folder."""

    data: str = "recall"
    """What to learn. Of an image: recall, fashion-mnist:FOLDER, folder:FOLDER (with train/CLASS/* and val/CLASS/*),
    hf:NAME. Of its pixels: recall-pixels, ade20k:FOLDER, masks:FOLDER. Boxes: recall-boxes, coco:FOLDER."""
    model: Literal[(*MODELS,)] | None = None
    """Which BiFormer; None: board for boards, nano for other data. board-pyramid: board with its second block a level
    higher."""
    weights: Path | None = None
    """Stages to start from: a published checkpoint, or model.safetensors of a run; None: random ones."""
    dense: Dense = field(default_factory=Dense)
    """What stands on the stages, for data of pixels or boxes."""
    router: Literal[(*ROUTERS,)] = "topk"
    """Who chooses the regions: content (topk), a fixed table, or nobody (all)."""
    k: int | None = None
    """Regions that each region reads; None: as the model has it."""
    without: tuple[Literal["lce", "position"], ...] = ()
    """Parts to leave out, to see what they are good for: the LCE, the position code."""
    start: Literal[(*STARTS,)] | None = None
    """W_k before training: equal to W_q, so that like finds like, or drawn independently; None: as the model has it."""
    steps: int | None = None
    """Length of training in steps; None: epochs, or as suits the data."""
    epochs: float | None = None
    """Length of training in passes over the training images, instead of steps."""
    batch: int = 128
    """Images a step, over all processes and parts of a step together."""
    accumulate: int = 1
    """Parts in which each process takes a step, to save memory; batch norm and mixing see one part at a time."""
    learning_rate: float = 2e-3
    """Peak of the learning rate, reached by a linear warm-up."""
    decay: Literal[DECAYS] = "cosine"
    """How it falls: half a cosine to 0, a line to 0, or to a tenth after 8/12 and again after 11/12 of the steps."""
    learning_rate_batch: int | None = None
    """The batch that learning_rate is meant for: with another batch it is scaled in proportion. None: never scaled."""
    warmup: int | None = None
    """Steps of warm-up; None: warmup_epochs, or 100, or a fifth of a shorter run."""
    warmup_epochs: float | None = None
    """Epochs of warm-up, instead of steps."""
    weight_decay: float = 0.05
    """AdamW's, on weight matrices and filters; not on biases and norms."""
    clip: float | None = 1.0
    """The gradient's norm is cut down to this; None: never."""
    drop_path: float = 0.0
    """Stochastic depth in the last block, rising from 0."""
    average: float = 0.0
    """Decay of the moving average of the weights, which is then what is evaluated and kept; 0: no average."""
    augment: Augment = field(default_factory=Augment)
    """Augmentation of the training images."""
    evaluate_every: int | None = None
    """Steps between two evaluations on held-out images, each with a checkpoint; None: an epoch, 100 for recall."""
    image_size: int = 224
    """Side of photographs, in pixels."""
    centre: float = 1.0
    """Share of the shorter side that held-out photographs are cut down to."""
    corrupt: Literal["fatal", "skip"] = "fatal"
    """Damaged images: end the run, or leave them out, count them and name them."""
    workers: int = 2
    """Processes that decode photographs, for each process that trains."""
    precision: Literal[(*PRECISIONS,)] = "fp32"
    """What autocast computes matrix products in while training. Evaluation is in fp32."""
    compile: bool = False
    """Compile the model with torch.compile: minutes at the start, for steps that are faster on a GPU."""
    seed: int = 0
    """Seed of weights, data, augmentation and drop path."""
    recall: Recall = field(default_factory=Recall)
    """Difficulty of the recall boards."""
    device: str = "auto"
    """cpu, cuda, mps, ...; auto takes the best there is."""
    tensorboard: bool = False
    """Write the metrics for TensorBoard too, into the run folder."""
    out: Path | None = None
    """The run folder; None: runs/DATA-ROUTER."""
    resume: bool = False
    """Go on with the run in the folder, if there is one."""

    def __post_init__(self):
        choices = {"model": (None, *MODELS), "start": (None, *STARTS), "router": ROUTERS, "precision": PRECISIONS}
        choices["decay"] = DECAYS
        for name, allowed in choices.items():
            if getattr(self, name) not in allowed:
                raise ValueError(
                    f"{name} must be one of {', '.join(filter(None, allowed))}, but is {getattr(self, name)!r}"
                )
        lowest = {"steps": 1, "batch": 1, "accumulate": 1, "learning_rate_batch": 1, "warmup": 0, "evaluate_every": 1}
        for name, least in lowest.items():
            value = getattr(self, name)
            if value is not None and value < least:
                raise ValueError(f"{name} must be at least {least}, but is {value}")
        for name in ("learning_rate", "clip", "epochs"):
            value = getattr(self, name)
            if value is not None and not 0 < value < math.inf:
                raise ValueError(f"{name} must be above 0 and finite, but is {value}")
        for name in ("weight_decay", "warmup_epochs"):
            value = getattr(self, name)
            if value is not None and not 0 <= value < math.inf:
                raise ValueError(f"{name} must be at least 0 and finite, but is {value}")
        if not 0 <= self.average < 1:
            raise ValueError(f"average must be at least 0 and below 1, but is {self.average}")
        for steps, epochs in (("steps", "epochs"), ("warmup", "warmup_epochs")):
            if getattr(self, steps) is not None and getattr(self, epochs) is not None:
                raise ValueError(
                    f"{steps} must be left out where {epochs} are given, but is {getattr(self, steps)} "
                    f"(a recipe may give them: then add --{epochs.replace('_', '-')} None)"
                )
        if self.router == "all" and self.k is not None:
            raise ValueError(f"k must be left out with router all, which reads every region, but is {self.k}")
        if self.dense.region and self.router != "topk":
            raise ValueError(
                f"dense.region must be left out with router {self.router}, whose tables are for one grid, "
                f"but is {self.dense.region}"
            )
        if self.on_boards and self.augment != Augment():
            raise ValueError(f"augment must be left out for {self.data}, whose boards are always fresh")
        if self.model_name.startswith("board") and self.without:
            raise ValueError(
                f"without must be left out for model {self.model_name}, which has neither LCE nor position code, "
                f"but is {', '.join(self.without)}: with model nano there is something to leave out"
            )
        self.images()

    @property
    def model_name(self) -> str:
        """Of the model, chosen by the data if it is not given."""
        return self.model or ("board" if self.on_boards else "nano")

    @property
    def on_boards(self) -> bool:
        """Whether the images are boards, on which the right route is known."""
        return self.data in BOARDS

    def images(self) -> ImageSettings:
        """How photographs are read."""
        return ImageSettings(self.image_size, self.augment.least_area, self.centre, self.corrupt, self.workers)

    def open_data(self) -> DataSet:
        """The data set. Raises what `bra.data.open_data` raises."""
        masks = self.dense.head == "mask-rcnn"
        dense = DenseSettings(self.image_size, masks=masks, workers=self.workers, corrupt=self.corrupt)
        return open_data(self.data, self.recall, self.images(), dense)

    def folder(self) -> Path:
        """Where the run is kept."""
        return self.out.expanduser() if self.out else Path("runs") / f"{self.data.partition(':')[0]}-{self.router}"

    def settings(self) -> dict:
        """What makes the run what it is: all but where it runs and is kept."""
        kept = {name: value for name, value in asdict(self).items() if name not in PLACE}
        return kept | {"weights": self.weights and str(self.weights)}

    def resolved(self, data: DataSet, parts: int = 1) -> "TrainConfig":
        """The same with steps for epochs and a scaled learning rate, as `data` and the batch have it.

        Raises ValueError if an epoch is shorter than a batch, if epochs are asked of data that is made, or RandAugment
        of images without colour.
        """
        data.require_batch(self.batch, parts)
        made = math.isinf(data.count)
        for name, value in {"epochs": self.epochs, "warmup_epochs": self.warmup_epochs}.items():
            if made and value:
                raise ValueError(f"{name} must be steps for {self.data}, whose images never end, but is {value}")
        if data.asks == "classes" and self.dense != Dense():
            raise ValueError(f"dense must be left out for {self.data}, whose images have one class each")
        if data.asks != "classes" and self.augment != Augment():
            raise ValueError(
                f"augment must be left out for data of {data.asks}, which are cropped and flipped by themselves"
            )
        if self.augment.rand_augment and data.channels != 3:
            raise ValueError(
                f"augment.rand_augment must be 0 for images without colour, but is {self.augment.rand_augment}"
            )
        epoch = 100 if made else data.count // self.batch  # steps
        steps = self.steps or (max(1, round(self.epochs * epoch)) if self.epochs else data.steps)
        warmup = min(100, steps // 5) if self.warmup is None else self.warmup
        warmup = warmup if self.warmup_epochs is None else round(self.warmup_epochs * epoch)
        if warmup >= steps:
            advice = ", as warmup_epochs say: add --warmup-epochs None" if self.warmup_epochs else ""
            raise ValueError(f"warmup must be shorter than the run, {steps} steps, but is {warmup}{advice}")
        every = self.evaluate_every or epoch
        scale = self.batch / (self.learning_rate_batch or self.batch)
        return replace(
            self,
            model=self.model_name,
            steps=steps,
            epochs=None,
            warmup=warmup,
            warmup_epochs=None,
            learning_rate=self.learning_rate * scale,
            learning_rate_batch=None,
            evaluate_every=every if every <= steps else max(1, steps // 10),  # a recipe's, for a run cut short
        )

    @classmethod
    def from_settings(cls, settings: dict, **place) -> "TrainConfig":
        """The config whose `settings` went into a config.json. Raises ValueError if they are of another version."""
        nested = {"recall": Recall, "augment": Augment, "dense": Dense}
        try:
            parts = {name: part(**settings[name]) for name, part in nested.items()}
            parts |= {
                "without": tuple(settings["without"]),
                "weights": settings["weights"] and Path(settings["weights"]),
            }
            return cls(**settings | parts | place)
        except (KeyError, TypeError) as error:
            raise ValueError(f"config.json must be of this version of bra, but is not: {error}") from error
