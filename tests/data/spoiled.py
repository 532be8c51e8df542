"Files of a made dataset, each spoiled in one way."

from pathlib import Path

import numpy as np
import tifffile
from PIL import Image

from tests.data.made import disc

FAULTS = {
    "unreadable image": ("p01_02.png", "image"),
    "truncated image": ("p01_02.png", "image"),
    "missing mask": ("p01_02.png", "mask"),
    "missing image": ("p01_02.png", "image"),
    "other size": ("p01_02.png", "mask"),
    "undeclared label": ("p01_02.png", "mask"),
    "unreadable mask": ("p01_02.png", "mask"),
    "nan": ("p01_02.tif", "image"),
}


def spoil(folder: Path, fault: str) -> None:
    image, mask = folder / "images" / "p01_02.png", folder / "masks" / "p01_02.png"
    if fault == "unreadable image":
        image.write_bytes(b"this is no picture")
    elif fault == "truncated image":
        image.write_bytes(image.read_bytes()[:300])
    elif fault == "missing mask":
        mask.unlink()
    elif fault == "missing image":
        image.unlink()
    elif fault == "other size":
        Image.fromarray(np.zeros((20, 24), np.uint8)).save(mask)
    elif fault == "undeclared label":
        Image.fromarray((disc(2)[1] * 200).astype(np.uint8)).save(mask)
    elif fault == "unreadable mask":
        mask.write_bytes(b"")
    elif fault == "nan":
        image.unlink()
        pixels = disc(2)[0].astype(np.float32)
        pixels[3, 4] = np.nan
        tifffile.imwrite(image.with_suffix(".tif"), pixels)
