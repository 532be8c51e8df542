"""Five datasets → train → embed → map: the first system in one file, nothing hidden.

    python examples/train.py            # three minutes on one core; writes example/map.png

The datasets are phantoms, images that a program draws; give `pack(..., root="/path/to/data")` to read real files.
What it is not: an evaluation. The committed runs train longer, on more datasets, and ask other encoders the same
questions; see nbs/experiments and figures/quick.
"""
from pathlib import Path

import taco
from taco.base import limit_threads
from taco.style import save_figure

FOLDER, SIZE = Path("example"), 48
DATASETS = ["bbbc010", "drive", "acdc", "busi", "kvasir"]  # cells, vessels, hearts, breasts, polyps


def main() -> None:
    limit_threads()

    # Every dataset once to one size; a subject (patient, volume, photograph) is in one split only.
    folders = [taco.pack(name, out=FOLDER / "stores", size=SIZE, subjects=40) for name in DATASETS]
    store = taco.Store.open(folders)
    print(store)

    # A small network sees batches of 30 tasks × 4 pairs; pairs of one task attract, all others repel.
    config = taco.TrainConfig.of(steps=120, learning_rate=2e-3, pairs_per_task=4,
                                 backbone="resnet10", width=.25, size=SIZE)
    trained = taco.train(store, None, config, FOLDER / "train")

    # Pairs of images that were never trained on, the same number for each task and dataset.
    plan = taco.plan_pairs(store, list(taco.ALL_TASKS), "test", 4, seed=1)
    bank = taco.plan_pairs(store, list(taco.ALL_TASKS), "train", 4, seed=0)
    known, held_out = (taco.embed(trained, store, table) for table in (bank, plan))  # (N, 128), of unit length

    # Which task do the nearest training pairs name? Chance is 1 in 30.
    named = taco.weighted_knn(known, bank["task"], held_out, k=20)
    print(f"{(named == plan['task'].to_numpy()).mean():.2f} of {len(plan)} held-out pairs are named right (phantoms)")

    # The map: one point a pair. UMAP keeps neighbours near each other, and nothing else should be read from it.
    from umap import UMAP
    xy = UMAP(metric="cosine", random_state=0).fit_transform(held_out)
    print(*save_figure(taco.draw_map(xy, plan, taco.ALL_TASKS), FOLDER / "map"))


if __name__ == "__main__":
    main()
