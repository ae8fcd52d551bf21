"""How Sphinx builds the site (HTML) and the book (EPUB). tools/build_site.py lays out the pages and calls it."""

import json
import subprocess
import sys
import tomllib
from pathlib import Path

from docutils import nodes
from myst_nb.sphinx_ import HideCodeCellNode

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from tools import build_site, stamp  # noqa: E402

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
REPOSITORY, BRANCH = stamp.current_stamp()

project = html_title = epub_title = "GAN training stability"
version = release = PROJECT["version"]
author = epub_author = epub_publisher = "The gan-training-stability contributors"
copyright = f"{author}, {PROJECT['license']} licence"
language = "en"
extensions = ["myst_nb"]
exclude_patterns = ["**/.ipynb_checkpoints"]

# Nothing is run: the pages show the stored outputs.
nb_execution_mode = "off"
nb_merge_streams = True
myst_enable_extensions = ["dollarmath", "amsmath"]
myst_heading_anchors = 3
nb_code_prompt_show, nb_code_prompt_hide = "Show the code", "Hide the code"

html_theme = "sphinx_book_theme"
html_theme_options = {
    "repository_url": stamp.repository_address(REPOSITORY),
    "repository_branch": BRANCH,
    "use_repository_button": True,
    "use_issues_button": True,
    "home_page_in_toc": True,
    "show_toc_level": 2,
    "navbar_persistent": [],  # search stands in the sidebar
}
html_static_path = ["static"]
html_favicon = "static/favicon.svg"
html_css_files = ["site.css"]

# Formulas are typeset in the reader's browser by MathJax, all of TeX in one file. Where npm is missing they are shown
# as source, and in a book as MathML: renderers for both stand below, and tools/build_site.py chooses.
html_math_renderer, mathjax_config_path = "mathjax", "mathjax.js"
if build_site.MATHJAX.is_file():
    html_static_path.append(str(build_site.MATHJAX.parent))
    mathjax_path = build_site.MATHJAX.name

epub_identifier = epub_uid = epub_basename = build_site.NAME
epub_description = PROJECT["description"]
epub_show_urls = "no"
epub_css_files = ["book.css"]
epub_exclude_files = [".nojekyll", ".buildinfo"]
suppress_warnings = ["epub.unknown_project_files"]  # fonts and notebooks, which a book leaves out


def describe_pictures(_app, doctree) -> None:
    """Gives each output picture its description, which stands beside it as text/plain and which myst-nb leaves out."""
    for bundle in doctree.findall(nodes.container):
        if bundle.get("nb_element") != "mime_bundle":
            continue
        parts = {part["mime_type"]: part for part in bundle.children}
        if {"image/png", "text/plain"} <= set(parts):
            for picture in parts["image/png"].findall(nodes.image):
                picture["alt"] = parts["text/plain"].astext()


def suit_a_book(app, doctree, _name) -> None:
    """A book leaves out sliders, which are scripts, unfolds code, and has formulas as MathML, by MathJax in Node.js."""
    if app.builder.name != "epub":
        return
    for folded in list(doctree.findall(HideCodeCellNode)):
        folded.replace_self(folded.children)
    for raw in list(doctree.findall(nodes.raw)):
        if "<iframe" in raw.astext():
            raw.parent.remove(raw)
    formulas = [*doctree.findall(nodes.math), *doctree.findall(nodes.math_block)]
    if formulas and app.config.html_math_renderer == "mathml":
        sources = [[formula.astext(), isinstance(formula, nodes.math_block)] for formula in formulas]
        command = ["node", str(ROOT / "site" / "to_mathml.js"), str(build_site.MATHJAX.parents[1])]
        done = subprocess.run(command, input=json.dumps(sources), capture_output=True, text=True, check=True)
        for formula, mathml in zip(formulas, json.loads(done.stdout), strict=True):
            formula["mathml"] = mathml


def suit_a_books_page(app, _name, _template, context, _doctree) -> None:
    """myst-nb's style sheet arrives after the EPUB has been packed."""
    if app.builder.name == "epub":
        context["css_files"] = [file for file in context["css_files"] if "mystnb" not in str(file.filename)]


def visit_mathml(self, node) -> None:
    self.body.append(node["mathml"])
    raise nodes.SkipNode


def visit_source(self, node) -> None:
    self.body.append(f'<code class="math">{self.encode(node.astext())}</code>')
    raise nodes.SkipNode


def setup(app) -> None:
    app.connect("doctree-read", describe_pictures)
    app.connect("doctree-resolved", suit_a_book)
    app.connect("html-page-context", suit_a_books_page)
    app.add_html_math_renderer("mathml", (visit_mathml, None), (visit_mathml, None))
    app.add_html_math_renderer("source", (visit_source, None), (visit_source, None))
