"""Pictures that are stored in notebooks, in a palette of 256 colours: `python -m tools.lighten nbs`.

A third of the size, by the palette of `taco.style.few_colours`; a picture that would not become smaller stays as it is.
"""
import base64
import io
import sys
from pathlib import Path

import nbformat
from PIL import Image

from taco.style import few_colours


def lighter(png: bytes) -> bytes:
    "The picture in at most 256 colours, if that is smaller."
    with Image.open(io.BytesIO(png)) as image:
        if image.mode == "P": return png
        flat = Image.new("RGB", image.size, "white")
        flat.paste(image, mask=image.getchannel("A") if "A" in image.getbands() else None)
    out = io.BytesIO()
    few_colours(flat).save(out, "png", optimize=True)
    return min(out.getvalue(), png, key=len)


def lighten(notebook: Path) -> int:
    "Rewrite the pictures of a notebook; the bytes saved."
    nb = nbformat.read(notebook, 4)
    saved = 0
    for output in (o for cell in nb.cells for o in cell.get("outputs", [])):
        if "image/png" not in output.get("data", {}): continue
        before = base64.b64decode(output["data"]["image/png"])
        after = lighter(before)
        output["data"]["image/png"] = base64.b64encode(after).decode()
        saved += len(before) - len(after)
    if saved: nbformat.write(nb, notebook)
    return saved


if __name__ == "__main__":
    files = [f for folder in sys.argv[1:] for f in sorted(Path(folder).rglob("*.ipynb"))]
    total = sum(lighten(f) for f in files if ".ipynb_checkpoints" not in f.parts)
    print(f"{total / 1e6:.1f} MB saved in {len(files)} notebooks")
