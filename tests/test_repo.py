"The bars of the house: what is generated is in step, and a file is named after the one thing it shows."
import ast
import configparser
import json
import re
import shutil
import subprocess
import sys
import zlib
from pathlib import Path

import nbformat
import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parent.parent
BIN = Path(sys.executable).parent
ROOMS = ["data", "tasks", "learning", "atlas", "transfer", "workflow", "cli"]


def tracked(*patterns: str) -> list[Path]:
    "Files of the repository by pattern, without what tools leave behind."
    found = [p for pattern in patterns for p in sorted(ROOT.glob(pattern))]
    return [p for p in found if not {"__pycache__", ".ipynb_checkpoints", ".venv"} & set(p.parts)]


NOTEBOOKS = tracked("nbs/**/*.ipynb")
CHAPTERS = [p for p in NOTEBOOKS if p.parent != ROOT / "nbs/experiments"]
EXPERIMENTS = [p for p in NOTEBOOKS if p.parent == ROOT / "nbs/experiments"]
MODULES = [p for p in tracked("taco/**/*.py") if p.name != "_modidx.py"]
SCRIPTS = tracked("tests/**/*.py", "benchmarks/*.py", "tools/*.py", "examples/*.py")


def named(path: Path) -> str:
    return str(path.relative_to(ROOT))


def cells(notebook: Path) -> list[tuple[str, str, list]]:
    "(kind, source, outputs) of every cell."
    content = json.loads(notebook.read_text(encoding="utf-8"))
    return [(c["cell_type"], "".join(c["source"]), c.get("outputs", [])) for c in content["cells"]]


def code_of(notebook: Path) -> list[str]:
    "The lines of its code cells."
    return [line for kind, source, _ in cells(notebook) if kind == "code" for line in source.split("\n")]


def is_exported(kind: str, source: str) -> bool:
    return kind == "code" and re.search(r"(?m)^#\|\s*export", source) is not None


# ── what is generated ─────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture(scope="module")
def copy(tmp_path_factory) -> Path:
    "A copy of what nbdev reads and writes, so that a test never changes the working tree."
    folder = tmp_path_factory.mktemp("copy")
    for name in ("nbs", "taco"):
        ignored = shutil.ignore_patterns("__pycache__", ".ipynb_checkpoints")
        shutil.copytree(ROOT / name, folder / name, ignore=ignored)
    for name in ("settings.ini", "setup.py", "pyproject.toml"): shutil.copy(ROOT / name, folder / name)
    return folder


