"Made-up volumes whose slices can be told apart, and the smallest recipe."
import pandas as pd
import torch

from taco.transfer.sequences.arms import SequenceConfig
from taco.transfer.sequences.volumes import Volumes, positions

TINY = SequenceConfig(widths=(4, 8, 8), pretrain_steps=4, anchors=3, moco_batch=8, finetune_steps=4,
                      finetune_batch=4, device="cpu", precision="32")


def made(slices: dict[str, list[int]], size: int = 32, split: dict | None = None, spacing=(2., 2., 5.),
         shuffle: int | None = None) -> Volumes:
    "Volumes of one subject each with these slice numbers; every image holds the number of its slice, plus texture."
    rows = []
    for name, numbers in slices.items():
        place, step = positions(numbers)
        about = dict(dataset="made", source="phantom", modality="CT", subject=name, volume=name,
                     split=(split or {}).get(name, "train"), spacing_row=spacing[0], spacing_column=spacing[1],
                     slice_mm=spacing[2] * step)
        rows += [about | dict(slice=n, position=p) for n, p in zip(numbers, place)]
    table = pd.DataFrame(rows)
    if shuffle is not None: table = table.sample(frac=1, random_state=shuffle).reset_index(drop=True)
    g = torch.Generator().manual_seed(0)
    texture = torch.randint(0, 60, (len(table), size, size), generator=g, dtype=torch.uint8)
    level = torch.tensor(table["slice"].to_numpy() * 5 % 190, dtype=torch.uint8)
    images = texture + level[:, None, None]
    labels = torch.zeros_like(images)
    labels[:, 8:20, 8:20], labels[:, 20:26, 8:20] = 1, 2
    return Volumes(images, labels, table, {1: "a", 2: "b"})


def equal(a: torch.nn.Module, b: torch.nn.Module) -> bool:
    "Whether all weights and statistics of two networks are the same."
    return all(torch.equal(x, y) for x, y in zip(a.state_dict().values(), b.state_dict().values()))


def alike(a: torch.nn.Module, b: torch.nn.Module) -> bool:
    "Whether all weights of two networks, and the statistics of their norms, are the same but for their scale."
    pairs = zip(a.state_dict().values(), b.state_dict().values())
    flat = [(x.flatten().double(), y.flatten().double()) for x, y in pairs if x.ndim]
    same = lambda x, y: torch.allclose(x * y.norm(), y * x.norm(), atol=1e-6) and bool(x.norm()) == bool(y.norm())
    return all(same(x, y) for x, y in flat)


def quiet(line: str) -> None: "Tell nobody."
