"The explorer in a real browser, from disk: what it shows, what it hides, and that it asks nobody for anything."

import html
import json
from html.parser import HTMLParser
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from taco.atlas.embedding import Embeddings, plan_pairs
from taco.atlas.neighbours import nearest_others
from taco.atlas.task_similarity import centroids
from taco.atlas.use.explorer import OWN_COLOURS, even_part, explorer, own_page, script_json, thumbnails
from taco.atlas.use.place import Known
from taco.base import TacoError
from taco.style import FAMILY_COLOURS
from taco.tasks.catalogue import ALL_TASKS
from taco.tasks.task import FAMILIES, get_task
from taco.workflow.page import write_atlas
from tests.browser import chromium
from tests.made_run import make_run, store_of, vectors_of


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path: return make_run(tmp_path_factory.mktemp("runs") / "tiny")


@pytest.fixture(scope="module")
def page(run) -> Path:
    return write_atlas(run, run / "atlas.html")


# ---------------------------------------------------------------- without a browser


def test_thumbnails_are_the_planned_pairs(run):
    store = store_of(run)
    plan = plan_pairs(store, ["horizontal_flip", "intensity_inversion"], "test", 2)
    thumbs = thumbnails(store, plan, 32).astype(int)
    flipped = (plan["task"] == "horizontal_flip").to_numpy()
    assert (thumbs[flipped, 1] == thumbs[flipped, 0][:, :, ::-1]).all() and np.abs(
        thumbs[~flipped].sum(1) - 255
    ).max() <= 1
    assert (
        thumbnails(store, plan, 16).shape == (len(plan), 2, 16, 16, 3)
        and thumbnails(store, plan, 64).shape[2] == 32
    )


def test_script_json_keeps_text_and_closes_no_element():
    nasty = {"a": ["</script>", "<!--", "&lt;", "\u2028", "é"]}
    assert json.loads(script_json(nasty)) == nasty and not set("<>&\u2028") & set(
        script_json(nasty)
    )


def test_bad_arguments(run):
    pairs = Embeddings.load(run / "embed/embeddings")
    count, vectors = len(pairs), np.array(pairs["taco"])
    thumbs, xy = np.zeros((count, 2, 8, 8, 3), np.uint8), vectors[:, :2].copy()
    vectors[3] = np.nan
    with pytest.raises(TacoError, match="1 of"):
        explorer(Embeddings(pairs.table, dict(taco=vectors)), xy, thumbs)
    with pytest.raises(TacoError, match="coordinates do not belong"):
        explorer(pairs, xy[:-1], thumbs)
    with pytest.raises(TacoError, match="positions that are not numbers"):
        explorer(pairs, xy * np.inf, thumbs)
    with pytest.raises(TacoError, match="thumbnails do not belong"): explorer(pairs, xy, thumbs[1:])
    with pytest.raises(TacoError, match="lacks a column[^$]*step"):
        explorer(pairs, xy, thumbs, paths=pd.DataFrame(dict(alteration=["a"])))


def test_a_part_has_as_much_of_every_task_and_dataset():
    table = pd.DataFrame(dict(task=list("aaaabbbb"), dataset=list("xxyyxxyy")))
    for limit, each in ((4, 1), (8, 2)):
        rows = even_part(table, limit)
        assert (np.diff(rows) > 0).all() and table.iloc[rows].groupby(
            ["task", "dataset"]
        ).size().eq(each).all()


# ---------------------------------------------------------------- in a browser

FLAGS = (
    "--headless --no-sandbox --disable-gpu --no-first-run --disable-background-networking --disable-component-update "
    "--disable-sync --window-size=1360,900"
)


@pytest.fixture(scope="module")
def browser():
    with chromium(FLAGS, logs=True) as chrome: yield chrome


HELPERS = """
    const $$ = (css) => [...document.querySelectorAll(css)], canvas = document.getElementById("map");
    const column = (key) => atlas.data.columns.find((c) => c.key === key);
    const value = (key, i) => column(key).names[column(key).codes[i]];
    const whole = (c) => [0, 0, c.width, c.height];
    const read = (c, box) => c.getContext("2d").getImageData(...(box.length ? box : whole(c)));
    const pixels = (c, ...box) => Array.from(read(c, box).data);
    const inked = (...box) => pixels(canvas, ...box).some((v, i) => i % 4 === 3 && v > 0);
"""


