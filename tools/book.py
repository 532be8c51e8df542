"""Build the book: chapters, experiments with their figures, results, reference and the atlas as pages with a search.

    python -m tools.book          (or make book) → book/_build/html/index.html, which opens without a server

Sources are gathered in `book/`, in the places that they have in the repository, so that their links lead on.
"""
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from urllib.parse import unquote

import yaml

import taco
from taco.workflow.page import write_atlas

ROOT = Path(__file__).resolve().parent.parent
BOOK = ROOT / "book"
ROOMS = dict(data="Data", tasks="Tasks", learning="Learning", atlas="Atlas", transfer="Transfer", workflow="Workflow",
             cli="Command line")
GUIDES = ("own_task", "own_dataset", "readers", "new_task", "many_machines")
PROFILES = ("quick", "study", "gpu", "real", "real_gpu", "ask")
ANCHOR = r"(\]\((?:[\w./-]+\.ipynb)?#)([\w-]+)(?=\))"
CONFIG = dict(
    title="taco", author="The taco authors", copyright="2026 onwards", only_build_toc_files=True,
    execute=dict(execute_notebooks="off"), html=dict(use_issues_button=False, use_repository_button=False),
    sphinx=dict(extra_extensions=["sphinx.ext.autodoc"], local_extensions={"tools.book": str(ROOT)}, config=dict(
        html_extra_path=["extra"], html_copy_source=False, html_show_copyright=False, nb_merge_streams=True,
        myst_heading_anchors=3, autodoc_default_options=dict(members=True),
        html_theme_options=dict(use_download_button=False, max_navbar_depth=2, home_page_in_toc=True),
        suppress_warnings=["mystnb.unknown_mime_type", "myst.header"])))


def rest_of(line: str) -> str:
    "A line of a docstring for Sphinx: `code` stays code, also before a letter, and stars are stars."
    parts = re.split(r"`+([^`]+)`+", line)
    text = [re.sub(r"([*|_]+)(?=\W|$)|(\*+)", lambda m: "".join("\\" + sign for sign in m[0]), part)
            for part in parts[::2]]
    code = [f"``{part}``" for part in parts[1::2]] + [""]
    said = "".join(t + c for t, c in zip(text, code))
    return re.sub(r"(``[^`]+``)(?=\w)", r"\1\\ ", said)


def setup(app) -> None:
    "Sphinx asks this module, too: docstrings are Markdown, with code between single backticks and signs as they are."
    def as_rest(app, what, name, obj, options, lines: list[str]) -> None: lines[:] = [rest_of(line) for line in lines]
    app.connect("autodoc-process-docstring", as_rest)


def copy(path: str | Path) -> None:
    "A file or folder of the repository, to its own place in the book."
    there = BOOK / path
    there.parent.mkdir(parents=True, exist_ok=True)
    if (ROOT / path).is_dir(): shutil.copytree(ROOT / path, there, ignore=shutil.ignore_patterns("*.svg", ".*"))
    else: shutil.copy(ROOT / path, there)


def gather() -> None:
    "All sources. An experiment is shown as it was executed, where it was."
    shutil.rmtree(BOOK, ignore_errors=True)
    for path in ("nbs", "README.md", "CONTRIBUTING.md", "CHANGELOG.md", "CITATION.cff", "LICENSE",
                 "taco/pretrained/README.md", *(f"figures/{profile}" for profile in PROFILES)):
        copy(path)
    (BOOK / "nbs/index.ipynb").unlink()
    for file in (BOOK / "nbs/experiments").glob("*.ipynb"):
        ran = next((p for name in PROFILES if (p := ROOT / f"figures/{name}/executed/{file.name}").exists()), None)
        if not ran: continue
        moved = rf"](../../figures/{ran.parent.parent.name}/\1.png)"
        file.write_text(re.sub(r"\]\(\.\./([\w-]+)\.png\)", moved, ran.read_text()))
    for file in BOOK.rglob("*.ipynb"):  # the book's anchors are in small letters
        text = file.read_text()
        if re.search(ANCHOR, text): file.write_text(re.sub(ANCHOR, lambda m: m[1] + m[2].lower(), text))
    for file in BOOK.glob("figures/*/tables/*.md"):
        file.write_text(f"# {file.stem.replace('_', ' ')}\n\n{file.read_text()}")
    readme = BOOK / "README.md"
    text = re.sub(rf"\]\(nbs/({'|'.join(ROOMS)}|experiments)\)", r"](nbs/\1/contents.md)", readme.read_text())
    text = text.replace("](figures/quick/executed)", "](nbs/experiments/contents.md)")  # where they are in the book
    readme.write_text(text.replace("<!-- written by `make readme` from nbs/index.ipynb -->\n", ""))


def titled(file: Path) -> tuple[str, str]:
    "Title and sentence of a notebook, from its first cell."
    cells = json.loads(file.read_text())["cells"]
    lines = "".join(cells[0]["source"]).splitlines()
    said = next((line[2:] for line in lines if line.startswith("> ")), "")
    return lines[0].removeprefix("# "), said


def contents(folder: Path, title: str) -> dict:
    "A page that lists what is in a folder, and its part of the table of contents."
    files, folders = sorted(folder.glob("*.ipynb")), sorted(p for p in folder.iterdir() if p.is_dir())
    inner = [contents(p, p.name.replace("_", " ").capitalize()) for p in folders if list(p.rglob("*.ipynb"))]
    lines = [f"# {title}", ""]
    for file in files: lines.append(f"- [{titled(file)[0]}]({file.name}): {titled(file)[1]}")
    lines += [f"- [{p.name.replace('_', ' ').capitalize()}]({p.name}/contents.md)" for p in folders
              if (p / "contents.md").exists()]
    (folder / "contents.md").write_text("\n".join(lines) + "\n")
    return dict(file=at(folder / "contents"), sections=[dict(file=at(f.with_suffix(""))) for f in files] + inner)


