"""The site and what readers take along, built once from the stored notebooks.

Compared with the notebooks: every picture, description, slider, formula and link. In Chromium: nothing is asked of
another machine, formulas are typeset, sliders move, search finds, no accessibility violation in light and dark,
nothing is wider than a phone. What needs Chromium or npm is skipped with a reason where they are missing
(REQUIRE_BROWSER=1 makes a missing Chromium a failure).
"""

import functools
import hashlib
import http.server
import os
import re
import shutil
import subprocess
import sys
import tarfile
import threading
import zipfile
from base64 import b64decode
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import unquote, urlsplit
from xml.etree import ElementTree

import browser_lab
import nbformat
import pytest
from browser_lab import ask
from bs4 import BeautifulSoup
from markdown_it import MarkdownIt
from mdit_py_plugins.amsmath import amsmath_plugin
from mdit_py_plugins.dollarmath import dollarmath_plugin

from tools import build_site

ROOT = Path(__file__).resolve().parents[1]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
XHTML = "{http://www.w3.org/1999/xhtml}"


@functools.cache
def has_mathjax() -> bool:
    """False without npm, and away from continuous integration also without a network."""
    try:
        build_site.fetch_mathjax()
    except SystemExit:
        if shutil.which("npm") and os.environ.get("CI"):
            raise
        return False
    return True


@pytest.fixture(scope="module")
def out(tmp_path_factory) -> Path:
    """The folder of one build with everything; a warning of Sphinx ends it."""
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, str(ROOT / "tools" / "build_site.py"), "--download", "--out", str(folder)]
    command += [] if has_mathjax() else ["--plain-formulas"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


@pytest.fixture(scope="module")
def html(out) -> Path:
    return out / "html"


@pytest.fixture(scope="module")
def pages(html) -> dict[str, BeautifulSoup]:
    """Address below the site -> its parsed page."""
    found = (path for path in html.rglob("*.html") if "_static" not in path.parts)
    return {
        path.relative_to(html).as_posix(): BeautifulSoup(path.read_text(encoding="utf-8"), "html.parser")
        for path in sorted(found)
    }


def address(notebook: Path) -> str:
    return f"notebooks/{notebook.stem}.html"


def outputs(notebook: Path, mime_type: str) -> list:
    cells = nbformat.read(notebook, as_version=4).cells
    shown = (output for cell in cells for output in cell.get("outputs", []))
    return [output for output in shown if mime_type in output.get("data", {})]


def markdown(notebook: Path) -> str:
    cells = nbformat.read(notebook, as_version=4).cells
    return "\n\n".join(cell.source for cell in cells if cell.cell_type == "markdown")


def formulas(notebook: Path) -> list[str]:
    """The TeX of every formula in the text, in order."""
    parser = MarkdownIt().use(dollarmath_plugin).use(amsmath_plugin).enable("table")
    found = []
    for cell in nbformat.read(notebook, as_version=4).cells:
        if cell.cell_type == "markdown":
            tokens = (token for block in parser.parse(cell.source) for token in [block, *(block.children or [])])
            found += [token.content for token in tokens if token.type.startswith(("math_", "amsmath"))]
    return found


def letters(tex: str) -> str:
    """TeX without what Sphinx puts around it and without white space."""
    tex = re.sub(r"^\\[(\[]|\\[)\]]$", "", tex.strip())
    return re.sub(r"\\(?:begin|end)\{(?:split|aligned?)\}|\s", "", tex)


# ---- pages against notebooks ---------------------------------------------------------------------------------------


def test_the_sidebar_lists_the_notebooks_in_order(pages):
    links = pages["index.html"].select("#pst-primary-sidebar nav a[href]")
    assert [link["href"] for link in links if link["href"].startswith("notebooks/")] == list(map(address, NOTEBOOKS))


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)
def test_every_picture_is_there_with_its_description(notebook, pages, html):
    stored, shown = outputs(notebook, "image/png"), pages[address(notebook)].select(".cell_output img")
    assert [image["alt"] for image in shown] == [output.metadata["image/png"]["alt"] for output in stored]
    for image, output in zip(shown, stored, strict=True):
        file = (html / "notebooks" / image["src"]).read_bytes()
        assert file == b64decode(output.data["image/png"])


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)
def test_every_slider_table_and_formula_is_there(notebook, pages):
    page, stored = pages[address(notebook)], outputs(notebook, "text/html")
    for kind in ("iframe", "table"):
        count = sum(len(BeautifulSoup(output.data["text/html"], "html.parser").find_all(kind)) for output in stored)
        assert len(page.select(f".cell_output .text_html {kind}")) == count, kind
    assert [letters(math.get_text()) for math in page.select(".math")] == list(map(letters, formulas(notebook)))


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)
def test_text_outputs_are_there(notebook, pages):
    cells = nbformat.read(notebook, as_version=4).cells
    streams = [output.text for cell in cells for output in cell.get("outputs", []) if output.output_type == "stream"]
    text = "".join(pages[address(notebook)].select_one("article").get_text().split())
    for stream in streams:
        assert "".join(stream.split()) in text


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)
def test_the_button_gives_the_notebook_itself(notebook, pages, html):
    page = pages[address(notebook)]
    button = page.select_one("a.btn-download-source-button")
    assert (html / "notebooks" / button["href"]).read_bytes() == notebook.read_bytes()