class Shown:
    "A page in the browser."
    def __init__(self, browser, path: Path):
        self.browser = browser
        for kind in ("browser", "performance"): browser.get_log(kind)  # empties them
        browser.get(path.as_uri())
        browser.execute_async_script("atlas.ready.then(arguments[0])")

    def js(self, code: str, *arguments):
        return self.browser.execute_script(HELPERS + code, *arguments)

    def all(self, css: str): return self.browser.find_elements("css selector", css)
    def one(self, css: str): return self.browser.find_element("css selector", css)
    def text(self, css: str) -> list[str]: return [e.text for e in self.all(css)]

    def settle(self) -> None:
        "Wait until what was asked for is drawn."
        self.browser.execute_async_script(
            "const done = arguments[0]; requestAnimationFrame(() => requestAnimationFrame(() => done()))"
        )

    def mouse(self, x: float, y: float, click: bool = False) -> None:
        "Move to (x, y) of the map, in pixels from its corner."
        from selenium.webdriver import ActionChains
        canvas = self.one("#map")
        offset = (
            round(x - canvas.size["width"] / 2),
            round(y - canvas.size["height"] / 2),
        )  # from its middle
        moves = ActionChains(self.browser, duration=30).move_to_element_with_offset(canvas, *offset)
        (moves.click() if click else moves).perform()
        self.settle()

    def keys(self, *keys: str) -> None:
        from selenium.webdriver import ActionChains
        ActionChains(self.browser).send_keys(*keys).perform()
        self.settle()

    def lonely(self) -> int:
        "A visible point that no other lies close to."
        return self.js("""
            const at = atlas.data.subject.map((_, i) => atlas.screen(i));
            const apart = ([x, y], [a, b]) => Math.hypot(x - a, y - b);
            const gap = (i) => Math.min(...at.map((p, j) => (j === i ? 1e9 : apart(p, at[i]))));
            const inside = ([x, y]) => x > 20 && x < atlas.view.width - 60 && y > 20 && y < atlas.view.height - 40;
            return at.map((_, i) => i).filter((i) => i > 0 && inside(at[i])).sort((a, b) => gap(b) - gap(a))[0]""")

    def errors(self) -> list:
        return [e for e in self.browser.get_log("browser") if e["level"] in ("SEVERE", "WARNING")]


@pytest.fixture
def shown(browser, page) -> Shown:
    return Shown(browser, page)


def test_opens_alone_and_quietly(shown):
    messages = [json.loads(e["message"])["message"] for e in shown.browser.get_log("performance")]
    asked = [
        m["params"]["request"]["url"]
        for m in messages
        if m["method"] == "Network.requestWillBeSent"
    ]
    assert asked and {u.split(":")[0] for u in asked} <= {"file", "data"}, [u[:90] for u in asked]
    assert shown.errors() == []
    assert shown.js("return inked()"), "nothing is drawn"


def test_pointing_shows_the_pair(shown, run):
    i = shown.lonely()
    assert not shown.one("#tip").is_displayed()
    shown.mouse(*shown.js("return atlas.screen(arguments[0])", i))
    pair = Embeddings.load(run / "embed/embeddings").table.iloc[i]
    tip = shown.one("#tip").text
    for part in (get_task(pair.task).title, pair.dataset, pair.modality, pair.subject):
        assert part in tip
    store = store_of(run)
    expected = thumbnails(store, pd.DataFrame([pair]), 32)[0].astype(int)
    found = np.array(shown.js("return $$('#tip canvas').map((c) => pixels(c))")).reshape(
        2, 32, 32, 4
    )[..., :3]
    assert np.abs(found - expected).mean() < 8, "the images are those of another pair"
    assert shown.errors() == []


