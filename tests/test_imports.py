"What is loaded by what: large libraries where they are used, and nowhere else. By lists of modules, not by a clock."
import ast
import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
TRAINING = {"monai", "lightning", "torchmetrics", "torch._dynamo"}  # of trainings alone
SLOW = TRAINING | {"nbformat", "jsonschema", "umap", "numba", "papermill"}
DRAWING = {"matplotlib", "seaborn", "IPython"}
TRAINERS = ("train", "image_contrast", "ums_rep", "sequence_ssl", "affinity", "grouping", "real")


def imports(notebook: Path) -> str:
    "The import statements of a notebook's cells that are not inside of anything, without its own module's."
    cells = json.loads(notebook.read_text(encoding="utf-8"))["cells"]
    trees = [ast.parse("".join(c["source"])).body for c in cells if c["cell_type"] == "code"]
    found = [node for tree in trees for node in tree if isinstance(node, (ast.Import, ast.ImportFrom))]
    found = [node for node in found if getattr(node, "module", "") != "__future__"]
    return "\n".join(ast.unparse(node) for node in found)


TELL = "\nimport sys, json; print('\\nloaded ' + json.dumps(sorted(sys.modules)))\n"


def stages(*codes: str) -> list[set[str]]:
    "Modules that a process of its own has loaded after each of these codes, run one after the other."
    code = "".join(code + TELL for code in codes)
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    told = [line.removeprefix("loaded ") for line in done.stdout.splitlines() if line.startswith("loaded ")]
    assert len(told) == len(codes)
    return [set(json.loads(line)) for line in told]


def loaded(code: str) -> set[str]: return stages(code)[0]


def test_the_door_loads_nothing():
    assert not loaded("import taco") & (SLOW | DRAWING | {"numpy", "pandas", "torch", "scipy"})


def test_a_command_loads_neither_network_nor_drawing():
    found = loaded("import taco.cli.main, taco.cli.data, taco.cli.atlas")
    assert not found & (SLOW | DRAWING | {"torch", "scipy", "skimage", "sklearn"})
    assert not {name for name in found if name.startswith("taco.data.phantoms")}


def test_checking_data_loads_neither_network_nor_drawing(tmp_path):
    "`taco data list` and `taco data check`, run to their end."
    code = f"import os; os.chdir({str(tmp_path)!r})\nfrom taco.cli.main import app"
    for words in (["data", "list"], ["data", "check", "acdc"]):
        code += f"\nprint(app({words!r}, standalone_mode=False))"
    found = loaded(code)
    assert "taco.data.check" in found and not found & (SLOW | DRAWING | {"torch", "sklearn"})


def test_analyses_and_chapters_load_what_they_are_about_and_only_trainings_lightning():
    """In one process: all analysis experiments, and what they open: a store, an encoder, embeddings; then the chapters
    that do not train; then a training. MONAI is loaded where its losses, scores and layers are used."""
    books = [p for p in sorted((ROOT / "nbs/experiments").glob("*.ipynb")) if p.stem not in TRAINERS]
    opened = "import taco.data.store, taco.atlas.embedding\nfrom taco import EncoderConfig, PairEncoder"
    analyses = "\n".join([*map(imports, books), opened, "PairEncoder(EncoderConfig(size=32, width=.25))"])
    trains = ("learning/06", "learning/07", "learning/08", "learning/10", "learning/12", "learning/14", "rivals/02",
              "transfer", "experiments", "index", "tour", "decisions", "guides")
    chapters = [p for p in sorted((ROOT / "nbs").rglob("*.ipynb"))
                if not any(part in p.relative_to(ROOT / "nbs").as_posix() for part in trains)]
    assert len(books) > 10 and len(chapters) > 90
    training = imports(ROOT / "nbs/experiments/train.ipynb")
    first, second, third = stages(analyses, "\n".join(map(imports, chapters)), training)
    assert {"torch", "sklearn", "matplotlib"} <= first  # or nothing was looked at
    assert not first & SLOW
    assert "skimage" in second and "taco.cli.atlas" in second - first
    assert not second & (TRAINING | {"umap", "numba", "papermill"})
    assert "lightning" in third


def test_packing_draws_nothing():
    behind = "\nimport taco.data.pack, taco.data.phantoms.catalogue"
    found = loaded(imports(ROOT / "nbs/experiments/pack.ipynb") + behind)
    assert not found & (SLOW | DRAWING | {"sklearn"})


def test_reading_parameters_needs_no_schema():
    "A schema of notebooks costs more to load than all else of a command."
    code = "import taco.workflow.publish, taco.workflow.doctor, taco.workflow.parameters as known"
    assert not loaded(code + "\nknown.declared_parameters('train')") & {"nbformat", "jsonschema"}


def test_a_run_builds_no_grammar_of_addresses():
    "Behind the checks of notebooks; it takes more than a second, and no notebook is checked by it."
    book = ROOT / "nbs/index.ipynb"
    code = f"from taco.reading import read_notebook\nread_notebook({str(book)!r})"
    code += "\nfrom taco.base import GRAMMAR, without\nwith without(GRAMMAR):\n    import papermill"
    found = loaded(code)
    assert {"nbformat", "jsonschema", "papermill"} <= found and not found & {"lark", "rfc3987_syntax"}