def test_no_page_loads_anything_from_elsewhere(pages, html):
    for name, page in pages.items():
        loaded = [tag.get("src") for tag in page.select("script[src], img[src], iframe[src], source[src]")]
        loaded += [
            tag["href"] for tag in page.select("link[href]") if set(tag["rel"]) & {"stylesheet", "icon", "preload"}
        ]
        for target in loaded:
            assert not urlsplit(target).netloc, f"{name} loads {target}"
            assert (html / name).parent.joinpath(unquote(urlsplit(target).path)).is_file(), f"{name} lacks {target}"
    for style in html.rglob("*.css"):
        assert not re.search(r"url\(['\"]?(?:https?:)?//", style.read_text(encoding="utf-8")), style


def test_every_link_inside_the_site_leads_somewhere(pages, html):
    identifiers = {
        (html / name).resolve(): {tag["id"] for tag in page.select("[id]")} | {""} for name, page in pages.items()
    }
    for name, page in pages.items():
        for link in page.select("a[href]"):
            target = urlsplit(link["href"])
            if target.scheme or target.netloc:
                continue
            file = (html / name).parent / unquote(target.path) if target.path else html / name
            assert file.is_file(), f"{name} links to {link['href']}"
            if file.suffix == ".html":
                assert unquote(target.fragment) in identifiers[file.resolve()], f"{name} links to {link['href']}"


def test_a_link_to_code_leads_to_its_page_and_any_other_to_the_repository():
    linked = set()
    text = "[a](../helpers/__init__.py) [b](../data/README.md#recorded-runs) [c](../.ci) [d](https://x.org) [e](#1-·-F)"
    rewritten = build_site.with_site_links(text, "notebooks/any.ipynb", linked)
    repository = build_site.stamp.repository_address(build_site.stamp.current_stamp()[0])
    assert re.findall(r"\((.*?)\)", rewritten) == [
        "../helpers/__init__.py.md", "../data/README.md#recorded-runs", f"{repository}/blob/main/.ci", "https://x.org",
        "#1--f",
    ]  # fmt: skip
    assert linked == {"helpers/__init__.py", "data/README.md"}
    with pytest.raises(SystemExit, match="any.ipynb links to gone.ipynb, which does not exist"):
        build_site.with_site_links("[gone](gone.ipynb)", "notebooks/any.ipynb", set())