def test_filter_hides_the_others(shown):
    i = shown.lonely()
    family = shown.js("return value('family', arguments[0])", i)
    other = next(f for f in FAMILIES if f != family)
    shown.one("details[data-column=family] summary").click()
    item = shown.one(f"details[data-column=family] li[data-value={other}]")
    shown.js(
        "arguments[0].scrollIntoView({block: 'center'}); arguments[0].querySelector('.only').click()",
        item,
    )
    count = shown.js(
        "return column('family').codes.filter((_, i) => value('family', i) === arguments[0]).length",
        other,
    )
    assert shown.js("return atlas.visible.reduce((a, b) => a + b)") == count
    assert shown.text("#shown")[0].startswith(f"{count} of ")
    place = shown.js("return atlas.screen(arguments[0])", i)
    shown.mouse(*place)
    assert shown.js("return atlas.state.hover?.point !== arguments[0]", i), "a hidden point answers"
    shown.js("document.getElementById('labels').click(); atlas.keep('alteration', [])")
    shown.mouse(2, 2)
    if not shown.js("return atlas.under(arguments[0], arguments[1], 14)", *place):
        assert not shown.js(
            "return inked(arguments[0] - 1, arguments[1] - 1, 3, 3)", *map(round, place)
        ), "a hidden point is drawn"
    shown.one("#reset").click()
    assert (
        shown.js("return atlas.visible.every((v) => v)") and not shown.one("#reset").is_displayed()
    )


def test_unticking_and_none(shown):
    shown.js("document.querySelector('details[data-column=dataset]').open = true")
    shown.js(
        "document.querySelector('details[data-column=dataset] li[data-value=drive] input').click()"
    )
    assert shown.js(
        "return atlas.data.subject.every((_, i) => (value('dataset', i) !== 'drive') === !!atlas.visible[i])"
    )
    shown.js("document.querySelector('[data-focus=dataset-None]').click()")
    assert shown.one("#empty").is_displayed() and shown.text("#shown")[0].startswith("0 of")


def test_colour_by_changes_the_legend(shown):
    first = lambda: shown.js("""
        const group = document.querySelector(".group"), mark = (li) => li.querySelector(".mark > *");
        const looks = (li) => [li.dataset.value, mark(li).getAttribute("fill"), mark(li).tagName];
        return [group.dataset.column, group.open, [...group.querySelectorAll("li")].map(looks)]""")
    assert first()[0] == "task" and len(first()[2]) > 20
    before = shown.js("return document.getElementById('map').toDataURL()")
    shown.js("document.querySelector('#colours input[value=family]').click()")
    shown.settle()
    column, is_open, marks = first()
    assert (
        column == "family"
        and is_open
        and marks
        == [[f, FAMILY_COLOURS[f], tag] for f, tag in zip(FAMILIES, ("circle", "rect", "path"))]
    )
    assert shown.js("return document.getElementById('map').toDataURL()") != before
    for key in ("dataset", "modality", "source"):
        shown.js("document.querySelector(`#colours input[value=${arguments[0]}]`).click()", key)
        assert first()[0] == key
    assert shown.errors() == []


def test_clicking_shows_neighbours_and_similarities(shown, run):
    pairs, i = Embeddings.load(run / "embed/embeddings"), shown.lonely()
    shown.mouse(*shown.js("return atlas.screen(arguments[0])", i), click=True)
    assert shown.text("#detail h2")[0].strip() == get_task(pairs.table["task"][i]).title
    cosine, who = nearest_others(pairs["taco"], 8)
    assert [int(b.get_attribute("data-point")) for b in shown.all("#neighbours button")] == who[
        i
    ].tolist()
    assert all(
        f"{c:.3f}" in b.get_attribute("aria-label")
        for c, b in zip(cosine[i], shown.all("#neighbours button"))
    )
    assert len(shown.all("#neighbours canvas")) == 16
    tasks = [t for t in ALL_TASKS if t in set(pairs.table["task"])]
    means = centroids(np.asarray(pairs["taco"]), pairs.table["task"], tasks)
    row = {
        get_task(t).title: v
        for t, v in zip(tasks, means @ means[tasks.index(pairs.table["task"][i])])
        if t != pairs.table["task"][i]
    }
    part = lambda name: shown.js(
        "return $$(arguments[0]).map((e) => e.textContent)", f"#similarity .{name}"
    )
    bars = dict(zip(part("name"), (float(v.replace("−", "-")) for v in part("value"))))
    assert list(bars.values()) == sorted(bars.values(), reverse=True) and bars.keys() == row.keys()
    assert max(abs(bars[t] - row[t]) for t in row) < .006
    neighbour = shown.all("#neighbours button")[2]
    shown.js("arguments[0].click()", neighbour)
    assert shown.js("return atlas.state.selected") == who[i][2]
    shown.one("#close").click()
    assert shown.js("return atlas.state.selected") == -1 and shown.errors() == []


