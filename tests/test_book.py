"The book's sources: everything has a place in it, and every link between its pages leads on."
import json
import re
from urllib.parse import unquote

import pytest

from tools import book


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(book, "BOOK", tmp_path_factory.mktemp("site") / "book")
        book.gather()
        (book.BOOK / "atlas.md").write_text("# The atlas\n")
        yield book.BOOK, book.table_of_contents()


def files_of(node) -> list[str]:
    "Every file that a table of contents names."
    if isinstance(node, list): return [file for one in node for file in files_of(one)]
    if not isinstance(node, dict): return []
    own = [node[key] for key in ("file", "root") if key in node]
    return own + [file for value in node.values() for file in files_of(value)]


def text_of(file) -> str:
    "Its markdown, code left out."
    if file.suffix == ".md": return file.read_text(encoding="utf-8")
    cells = json.loads(file.read_text(encoding="utf-8"))["cells"]
    return "\n\n".join("".join(c["source"]) for c in cells if c["cell_type"] == "markdown")


def test_every_notebook_has_one_place_in_the_book(made):
    folder, contents = made
    named = files_of(contents)
    assert len(named) == len(set(named)) and "[]" not in json.dumps(contents), "the builder takes no empty list"
    notebooks = {p.relative_to(folder).with_suffix("").as_posix() for p in (folder / "nbs").rglob("*.ipynb")}
    assert notebooks <= set(named)
    for name in named: assert (folder / f"{name}.md").exists() or (folder / f"{name}.ipynb").exists(), name


def test_links_between_pages_lead_on(made):
    folder, contents = made
    pages = [p for name in files_of(contents) for end in (".md", ".ipynb") if (p := folder / f"{name}{end}").exists()]
    lost = []
    for page in pages:
        prose = re.sub(r"(?s)```.*?```|`[^`\n]*`", " ", text_of(page))
        for link in re.findall(r"\]\(([^)\s]+)\)", prose):
            path = unquote(link.partition("#")[0])
            if re.match(r"[a-z]+:", link) or not path: continue
            if not (page.parent / path).is_file(): lost.append(f"{page.relative_to(folder)}: {link}")
    assert lost == []


def test_experiments_are_shown_as_they_were_executed(made):
    folder, _ = made
    text = (folder / "nbs/experiments/map.ipynb").read_text()
    assert "](../../figures/quick/fig2_map.png)" in text and (folder / "figures/quick/fig2_map.png").exists()


def test_a_broken_link_of_a_built_page_is_found(tmp_path):
    (tmp_path / "a.html").write_text('<a href="b.html#there">x</a><a href="b.html#not">x</a><img src="no.png">'
                                     '<a href="https://example.org">x</a><p id="own"></p><a href="#own">x</a>')
    (tmp_path / "b.html").write_text('<p id="there"></p><a href="a.html">x</a>')
    assert book.broken(tmp_path) == ["a.html: b.html#not", "a.html: no.png"]


@pytest.mark.parametrize(("line", "wanted"), [
    ("(B, *shape) of `x`", r"(B, \*shape) of ``x``"),
    ("The `Comparison`s of **more**", r"The ``Comparison``\ s of \*\*more\*\*"),
    ("names `task_knn_*` and a_name", "names ``task_knn_*`` and a_name"), ("", "")])
def test_docstrings_are_shown_as_they_are(line, wanted):
    assert book.rest_of(line) == wanted