def test_pictures_from_elsewhere_are_replaced():
    badge = "[![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)](https://colab.research.google.com/x)"
    text = build_site.with_site_links(f"{badge} ![passing](https://x.org/y.svg)", "notebooks/any.ipynb", set())
    assert text == "[![Open in Colab](../static/colab-badge.svg)](https://colab.research.google.com/x) passing"


def test_without_npm_it_is_said_what_to_install(monkeypatch, tmp_path):
    monkeypatch.setattr(build_site, "MATHJAX", tmp_path / "missing" / "mathjax" / "file.js")
    monkeypatch.setattr(build_site.shutil, "which", lambda name: None)
    with pytest.raises(SystemExit, match="apt-get install npm.*--plain-formulas"):
        build_site.fetch_mathjax()


def test_mathjax_is_unpacked_by_a_python_whose_tarfile_knows_no_filters(monkeypatch, tmp_path):
    def pack(command, cwd, **_):
        for name in ("package/es5/tex-svg-full.js", "package/LICENSE"):
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).write_text("text")
        with tarfile.open(Path(cwd) / "mathjax.tgz", "w:gz") as packed:
            packed.add(tmp_path / "package", "package")
        return subprocess.CompletedProcess(command, 0)

    extract = tarfile.TarFile.extractall
    monkeypatch.setattr(tarfile.TarFile, "extractall", lambda packed, path: extract(packed, path))  # as in 3.11.3
    monkeypatch.setattr(build_site, "MATHJAX", tmp_path / "build" / "mathjax-3" / "mathjax" / "tex-svg-full.js")
    monkeypatch.setattr(build_site.shutil, "which", lambda name: name)
    monkeypatch.setattr(build_site.subprocess, "run", pack)
    (tmp_path / "build").mkdir()
    build_site.fetch_mathjax()
    assert build_site.MATHJAX.read_text() == "text"


# ---- to take along -------------------------------------------------------------------------------------------------


def test_downloads_are_listed_and_arrive_whole(pages, html):
    folder = html / "download"
    files = {path.name for path in folder.iterdir()}
    assert {link["href"] for link in pages["download.html"].select("article li a[href^=download]")} == {
        f"download/{name}" for name in files
    }
    sums = dict(reversed(line.split("  ")) for line in (folder / "SHA256SUMS").read_text().splitlines())
    assert set(sums) == files - {"SHA256SUMS"} and len(sums) == 3
    for name, expected in sums.items():
        assert hashlib.sha256((folder / name).read_bytes()).hexdigest() == expected


def test_the_zipped_site_is_the_site_without_its_downloads(html):
    with zipfile.ZipFile(html / "download" / f"{build_site.NAME}-site.zip") as packed:
        inside = {name.partition("/")[2]: packed.getinfo(name).file_size for name in packed.namelist()}
    outside = {path.relative_to(html).as_posix(): path.stat().st_size for path in html.rglob("*") if path.is_file()}
    outside = {name: size for name, size in outside.items() if not name.startswith("download")}
    assert inside.pop("download.html") and inside == outside


def test_the_zipped_notebooks_bring_all_they_need(html, tmp_path):
    with zipfile.ZipFile(html / "download" / f"{build_site.NAME}-notebooks.zip") as packed:
        packed.extractall(tmp_path)
        assert packed.getinfo(f"{build_site.NAME}/.ci/run").external_attr >> 16 & 0o100, "it has to stay executable"
    project = tmp_path / build_site.NAME
    for notebook in NOTEBOOKS:
        assert (project / "notebooks" / notebook.name).read_bytes() == notebook.read_bytes()
    assert {"pyproject.toml", "README.md", "Makefile", "LICENSE", "helpers", "data"} <= set(os.listdir(project))