def test_the_other_map(shown):
    before = shown.js("return atlas.screen(5)")
    shown.js("document.querySelector('#maps input[value=\"t-SNE\"]').click()")
    shown.browser.execute_async_script("""
        const done = arguments[0], to = atlas.data.maps["t-SNE"].x[5], v = atlas.view;
        const arrived = () => Math.abs((atlas.screen(5)[0] - v.width / 2) / v.scale + v.x - to) < 1e-3;
        const look = () => (arrived() ? done() : setTimeout(look, 30));
        look()""")
    assert shown.js("return atlas.screen(5)") != before and shown.errors() == []


def test_keyboard(shown):
    from selenium.webdriver import Keys
    for _ in range(30):
        shown.keys(Keys.TAB)
        if shown.js("return document.activeElement.id") == "map": break
    else: pytest.fail("Tab never reaches the map")
    assert shown.js("return getComputedStyle(document.activeElement).outlineStyle") == "solid", (
        "the focus cannot be seen"
    )
    start = shown.js("return [atlas.view.x, atlas.view.y, atlas.view.scale]")
    shown.keys(Keys.ARROW_RIGHT, Keys.ARROW_UP)
    right = shown.js("return [atlas.view.x, atlas.view.y, atlas.view.scale]")
    assert right[0] > start[0] and right[1] > start[1]
    shown.keys("+")
    assert shown.js("return atlas.view.scale") > start[2]
    shown.keys("-", "-")
    assert shown.js("return atlas.view.scale") < start[2]
    shown.keys("0")
    assert shown.js("return [atlas.view.x, atlas.view.y, atlas.view.scale]") == start
    shown.js(
        "const [x, y] = atlas.screen(7); atlas.pan(atlas.view.width / 2 - x + 60, atlas.view.height / 2 - y)"
    )
    shown.keys(Keys.ARROW_RIGHT)
    at_cross = shown.js("return atlas.state.hover.point")
    maps = shown.js("return atlas.data.maps.UMAP")
    assert np.hypot(*(maps[k][at_cross] - maps[k][7] for k in "xy")) < 1e-3
    assert (
        shown.one("#tip").is_displayed()
        and shown.js("return document.getElementById('spoken').textContent.length") > 10
    )
    shown.keys(Keys.ENTER)
    assert shown.js("return atlas.state.selected") == at_cross
    shown.keys(Keys.TAB, Keys.TAB)
    assert shown.js("return document.activeElement.closest('#neighbours') !== null"), (
        "Tab does not lead to the neighbours"
    )
    shown.keys(Keys.ENTER)
    assert shown.js("return atlas.state.selected") != at_cross
    shown.keys(Keys.ESCAPE)
    assert (
        shown.js("return [atlas.state.selected, document.activeElement.id]") == [-1, "map"]
        and shown.errors() == []
    )


def test_filters_by_keyboard_keep_the_focus(shown):
    from selenium.webdriver import Keys
    shown.js("document.querySelector('details[data-column=task] li input').focus()")
    shown.keys(Keys.SPACE)
    assert shown.js(
        "const e = document.activeElement; return [e.type, e.checked, e.dataset.focus]"
    ) == ["checkbox", False, "task-0"]
    assert shown.js(
        "return atlas.data.columns[0].codes.every((v, i) => (v !== 0) === !!atlas.visible[i])"
    )


def test_alteration_paths(shown, run):
    assert shown.text("details[data-column=alteration] .name") == ["blur", "noise"]
    spot = shown.js("""const [x, y] = atlas.data.paths.items[1].maps.UMAP[3], v = atlas.view;
                       return [(x - v.x) * v.scale + v.width / 2, (v.y - y) * v.scale + v.height / 2]""")
    found = shown.js(
        "const u = atlas.under(...arguments[0], 12); atlas.hover(u); return [u.path?.alteration, u.step]",
        spot,
    )
    assert found == [1, 3] and all(t in shown.one("#tip").text for t in ("noise", "step 3", "0.75"))
    shown.one("#paths").click()
    assert shown.js("return atlas.under(...arguments[0], 3)?.path", spot) is None, (
        "the box hides the paths"
    )
    shown.js("atlas.select(0)")
    assert shown.js("return atlas.under(...arguments[0], 3)?.path?.alteration", spot) == 1, (
        "a selected pair brings those of its task"
    )
    shown.js("atlas.select(-1)")
    shown.one("#paths").click()
    shown.js("atlas.keep('alteration', [0])")
    assert shown.js("return atlas.under(...arguments[0], 3)?.path?.alteration", spot) != 1
    shown.js(
        "atlas.keep('alteration', [0, 1]); atlas.keep('family', [2])"
    )  # the paths are of a semantic task
    assert (
        shown.js("return atlas.under(...arguments[0], 3)?.path", spot) is None
        and shown.errors() == []
    )


