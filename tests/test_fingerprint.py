"What a piece of code depends on: imports of every kind, doors, and what is left out."
from pathlib import Path

import nbformat
import pytest

from taco.fingerprint import code_hash, dependencies, fingerprint, imports, modules_behind


def write_package(folder: Path, **modules: str) -> Path:
    "A package `taco` in a folder; `data__store` is taco/data/store.py."
    for name, text in modules.items():
        file = folder / "taco" / (name.replace("__", "/") + ".py")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    return folder


def names(files: list[Path], root: Path) -> list[str]:
    return [str(f.relative_to(root / "taco")) for f in files]


@pytest.mark.parametrize("source, found", [
    ("import taco.data.card", {"taco.data.card"}),
    ("import taco.data.card as c, os", {"taco.data.card"}),
    ("from taco.data import card", {"taco.data", "taco.data.card"}),
    ("from . import card", {"taco.data", "taco.data.card"}),
    ("from .card import Card", {"taco.data.card", "taco.data.card.Card"}),
    ("from ..base import atomic", {"taco.base", "taco.base.atomic"}),
    ("from ...base import atomic", set()),  # beyond the package
    ("def f():\n    from .card import Card", {"taco.data.card", "taco.data.card.Card"}),
    ("from tacos.data import card", set()),
    ("import taco\nx = taco.pack", {"taco", "taco.pack"}),
])
def test_imports_are_found_wherever_they_stand(source, found):
    assert {n for n in imports(source, ("taco", "data"))} == found


def test_modules_behind_others_are_found_and_recording_is_left_out(tmp_path):
    root = write_package(
        tmp_path, base="", style="", atlas="import taco.style", data__card="", fingerprint="",
        data__store="from ..base import x\nfrom . import card",
        workflow__run="import taco.atlas", cli__main="import taco.atlas")
    found = names(dependencies("from taco.data.store import pack", root), root)
    assert found == ["base.py", "data/card.py", "data/store.py"]
    assert dependencies("from taco.workflow.run import Run\nfrom taco.workflow import Run", root) == []
    assert dependencies("import taco.fingerprint", root) == []
    found = modules_behind(["taco.data.store"], root, without=["taco.data.card"])
    assert names(found, root) == ["base.py", "data/store.py"]


@pytest.mark.parametrize("door", [
    "OTHER = {'Store': 1}; TABLE = {'Store': 'taco.data.store', 'draw': 'taco.atlas.draw'}",
    "TABLE = {'data.store': 'Store pack', 'atlas.draw': 'draw'}",
    "TABLE = {'.data.store': ['Store', 'pack'], '.atlas.draw': ('draw',)}",
    "from .data.store import Store\nfrom .atlas.draw import draw",
    "def __getattr__(name):\n    if name == 'Store':\n        from .data.store import Store\n        return Store",
])
def test_a_door_is_asked_for_the_one_name(tmp_path, door):
    root = write_package(tmp_path, base="", data__store="import taco.base", atlas__draw="")
    (tmp_path / "taco/__init__.py").write_text(door)
    (tmp_path / "taco/data/__init__.py").write_text("")
    for source in ("from taco import Store", "import taco\ntaco.Store.open('x')"):
        assert names(dependencies(source, root), root) == ["base.py", "data/store.py"]
    assert dependencies("import taco", root) == []


def test_the_hash_forgets_comments_of_nbdev_and_sees_everything_else(tmp_path):
    file = tmp_path / "a.py"
    seen = set()
    same = "# %% cell 1\nx = 1\n\ny = 1\n", "# %% cell 2\nx = 1\n# %% cell 3\n\n\ny = 1\n", "x = 1\n  \ny = 1"
    for text in (*same, "# %% cell 2\nx = 2\ny = 1\n", "x = 2  # why\ny = 1\n", "x = 2\n y = 1\n"):
        file.write_text(text)
        seen.add(code_hash([file]))
    assert len(seen) == 4
    assert code_hash([file], "start") != code_hash([file])


@pytest.mark.parametrize("indent", ["", "    "])
def test_the_hash_forgets_examples_and_no_other_word_of_a_docstring(tmp_path, indent):
    def hashed(*lines: str) -> str:
        file = tmp_path / "a.py"
        file.write_text("class A:\n" * bool(indent) + "".join(f"{indent}{line}\n" for line in lines) + "x = 1\n")
        return code_hash([file])
    begin, end = ("def f():", '    """Adds.'), ('    """', "    return 1")
    plain = hashed("def f():", '    "Adds."', "    return 1")
    assert hashed(*begin, *end) == plain
    assert hashed(*begin, "", "    >>> a = [", "    ...     1]", "    >>> f()", "    1", *end) == plain
    assert hashed(*begin, "", "    >>> f()", "    1", "", *end) == plain
    assert hashed(*begin, "", "    >>> f()", "", "    Not today.", *end) != plain
    assert hashed(*begin, *end[:1], "    return 2") != plain


def test_a_fingerprint_changes_with_the_code_behind_it_only(tmp_path):
    root = write_package(tmp_path, base="x = 1", style="y = 1")
    cell = nbformat.v4.new_code_cell("%matplotlib inline\nfrom taco.base import x")
    notebook = tmp_path / "a.ipynb"
    nbformat.write(nbformat.v4.new_notebook(cells=[cell]), notebook)
    before = fingerprint(notebook, root)
    (tmp_path / "taco/style.py").write_text("y = 2")
    cell.outputs = [nbformat.v4.new_output("stream", text="printed")]
    nbformat.write(nbformat.v4.new_notebook(cells=[nbformat.v4.new_markdown_cell("prose"), cell]), notebook)
    assert fingerprint(notebook, root) == before and len(before) == 16
    (tmp_path / "taco/base.py").write_text("x = 2")
    assert fingerprint(notebook, root) != before


def test_the_installed_package_is_looked_at_by_default():
    assert {"record", "base"} <= {f.stem for f in dependencies("from taco.data.record import Record")}