def test_the_book_has_every_notebook_as_well_formed_pages(html):
    with zipfile.ZipFile(html / "download" / f"{build_site.NAME}.epub") as book:
        assert book.namelist()[0] == "mimetype"
        names, trees = set(book.namelist()), {}
        for name in names:
            if name.endswith((".xhtml", ".opf", ".ncx")):
                trees[name] = ElementTree.fromstring(book.read(name))
        opf = book.read("content.opf").decode()
    assert all(any(name.endswith(f"{notebook.stem}.xhtml") for name in trees) for notebook in NOTEBOOKS)
    for name, tree in trees.items():
        for image in tree.iter(f"{XHTML}img"):
            assert os.path.normpath(os.path.join(os.path.dirname(name), image.get("src"))) in names, name
    for notebook in NOTEBOOKS:
        (tree,) = (tree for name, tree in trees.items() if name.endswith(f"{notebook.stem}.xhtml"))
        described = [image.get("alt") for image in tree.iter(f"{XHTML}img")]
        assert all(output.metadata["image/png"]["alt"] in described for output in outputs(notebook, "image/png"))
        if has_mathjax() and formulas(notebook):
            assert (
                f'href="notebooks/{notebook.stem}.xhtml" media-type="application/xhtml+xml" properties="mathml"' in opf
            )
            math = list(tree.iter("{http://www.w3.org/1998/Math/MathML}math"))
            assert len(math) == len(formulas(notebook))
            for kind in ("merror", "mlabeledtr"):  # a formula that is wrong, a row that readers lay out wrongly
                assert not list(tree.iter(f"{{http://www.w3.org/1998/Math/MathML}}{kind}"))


# ---- in a browser --------------------------------------------------------------------------------------------------

STANDARD = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"]
PHONE = 390  # pixels

# axe measures the contrast of every word, minutes for all pages. Each kind of text once is enough: of code, which has
# thousands of words, each colour; of the rest, each way that it and what lies behind it look in light and in dark.
KEEP_EACH_COLOUR_OF_CODE = """() => {
  const seen = new Set();
  for (const span of document.querySelectorAll('.highlight span[class]')) {
    const kind = span.className + ' in ' + span.closest('.highlight').parentElement.className;
    if (seen.has(kind) || !span.checkVisibility()) span.replaceWith(...span.childNodes);
    else seen.add(kind);
  } }"""
NOTE_LOOKS = """() => {
  window.looks ??= new Map();
  for (const element of document.body.querySelectorAll('*')) {
    const words = [...element.childNodes].filter(node => node.nodeType === Node.TEXT_NODE && node.data.trim());
    if (!words.length || !element.checkVisibility()) continue;
    const { color, fontSize, fontWeight } = getComputedStyle(element), look = [color, fontSize, fontWeight];
    for (let each = element; each; each = each.parentElement) {
      const { backgroundColor, backgroundImage, opacity } = getComputedStyle(each), plain = 'rgba(0, 0, 0, 0)none1';
      if (backgroundColor + backgroundImage + opacity !== plain) look.push(backgroundColor, backgroundImage, opacity);
    }
    looks.set(element, [...looks.get(element) ?? [], ...look]);
  } }"""
KEEP_EACH_LOOK = """() => {
  const seen = new Set();
  for (const [element, look] of looks) {
    const words = [...element.childNodes].filter(node => node.nodeType === Node.TEXT_NODE);
    if (seen.has(String(look))) words.forEach(node => node.remove());
    if (!element.childNodes.length) element.remove();
    seen.add(String(look));
  }
  document.querySelectorAll('mjx-container').forEach(formula => formula.remove()); }"""
TYPESET = "async () => { if (window.MathJax) await MathJax.startup.promise; return true; }"
FORMULAS = """() => ({
  sources: document.querySelectorAll('.math').length, typeset: document.querySelectorAll('mjx-container').length,
  spoken: document.querySelectorAll('mjx-assistive-mml math').length,
  wrong: [...document.querySelectorAll('[data-mml-node=merror]')].map(formula => formula.textContent) })"""


AXE = "async options => { const found = await axe.run(options); return found.violations; }"


class QuietHandler(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_arguments) -> None:
        pass