NASTY = [  # names that somebody gave to an image, a card, a task
    '</script><script>window.bad = 1</script><img src=x onerror="window.bad = 2">__ATLAS_DATA__',
    "<script>alert(1)</script>",
    "</SCRIPT ><svg/onload=alert(1)>",
    "<!--<script>",
    "'\"`;alert(1)//",
    "\u2028alert(1)\u2029",
    "&lt;script&gt; &amp; __ATLAS_TITLE__",
    "javascript:alert(1)",
    "\\u003cscript\\u003e",
    "${alert(1)}{{7*7}}",
    "\u202egpj.<b>\x00\x1b[31m",
]


def nasty_page(name: str) -> str:
    "A page on which everything that can have a name has this one."
    count = 6
    names = dict.fromkeys(("task", "family", "dataset", "modality", "source", "subject"), name)
    table = pd.DataFrame(names | dict(record=range(count), seed=range(count)))
    vectors = np.eye(count, dtype=np.float32)
    path = dict(alteration=name, task=name, dataset=name, record=0, parameter=name)
    paths = pd.DataFrame([path | dict(step=n, x=n / 2, y=0.0) for n in range(2)])
    thumbs = np.zeros((count, 2, 8, 8, 3), np.uint8)
    return explorer(Embeddings(table, dict(taco=vectors)), vectors[:, :2], thumbs, paths=paths, title=name)


class Elements(HTMLParser):
    "The elements of a page and their attributes, as a browser finds them."

    def __init__(self):
        super().__init__()
        self.found = []

    def handle_starttag(self, tag, attrs):
        self.found.append((tag, attrs))


@pytest.mark.parametrize("name", NASTY)
def test_no_name_adds_an_element_or_changes(name):
    plain, nasty = Elements(), Elements()
    text = nasty_page(name)
    plain.feed(nasty_page("name")), nasty.feed(text)
    assert nasty.found == plain.found
    data = json.loads(text.split('id="atlas-data">')[1].split("</script>")[0])
    assert [name in column["names"] for column in data["columns"]] == [True] * len(data["columns"])
    assert data["paths"]["names"] == [name] and data["paths"]["items"][0]["parameters"] == [name] * 2
    assert f"<title>{html.escape(name)}</title>" in text


def test_names_are_text_and_never_code(browser, tmp_path):
    nasty, path = NASTY[0], tmp_path / "nasty.html"
    path.write_text(nasty_page(nasty), encoding="utf-8")
    shown = Shown(browser, path)
    shown.js("atlas.select(0); atlas.hover({point: 1})")
    shown.settle()
    assert shown.js("return window.bad") is None and shown.errors() == []
    assert (
        shown.text("h1") == [nasty] == [shown.browser.title]
        and nasty in shown.text("#detail dd")
        and nasty in shown.one("#tip").text
    )


@pytest.mark.parametrize("width", [420, 900, 1360])
def test_fits_the_window(shown, width):
    shown.browser.set_window_size(width, 900)
    try:
        shown.js("atlas.select(1)")
        shown.settle()
        assert shown.js(
            "return document.documentElement.scrollWidth <= document.documentElement.clientWidth"
        ), "the page scrolls sideways"
        assert shown.js("return $$('aside').every((a) => a.scrollWidth <= a.clientWidth)"), (
            "a panel scrolls sideways"
        )
        assert shown.one("#map").size["width"] > 280
    finally: shown.browser.set_window_size(1360, 900)