def at(path: Path) -> str: return path.relative_to(BOOK).as_posix()


def reference() -> list[dict]:
    "Pages of docstrings: the door first, then every module, a page a folder."
    (BOOK / "reference").mkdir()
    pages, door = [], ["# What `taco.<tab>` shows", ""]
    for module, names in taco.DOOR.items():
        door += [f"## {module}", "", "```{eval-rst}"]
        for name in names.split():
            kind = "class" if isinstance(getattr(taco, name), type) else "data"
            if callable(getattr(taco, name)) and kind == "data": kind = "function"
            door += [f".. auto{kind}:: {module}.{name}", "   :no-members:", "   :no-index:", ""]
        door += ["```", ""]
    (BOOK / "reference/door.md").write_text("\n".join(door))
    for folder in [ROOT / "taco", *sorted(p.parent for p in (ROOT / "taco").rglob("__init__.py"))[1:]]:
        name = ".".join(folder.relative_to(ROOT).parts)
        modules = sorted(p.stem for p in folder.glob("*.py") if not p.stem.startswith("_"))
        if not modules: continue
        text = [f"# {name}", ""]
        for m in modules: text += [f"## {name}.{m}", "", "```{eval-rst}", f".. automodule:: {name}.{m}", "```", ""]
        (BOOK / f"reference/{name}.md").write_text("\n".join(text))
        pages.append(dict(file=f"reference/{name}"))
    return [dict(file="reference/door", sections=pages)]


def atlas_page() -> None:
    "The map of the encoder that comes with the package, inside a page."
    write_atlas("pretrained", BOOK / "extra/atlas_alone.html")
    frame = '<iframe src="atlas_alone.html" style="width: 100%; height: 46rem; border: 0" title="task atlas"></iframe>'
    text = "Every point is a pair of held-out images. Point at one, click it, colour and filter."
    alone = '<a href="atlas_alone.html">Alone on a page</a>.'
    (BOOK / "atlas.md").write_text(f"# The atlas\n\n{text} {alone}\n\n{frame}\n")


def with_tables(folder: str) -> dict:
    "The results of a profile, and below them its tables, where it has some."
    tables = [dict(file=at(p.with_suffix(""))) for p in sorted((BOOK / folder).glob("tables/*.md"))]
    return dict(file=f"{folder}/README") | (dict(sections=tables) if tables else {})


def table_of_contents() -> dict:
    "The whole book, in the order of its reading."
    file = lambda path: dict(file=path)
    floor = [file(at(p.with_suffix(""))) for p in sorted((BOOK / "nbs").glob("0*.ipynb"))]
    rooms = [contents(BOOK / "nbs" / folder, title) for folder, title in ROOMS.items()]
    results = [with_tables(f"figures/{profile}") for profile in PROFILES]
    parts = {
        "Begin": [file("nbs/tour"), file("atlas"), file("taco/pretrained/README"),
                  *(file(f"nbs/guides/{name}") for name in GUIDES)],
        "Experiments": [contents(BOOK / "nbs/experiments", "Experiments"), *results],
        "Chapters": [*floor, *rooms],
        "Reference": [*reference(), file("nbs/decisions"), file("CONTRIBUTING"), file("CHANGELOG")]}
    return dict(format="jb-book", root="README",
                parts=[dict(caption=title, chapters=chapters) for title, chapters in parts.items()])


def build() -> Path:
    "Gather, write, build; the first page. Ends the program where pages cannot be built."
    gather()
    atlas_page()
    (BOOK / "_config.yml").write_text(yaml.safe_dump(CONFIG))
    (BOOK / "_toc.yml").write_text(yaml.safe_dump(table_of_contents(), sort_keys=False))
    start = "from jupyter_book.cli.main import main; main()"
    subprocess.run([sys.executable, "-c", start, "build", "--quiet", "--keep-going", str(BOOK)], check=True)
    return BOOK / "_build/html/index.html"


def broken(html: Path) -> list[str]:
    "Links and pictures of built pages that lead nowhere inside the site."
    pages = {page: page.read_text(encoding="utf-8") for page in html.rglob("*.html") if "_static" not in page.parts}
    ids = {page: set(re.findall(r'\bid="([^"]+)"', text)) for page, text in pages.items()}
    found = []
    for page, text in pages.items():
        for link in set(re.findall(r'\b(?:href|src)="([^"]+)"', text)):
            if re.match(r"[a-z]+:|//|\$", link): continue
            path, _, anchor = unquote(link.partition("?")[0]).partition("#")
            goal = (page.parent / path).resolve() if path else page
            lost = not goal.exists() or (anchor and goal in ids and anchor not in ids[goal])
            if lost: found.append(f"{page.relative_to(html)}: {link}")
    return sorted(found)


if __name__ == "__main__":
    first = build()
    size = sum(p.stat().st_size for p in first.parent.rglob("*") if p.is_file())
    print(f"{first}  {size / 1e6:.0f} MB in all; open it in a browser.")
    if lost := broken(first.parent): sys.exit("\n".join(["Links that lead nowhere:", *lost]))