@pytest.fixture(scope="module")
def server(html):
    """Address of the site on this machine."""
    handler = functools.partial(QuietHandler, directory=html)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as running:
        threading.Thread(target=running.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{running.server_port}/"
        running.shutdown()


@pytest.fixture(scope="module")
def chromium():
    browser_lab.require_browser("look at the site", "playwright", "axe_playwright_python")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        arguments = ["--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu"]
        browser = playwright.chromium.launch(executable_path=browser_lab.find_chromium(), args=arguments)
        yield browser
        browser.close()


@contextmanager
def still_tab(chromium):
    """A tab without movement, so that no colour is measured while it changes."""
    context = chromium.new_context(viewport={"width": 1280, "height": 900}, reduced_motion="reduce")
    yield context.new_page()
    context.close()


@pytest.fixture
def tab(chromium):
    with still_tab(chromium) as opened:
        yield opened


SCHEMES = ("light", "dark")


def what_axe_finds(tab) -> dict[str, list[str]]:
    """Colour scheme -> violations on the tab's page, of which only contrast depends on the scheme."""
    from axe_playwright_python.base import AXE_SCRIPT

    found = {scheme: [] for scheme in SCHEMES}

    def choose(scheme):
        tab.emulate_media(color_scheme=scheme)
        tab.wait_for_function(f"document.documentElement.dataset.theme === '{scheme}'")

    def look(scheme, **options):
        for violation in ask(tab, AXE, {"resultTypes": ["violations"], **options}):
            found[scheme] += [f"{violation['help']}: {node['html'][:200]}" for node in violation["nodes"]]

    ask(tab, TYPESET)
    ask(tab, KEEP_EACH_COLOUR_OF_CODE)
    tab.evaluate(AXE_SCRIPT)
    look("light", runOnly=STANDARD, rules={"color-contrast": {"enabled": False}})
    for scheme in SCHEMES:
        choose(scheme)
        ask(tab, NOTE_LOOKS)
    ask(tab, KEEP_EACH_LOOK)
    for scheme in reversed(SCHEMES):
        choose(scheme)
        look(scheme, runOnly=["color-contrast"])
    return found


@dataclass
class Tour:
    """What was met on all pages, each loaded once."""

    asked: list[str] = field(default_factory=list)  # addresses
    problems: list[str] = field(default_factory=list)  # missing files and errors of pages
    width: dict[str, int] = field(default_factory=dict)  # page -> its width on a phone
    violations: dict[str, list[str]] = field(default_factory=lambda: {scheme: [] for scheme in SCHEMES})


@pytest.fixture(scope="module")
def tour(chromium, server, pages) -> Tour:
    """First on a phone, then in a window, where axe looks."""
    found = Tour()

    def answered(response):
        if response.status >= 400:
            found.problems.append(f"{response.status} {response.url}")

    with still_tab(chromium) as tab:
        tab.on("request", lambda request: found.asked.append(request.url))
        tab.on("response", answered)
        tab.on("pageerror", lambda error: found.problems.append(str(error)))
        window = tab.viewport_size
        for name in pages:
            tab.set_viewport_size({"width": PHONE, "height": 844})
            tab.goto(server + name)
            ask(tab, TYPESET)
            tab.wait_for_timeout(100)
            found.width[name] = ask(tab, "() => document.documentElement.scrollWidth")
            problems = len(found.problems)
            tab.set_viewport_size(window)
            tab.wait_for_timeout(100)
            for scheme, each in what_axe_finds(tab).items():
                found.violations[scheme] += [f"{name}: {violation}" for violation in each]
            del found.problems[problems:]  # axe's own: it asks for a style sheet's parts at wrong addresses
    return found


@pytest.mark.browser
def test_no_page_asks_another_machine_lacks_a_file_stops_or_is_too_wide_for_a_phone(tour, server, pages):
    assert len(tour.asked) > len(pages)
    assert not [url for url in tour.asked if not url.startswith((server, "data:", "about:", "blob:"))]
    assert not tour.problems
    assert set(tour.width) == set(pages) and not {name for name, width in tour.width.items() if width > PHONE}


@pytest.mark.browser
def test_a_faint_word_among_many_is_found(tab, server):
    tab.goto(server + address(NOTEBOOKS[0]))
    for name, selector in {"in-light": "article section > p", "in-dark": "article td p"}.items():
        tab.locator(f"{selector}:visible").last.evaluate("(element, name) => element.id = name", name)
    faint = "#in-light { color: #aaa !important } [data-theme=dark] #in-dark { color: #666 !important }"
    tab.add_style_tag(content=f"{faint} .highlight .nn {{ color: #999 !important }}")
    found = what_axe_finds(tab)
    code, words = sorted(found["light"], key=lambda each: "in-light" in each)
    assert 'class="nn"' in code and 'id="in-light"' in words
    (words,) = found["dark"]
    assert 'id="in-dark"' in words


@pytest.mark.browser
@pytest.mark.slow
@pytest.mark.parametrize("scheme", SCHEMES)
def test_every_page_is_accessible(scheme, tour):
    assert not tour.violations[scheme], "\n".join(tour.violations[scheme])


@pytest.mark.browser
@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)
def test_formulas_are_typeset_from_the_disk(notebook, tab, html):
    if not has_mathjax():
        pytest.skip("npm could not fetch MathJax")
    tab.goto((html / address(notebook)).as_uri())
    ask(tab, TYPESET)
    count = len(formulas(notebook))
    assert ask(tab, FORMULAS) == {"sources": count, "typeset": count, "spoken": count, "wrong": []}