def test_five_thousand_points(browser, run, tmp_path, record_property):
    store = store_of(run)
    plan = plan_pairs(store, list(ALL_TASKS), "test", 120, seed=2)[:5000]
    assert len(plan) == 5000
    vectors, path = vectors_of(plan), tmp_path / "large.html"
    path.write_text(
        explorer(Embeddings(plan, dict(taco=vectors)), vectors[:, :2], thumbnails(store, plan)),
        encoding="utf-8",
    )
    assert path.stat().st_size <= 15_000_000
    shown = Shown(browser, path)
    frame, drawing = shown.browser.execute_async_script("""
        const done = arguments[0], start = performance.now();
        let n = 0, spent = 0;
        const step = () => {
          const before = performance.now();
          atlas.pan(n < 30 ? 5 : -5, 0); atlas.draw();
          spent += performance.now() - before;
          if (++n < 60) requestAnimationFrame(step); else done([(performance.now() - start) / 60, spent / 60]);
        };
        requestAnimationFrame(step)""")
    record_property("frame_ms", round(frame, 2))
    print(
        f"{path.stat().st_size / 1e6:.1f} MB; a frame of a pan {frame:.1f} ms, of which drawing {drawing:.1f} ms"
    )
    assert frame < 1000 and shown.js("return atlas.visible.length") == 5000 and shown.errors() == []


def test_own_pairs_are_stars_on_top_with_their_pictures(browser, run, tmp_path):
    "Of two folders, with names that are no code; the pictures and places of the known pairs stay their own."
    pairs = Embeddings.load(run / "embed/embeddings")
    xy = np.load(run / "map/coordinates.npz")["umap"]
    small = lambda rows: thumbnails(store_of(run), pairs.table.iloc[rows])
    known = Known(None, pairs, xy, pictures=small)
    near = [int(np.flatnonzero(pairs.table["task"] == task)[0]) for task in ("deblurring", "scaling")]
    grey = np.arange(2 * 2 * 32 * 32 * 3, dtype=np.int64).reshape(2, 1, 2, 32, 32, 3) // 49 % 256
    vectors, grey = np.array(pairs["taco"]), grey.astype(np.uint8)
    placed = {name: SimpleNamespace(vectors=vectors[[row]], names=["<b>1"], thumbs=thumbs)
              for name, row, thumbs in zip(("b<i>", "a"), near, grey)}
    (tmp_path / "map.html").write_text(own_page(known, placed), encoding="utf-8")
    shown, count = Shown(browser, tmp_path / "map.html"), len(pairs)
    assert shown.errors() == [] and shown.js("return atlas.data.subject.length") == count + 2
    assert shown.js("return [value('task', arguments[0]), value('family', arguments[0] + 1)]", count) == [
        "yours: b<i>", "yours"]
    at = "column('task').colours[column('task').codes[arguments[0] + k]]"
    colours = shown.js(f"return [0, 1].map((k) => {at})", count)
    assert colours == [OWN_COLOURS[1].lower(), OWN_COLOURS[0].lower()]  # by the alphabet, as in the picture
    assert shown.js("return [...order].slice(-2).sort((a, b) => a - b)") == [count, count + 1]
    shown.js("atlas.select(arguments[0])", count)
    shown.settle()
    assert shown.js("return atlas.data.neighbours[arguments[0]][0]", count) == near[0]
    assert shown.one("#detail h2").text == "yours: b<i>" and "Record" not in shown.one("#detail dl").text
    assert shown.js("return $$('#detail h2 svg path').length") == 1  # a star is a path
    images = shown.js("return $$('#detail .big canvas').map((c) => pixels(c))")
    found = np.array(images).reshape(2, 32, 32, 4)[..., :3]
    assert np.abs(found - placed["b<i>"].thumbs[0]).mean() < 6
    shown.js("atlas.keep('family', [column('family').names.indexOf('yours')])")
    assert shown.js("return Array.from(atlas.visible).reduce((a, b) => a + b)") == 2


def test_own_pairs_of_a_run_without_map_or_pictures(run):
    pairs = Embeddings.load(run / "embed/embeddings")
    bank = Embeddings(pairs.table.assign(split="train"), pairs.vectors)
    thumbs = np.zeros((2, 2, 32, 32, 3), np.uint8)
    one = SimpleNamespace(vectors=np.array(pairs["taco"][:2]), names=["a", "b"], thumbs=thumbs)
    told = json.loads(own_page(Known(None, bank), {"": one}).split('id="atlas-data">')[1].split("</script>")[0])
    assert list(told["maps"]) == ["principal components"] and told["record"][-2:] == [-1, -2]
    assert told["columns"][0]["names"][-1] == "yours" and told["shapes"][-1] == "*"
