"Write README.md from nbs/index.ipynb: nbconvert, without the cells that only the notebook needs."
import re
from pathlib import Path

import nbformat
from nbconvert import MarkdownExporter

ROOT = Path(__file__).resolve().parent.parent


def shown(cell):
    "What a cell produced, without its code."
    data = [output["data"] for output in cell.outputs if "data" in output]
    if not data: raise SystemExit("nbs/index.ipynb holds a cell without its output: execute it (make chapters)")
    parts = [d.get("text/markdown", d["text/plain"]) for d in data]
    return nbformat.v4.new_markdown_cell("\n\n".join("".join(part) for part in parts))


def from_root(link: re.Match) -> str:
    "Links of the notebook start from nbs/, those of the README from its parent."
    goal = link[1]
    if goal.startswith(("http", "#", "mailto:")): return link[0]
    return f"]({goal[3:]}" if goal.startswith("../") else f"](nbs/{goal}"


def readme() -> str:
    "The README's text."
    nb = nbformat.read(ROOT / "nbs/index.ipynb", 4)
    # nbdev's directives (#| hide and others) mark cells for the notebook alone.
    nb.cells = [c for c in nb.cells if not re.match(r"#\|\s*(hide|default_exp)", c.source)]
    nb.cells = [shown(c) if c.source.startswith("#| echo: false") else c for c in nb.cells]
    text, _ = MarkdownExporter().from_notebook_node(nb)
    text = re.sub(r"\]\(([^)\s]*)", from_root, text)
    return "<!-- written by `make readme` from nbs/index.ipynb -->\n\n" + re.sub(r"\n{3,}", "\n\n", text).strip() + "\n"


if __name__ == "__main__":
    (ROOT / "README.md").write_text(readme(), encoding="utf-8")