@pytest.mark.parametrize("command", ["nbdev_export", "nbdev_clean"])
def test_nbdev_changes_nothing(copy, command):
    def contents() -> dict[str, bytes]:
        patterns = ("nbs/**/*.ipynb", "taco/**/*.py", "*.ini", "*.toml", "*.py")
        files = [p for pattern in patterns for p in copy.glob(pattern) if "__pycache__" not in p.parts]
        return {str(p.relative_to(copy)): p.read_bytes() for p in files}
    before = contents()
    done = subprocess.run([BIN / command], cwd=copy, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    after = contents()
    assert [n for n in after if before.get(n) != after[n]] == [] and set(before) == set(after)


def test_readme_is_the_index_notebook():
    from tools.readme import readme
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert text == readme(), "run `make readme`"
    assert "fig11_sequences.png" in text, "the answers are missing"


def test_lock_satisfies_settings():
    settings = configparser.ConfigParser(delimiters=["="])
    settings.read(ROOT / "settings.ini", encoding="utf-8")
    wanted = (settings["DEFAULT"]["requirements"] + " " + settings["DEFAULT"]["dev_requirements"]).split()
    def plain(text): return re.sub(r"[-_.]+", "-", text).lower()
    pins = dict(line.split("==") for line in (ROOT / "requirements.lock").read_text().splitlines() if "==" in line)
    pins = {plain(k): v for k, v in pins.items()}
    for requirement in map(Requirement, wanted):
        name = plain(requirement.name)
        assert name in pins, f"{requirement} is not in requirements.lock; run `make lock`"
        assert pins[name] in requirement.specifier, f"requirements.lock breaks {requirement}"


# ── where things are ──────────────────────────────────────────────────────────────────────────────────────────────────


def exports_to(notebook: Path) -> str | None:
    "The module that a notebook says it exports to."
    found = re.search(r"(?m)^#\|\s*default_exp\s+(\S+)", "\n".join(code_of(notebook)))
    return found[1] if found else None


@pytest.mark.parametrize("path", CHAPTERS, ids=named)
def test_a_chapter_has_the_name_of_its_module(path):
    module = exports_to(path)
    place = path.relative_to(ROOT / "nbs").parent.parts
    if module: assert module == ".".join([*place, re.sub(r"^\d+_", "", path.stem)])
    else: assert place in ((), ("guides",)), "a chapter of a room exports a module; tutorials lie in nbs/ or nbs/guides"


def test_every_module_has_a_chapter():
    made = {exports_to(p) for p in CHAPTERS}
    modules = [p.relative_to(ROOT / "taco").with_suffix("").parts for p in MODULES if p.name != "__init__.py"]
    assert {".".join(m) for m in modules} == made - {None}


def test_folders_read_like_a_list_of_contents():
    modules = [p for p in MODULES if p.name != "__init__.py"]
    folders = {p.parent for p in modules}
    assert {named(f): n for f in folders if (n := sum(p.parent == f for p in modules)) > 15} == {}
    # a third of them read files, a format, a layout or a kind of annotation each; eleven are tasks without traces;
    # two came with trainings on real images: folders of datasets, and what is learned from which; one with processes
    # that share a batch; one with code that is compiled, and may be wrong;
    # one with the rule that ends a training; six with UMS-Rep at convergence: images that stay in the store, batches,
    # ImageNet's encoder, stage 1, the baselines' networks, figures; one with hearts seen by ultrasound; seven with the
    # rivals of pre-training on slices, one a method, and their register; twelve with figure 12: problems, a network,
    # probes, the matrix, selectors, their judge, others' tables, advice, a report, pictures, groups, two commands;
    # one that compares datasets
    assert len(modules) <= 190


def test_no_two_chapters_of_a_folder_have_one_number():
    numbered = [(named(p.parent), m[0]) for p in CHAPTERS if (m := re.match(r"\d+(?=_)", p.stem))]
    assert {n for n in numbered if numbered.count(n) > 1} == set()


def imported(file: Path) -> set[tuple[str, str]]:
    "(module of taco, name) that a module imports anywhere."
    place, found = file.relative_to(ROOT).parent.parts, set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if not isinstance(node, ast.ImportFrom): continue
        above = place[:len(place) - node.level + 1] if node.level else ()
        module = ".".join([*above, *([node.module] if node.module else [])])
        if module.split(".")[0] == "taco": found |= {(module, a.name) for a in node.names}
    return found


def graph() -> dict[str, set[str]]:
    "Module → the modules of taco that it imports."
    names = {".".join(p.relative_to(ROOT).with_suffix("").parts): p for p in MODULES}
    def target(module, name): return f"{module}.{name}" if f"{module}.{name}" in names else module
    return {n: {target(*i) for i in imported(p)} & set(names) for n, p in names.items()}


def test_no_import_circle():
    left = graph()
    while ready := [n for n, needs in left.items() if not needs & set(left)]:
        for n in ready: left.pop(n)
    assert left == {}, "these import each other"


def test_modules_import_only_to_the_left():
    "Ground floor ← data ← tasks ← learning ← atlas ← transfer ← workflow, cli: a room never imports from its right."
    wrong = []
    for module, needs in graph().items():
        room = module.split(".")[1] if module.count(".") > 1 else None
        for need in needs:
            other = need.split(".")[1] if need.count(".") > 1 else None
            if other and (room is None or ROOMS.index(other) > ROOMS.index(room)): wrong.append(f"{module} ← {need}")
    assert wrong == []


def private_imports(path: Path) -> list[str]:
    text = "\n".join(code_of(path)) if path.suffix == ".ipynb" else path.read_text(encoding="utf-8")
    tree = ast.parse(re.sub(r"(?m)^\s*[%!].*$", "", text))
    taken = [n for n in ast.walk(tree) if isinstance(n, ast.ImportFrom) and (n.level or str(n.module)[:4] == "taco")]
    return [a.name for node in taken for a in node.names if re.match(r"_[^_]", a.name)]


KINDS = pytest.mark.parametrize("files", [MODULES, NOTEBOOKS, SCRIPTS], ids=["taco", "nbs", "tests and benchmarks"])


@KINDS
def test_no_private_name_is_imported(files):
    assert {named(path): found for path in files if (found := private_imports(path))} == {}


# ── how it reads ──────────────────────────────────────────────────────────────────────────────────────────────────────


def lines_of(path: Path) -> list[str]:
    lines = code_of(path) if path.suffix == ".ipynb" else path.read_text(encoding="utf-8").split("\n")
    return [line for line in lines if line.strip()]


def in_dunder_all(lines: list[str]) -> set[int]:
    "Numbers of the lines of `__all__`, whose width is nbdev's."
    inside, found = False, set()
    for i, line in enumerate(lines):
        if line.startswith("__all__"): inside = True
        if inside: found.add(i)
        if inside and line.rstrip().endswith("]"): inside = False
    return found


def long_lines(path: Path) -> list[str]:
    lines = lines_of(path)
    free = in_dunder_all(lines) if path.suffix == ".py" else set()
    return [line for i, line in enumerate(lines) if len(line) > 120 and i not in free]


@KINDS
def test_no_line_is_over_120_characters(files):
    assert {named(path): found for path in files if (found := long_lines(path))} == {}


@KINDS
def test_nine_lines_of_ten_are_under_100_characters(files):
    widths = sorted(len(line) for path in files for line in lines_of(path))
    assert widths[int(.9 * len(widths))] <= 100


def test_no_module_is_over_330_lines():
    length = {named(path): path.read_text(encoding="utf-8").count("\n") for path in MODULES}
    assert {name: lines for name, lines in length.items() if lines > 330} == {}


@pytest.mark.parametrize("path", CHAPTERS, ids=named)
def test_exported_cells_are_short_and_never_three_in_a_row(path):
    in_a_row = 0
    for kind, source, _ in cells(path):
        in_a_row = in_a_row + 1 if is_exported(kind, source) else 0
        lines = [line for line in source.split("\n") if not line.startswith("#|")]
        assert not in_a_row or len(lines) <= 30, f"{len(lines)} lines: {lines[0]}"
        assert in_a_row <= 2, f"three exported cells in a row, the third: {lines[0]}"


def shows(source: str) -> bool:
    "Whether a cell calls `plt.show()` itself, not only in a function that it defines."
    todo = list(ast.parse(re.sub(r"(?m)^\s*[%!].*$", "", source)).body)
    while todo:
        node = todo.pop()
        if isinstance(node, ast.FunctionDef): continue
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "plt.show": return True
        todo += ast.iter_child_nodes(node)
    return False


@pytest.mark.parametrize("path", CHAPTERS, ids=named)
def test_every_picture_is_stored(path):
    for kind, source, outputs in cells(path):
        if kind != "code" or not shows(source): continue
        stored = {kind for o in outputs for kind in o.get("data", {})}
        assert stored & {"image/png", "image/jpeg"}, f"run `make chapters`: {source[:80]}"


@pytest.mark.parametrize("path", NOTEBOOKS, ids=named)
def test_notebook_is_light_and_tidy(path):
    nb = json.loads(path.read_text(encoding="utf-8"))
    outputs = [o for c in nb["cells"] for o in c.get("outputs", [])]
    assert len(json.dumps(outputs)) < 500_000, "stored outputs over 500 kB"
    for output in outputs:
        pictures = [output.get("data", {}).get(f"image/{kind}", "") for kind in ("png", "jpeg")]
        assert max(len("".join(p)) for p in pictures) * 3 / 4 < 100_000, "a stored picture over 100 kB"
        assert output.get("output_type") != "error", "a stored error"


def test_every_notebook_is_valid_and_each_cell_has_a_name_of_its_own():
    "As JupyterLab and VS Code check it; that cleaning keeps the names is in `test_nbdev_changes_nothing`."
    for path in [*NOTEBOOKS, *tracked("figures/*/executed/*.ipynb")]:
        book = json.loads(path.read_text(encoding="utf-8"))
        nbformat.validate(book)
        names = [cell["id"] for cell in book["cells"]]
        assert (book["nbformat"], book["nbformat_minor"]) >= (4, 5) and len(set(names)) == len(names), path
        assert book["metadata"]["kernelspec"]["name"] == "python3", path


def test_what_a_republish_adds_is_small():
    "Git keeps every version of a figure for good: all of a profile, compressed as git does, stays under 3 MB."
    for folder in tracked("figures/*/"):
        packed = {named(f): len(zlib.compress(f.read_bytes())) for f in folder.rglob("*") if f.is_file()}
        assert sum(packed.values()) < 3_000_000, sorted(packed.items(), key=lambda item: -item[1])[:5]
        executed = [o for nb in folder.glob("executed/*.ipynb") for _, _, outputs in cells(nb) for o in outputs]
        assert len(json.dumps([o for o in executed if "image/png" in o.get("data", {})])) < 500_000, folder.name


# ── experiments ───────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("path", EXPERIMENTS, ids=named)
def test_an_experiment_is_declared_and_computes_nothing_of_its_own(path):
    from taco.workflow.parameters import parameters_cell, read_parameters
    declared = read_parameters(parameters_cell(path))
    assert all(p.type for p in declared.values()), "a parameter without a type"
    assert declared["folder"].default == f"runs/smoke/{path.stem}"
    assert not any(outputs for _, _, outputs in cells(path)), "experiment sources are stored without outputs"
    source = [c for kind, c, _ in cells(path) if kind == "code" and c != parameters_cell(path)]
    code = [line for c in source for line in c.split("\n") if line.strip() and not line.lstrip().startswith("#")]
    assert len(code) <= 60, f"{len(code)} lines of code"
    assert not re.search(r"(?m)^\s*(def|class) ", "\n".join(source)), "functions belong into a module, with a test"


# ── the door ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def python(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_the_door_is_light():
    assert python("import sys, taco; print('torch' in sys.modules, 'numpy' in sys.modules)") == "False False"


def test_the_door_lists_its_names_and_each_works():
    names = python("import taco; print(*[n for n in dir(taco) if not n.startswith('_')])").split()
    assert 25 <= len(names) <= 32 and {"Store", "PairEncoder", "train", "embed", "place", "TacoError"} <= set(names)
    assert python(f"import taco\nfor name in {names}: getattr(taco, name)\nprint(taco.__all__ == {names})") == "True"
    with pytest.raises(AssertionError, match="Did you mean 'embed'"): python("import taco; taco.embedd")


def test_the_example_is_short_and_hides_nothing():
    text = (ROOT / "examples/train.py").read_text(encoding="utf-8")
    assert text.count("\n") <= 60 and "import taco" in text


# ── the front ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_readme_is_short():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    prose = re.sub(r"(?s)```.*?```|<!--.*?-->|!\[[^]]*\]\([^)]*\)", " ", text)
    words = re.findall(r"\w[\w'’.-]*", re.sub(r"\]\([^)]*\)", "]", prose))
    assert len(words) <= 900, f"{len(words)} words"


def test_links_of_readme_and_guides_lead_somewhere():
    for page in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md"):
        for goal in re.findall(r"\]\(([^)#]+)", (ROOT / page).read_text(encoding="utf-8")):
            assert goal.startswith(("http", "mailto")) or (ROOT / goal).exists(), f"{page}: {goal}"


@pytest.mark.parametrize("path", CHAPTERS, ids=named)
def test_links_of_chapters_lead_somewhere(path):
    prose = "\n".join(source for kind, source, _ in cells(path) if kind == "markdown")
    for goal in re.findall(r"\]\(([^)#\s]+\.(?:ipynb|md|py|toml|yaml))", prose):
        assert goal.startswith("http") or (path.parent / goal).exists(), goal


def test_ruff_finds_nothing():
    done = subprocess.run([BIN / "ruff", "check", "--quiet", "."], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-3000:]


def test_types_are_sound():
    command = [BIN / "ty", "check", "--python", sys.prefix, "--output-format", "concise", "taco"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-3000:]
