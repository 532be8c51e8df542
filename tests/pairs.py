"Pairs of images as somebody else's files, for the tests that read them."
from pathlib import Path

import numpy as np
import tifffile
import torch
from PIL import Image

from taco.tasks.task import get_task

SIZE = 32


def save(file: Path, image) -> None:
    "A (3, S, S) or (H, W) image in [0, 1], or an array of pixels, as a file."
    image = np.asarray(image)
    if image.dtype.kind == "f" and file.suffix != ".npz":
        image = (image * 255).round().astype(np.uint8)
    if image.ndim == 3 and image.shape[0] == 3: image = image.transpose(1, 2, 0)
    file.parent.mkdir(parents=True, exist_ok=True)
    if file.suffix == ".npz": np.savez(file, image)
    elif file.suffix in (".tif", ".tiff"): tifffile.imwrite(file, image)
    else: Image.fromarray(image).save(file)


def save_pairs(folder: Path, input, output, kind=".png") -> Path:
    for i, pair in enumerate(zip(input, output)):
        for word, image in zip(("input", "output"), pair): save(folder / word / f"{i}{kind}", image)
    return folder


def pairs_of(store, name, count=8, seed=50):
    rows = store.select(split="test", task=get_task(name))[:count]
    return get_task(name)(store.batch(rows), seeds=torch.arange(len(rows)) + seed)
