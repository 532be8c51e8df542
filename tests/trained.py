"A run folder as a profile leaves it, of an encoder trained for a few steps."
from pathlib import Path

import pandas as pd

from taco.atlas.embedding import Embeddings, embed, plan_pairs
from taco.data.store import Store
from taco.learning.encoder import EncoderConfig
from taco.learning.recipe import TrainConfig
from taco.learning.training import train
from tests.pairs import SIZE

TASKS = [
    "intensity_inversion",
    "horizontal_flip",
    "gaussian_denoising",
    "binary_segmentation",
    "outpainting",
    "brightness_change",
]


def train_run(store: Store, folder: Path) -> Path:
    "train/encoder and embed/embeddings in `folder`, which is returned."
    config = TrainConfig.of(
        steps=40,
        pairs_per_task=6,
        learning_rate=3e-3,
        device="cpu",
        precision="32",
        encoder=EncoderConfig(backbone="resnet10", width=0.25, size=SIZE),
    )
    encoder = train(store, TASKS, config, folder / "state", progress=False)
    encoder.save(folder / "train/encoder")
    plans = [
        plan_pairs(store, TASKS, split, 8, seed) for seed, split in enumerate(("train", "test"))
    ]
    plan = pd.concat(plans, ignore_index=True)
    Embeddings(plan, {"taco": embed(encoder, store, plan)}).save(folder / "embed/embeddings")
    return folder