@pytest.mark.browser
def test_sliders_move_from_the_disk(tab, html, pages):
    moved = 0
    for name in (name for name, page in pages.items() if page.select("iframe")):
        tab.goto((html / name).as_uri())
        for frame in tab.locator("iframe").all():
            frame.scroll_into_view_if_needed()
            slider, picture = (frame.content_frame.locator(tag) for tag in ("input[type=range]", "img"))
            before = picture.get_attribute("src"), picture.get_attribute("alt")
            slider.focus()
            tab.keyboard.press("ArrowLeft")
            after = picture.get_attribute("src"), picture.get_attribute("alt")
            assert after[0] != before[0] and after[1] != before[1], name
            moved += 1
    assert moved == sum(len(page.select("iframe")) for page in pages.values()) > 0


@pytest.mark.browser
@pytest.mark.parametrize("place", ["server", "disk"])
def test_search_finds_english_and_korean_words(place, tab, html, server):
    start = server if place == "server" else f"{html.as_uri()}/"
    text = {notebook: markdown(notebook) for notebook in NOTEBOOKS}
    korean = re.search(r"[가-힣]{3,}", "\n".join(text.values()))[0]
    for word in ("discriminator", korean):
        tab.goto(f"{start}search.html?q={word}")
        links = tab.locator("#search-results li a")
        links.first.wait_for()
        found = {re.split("[?#]", link.get_attribute("href"))[0] for link in links.all()}
        assert found & {address(notebook) for notebook, its in text.items() if word in its}, (word, found)


@pytest.mark.browser
def test_in_the_dark_pictures_keep_their_white_paper(tab, server, pages):
    tab.emulate_media(color_scheme="dark")
    name = next(name for name, page in pages.items() if page.select(".cell_output img"))
    tab.goto(server + name)
    style = (
        "image => { const { backgroundColor, filter } = getComputedStyle(image); return [backgroundColor, filter]; }"
    )
    for colour, filters in (image.evaluate(style) for image in tab.locator(".cell_output img").all()):
        red, green, blue = map(int, re.findall(r"\d+", colour)[:3])
        assert min(red, green, blue) > 180 and "invert" not in filters, (colour, filters)
