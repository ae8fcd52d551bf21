"""Builds the site from the stored notebooks, and what readers take along; runs no notebook.

    python tools/build_site.py [--download] [--plain-formulas] [--out FOLDER]

Sphinx wants its pages in one folder, so the notebooks, README.md, site/*.md and every file they link to are laid out
there first. A link to Markdown leads to its page, a link to code to a page that shows it, any other to the repository.
Formulas are typeset by MathJax, which npm fetches once into build/. The site goes to FOLDER/html; with --download the
site (zip), the book (EPUB), the project with its notebooks (zip) and checksums go to FOLDER/html/download.
"""

import argparse
import hashlib
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import time
import zipfile
from pathlib import Path
from urllib.parse import unquote

import nbformat

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from tools import stamp  # noqa: E402
from tools.build_notebooks import is_setup_cell  # noqa: E402

NAME = "gan-training-stability"
MATHJAX_VERSION = "3.2.2"
MATHJAX = ROOT / "build" / f"mathjax-{MATHJAX_VERSION}" / "mathjax" / "tex-svg-full.js"
LINK = re.compile(r"\]\(([^)#\s]*)(#[^)\s]*)?")
COLAB_BADGE = re.compile(r"!\[([^\]]*)\]\(https://colab\.research\.google\.com/assets/[^)\s]+\)")
REMOTE_PICTURE = re.compile(r"!\[([^\]]*)\]\(https?://[^)\s]+\)")
PICTURES = {".png", ".svg", ".jpg", ".webp"}
LANGUAGES = {".py": "python", ".toml": "toml", ".yml": "yaml", ".cff": "yaml", "": "text"}  # of code that has a page
OPENING_MARK, FILES_MARK = "<!-- opening of README.md -->", "<!-- files -->"  # in site/index.md, in site/download.md


# ---- pages ---------------------------------------------------------------------------------------------------------


def lay_out(folder: Path) -> None:
    """Writes the pages that the site starts from and, file by file, all that they link to."""
    start = [*(ROOT / "site").glob("*.md"), ROOT / "README.md", *(ROOT / "notebooks").glob("*.ipynb")]
    waiting, done = {path.relative_to(ROOT).as_posix() for path in start}, set()
    while waiting - done:
        for name in waiting - done:
            target = folder / place(name)
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(page(name, waiting))
            done.add(name)


def place(name: str) -> str:
    """Where the page of a file lies among the pages; ``name`` is its path in the repository."""
    name = name.removeprefix("site/")
    return name if Path(name).suffix in {".ipynb", ".md", *PICTURES} else f"{name}.md"


def has_page(path: Path) -> bool:
    if path.suffix == ".ipynb":
        return path.parent == ROOT / "notebooks"
    return path.is_file() and path.suffix in {".md", *PICTURES, *LANGUAGES}


def page(name: str, linked: set[str]) -> bytes:
    """What stands on the page of a file; adds the files that it links to to ``linked``."""
    path = ROOT / name
    if path.suffix in PICTURES:
        return path.read_bytes()
    if path.suffix == ".ipynb":
        return notebook_page(name, linked).encode()
    text = path.read_text(encoding="utf-8")
    if path.suffix != ".md":
        return f"---\norphan: true\n---\n# `{name}`\n\n`````{LANGUAGES[path.suffix]}\n{text}\n`````\n".encode()
    text = with_site_links(text, name, linked)
    if name == "README.md":  # its opening begins the site, the rest says how to run the notebooks
        return f"# Run it yourself\n\n## {opening_and_rest(text)[1]}".encode()
    if name == "site/index.md":
        readme = (ROOT / "README.md").read_text(encoding="utf-8")
        text = text.replace(OPENING_MARK, with_site_links(opening_and_rest(readme)[0], "README.md", linked))
    return (text if name.startswith("site/") else f"---\norphan: true\n---\n{text}").encode()


def opening_and_rest(readme: str) -> tuple[str, str]:
    opening, _, rest = readme.partition("\n## ")
    return opening, rest


def notebook_page(name: str, linked: set[str]) -> str:
    notebook = nbformat.read(ROOT / name, as_version=4)
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            cell.source = with_site_links(cell.source, name, linked)
        elif is_setup_cell(cell) or cell.metadata.get("jupyter", {}).get("source_hidden"):
            cell.metadata["tags"] = [*cell.metadata.get("tags", []), "hide-input"]
    return nbformat.writes(notebook)


def with_site_links(text: str, name: str, linked: set[str]) -> str:
    """Markdown of the file ``name`` with links that hold among the pages and without pictures from elsewhere."""

    def replace(match) -> str:
        target, anchor = match[1], match[2] or ""
        if "://" in target or target.startswith(("mailto:", "attachment:")):
            return match[0]
        # JupyterLab keeps a heading's capitals and signs in its anchor, GitHub and MyST do not.
        anchor = re.sub(r"[^\w#-]", "", unquote(anchor).lower())
        if not target:
            return f"]({anchor}"
        path = (ROOT / name).parent.joinpath(target).resolve()
        path = path / "README.md" if (path / "README.md").is_file() else path
        if not path.exists():
            raise SystemExit(f"{name} links to {target}, which does not exist")
        file = path.relative_to(ROOT).as_posix()
        if not has_page(path):
            repository, branch = stamp.current_stamp()
            return f"]({stamp.repository_address(repository)}/blob/{branch}/{file}"
        linked.add(file)
        return f"]({Path(os.path.relpath(place(file), Path(place(name)).parent)).as_posix()}{anchor}"

    badge = Path(os.path.relpath("site/static/colab-badge.svg", Path(name).parent)).as_posix()
    text = COLAB_BADGE.sub(rf"![\1]({badge})", text)
    text = REMOTE_PICTURE.sub(r"\1", text)
    return LINK.sub(replace, text)


# ---- building ------------------------------------------------------------------------------------------------------


def fetch_mathjax() -> None:
    """MathJax from npm into build/, unless it is there."""
    if MATHJAX.is_file():
        return
    npm = shutil.which("npm")
    if npm is None:
        raise SystemExit(
            "npm was not found; it fetches MathJax, which typesets the formulas. Install Node.js with npm (Debian and "
            "Ubuntu: apt-get install npm), or show formulas as source: make site ARGS=--plain-formulas"
        )
    folder = MATHJAX.parents[1]
    folder.parent.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent) as temporary:
        command = [npm, "pack", "--silent", f"mathjax@{MATHJAX_VERSION}"]
        if subprocess.run(command, cwd=temporary, stdout=subprocess.DEVNULL).returncode != 0:
            raise SystemExit(f"npm could not fetch mathjax@{MATHJAX_VERSION}; its message stands above")
        (archive,) = Path(temporary).glob("*.tgz")
        with tarfile.open(archive) as packed:
            packed.extraction_filter = getattr(tarfile, "data_filter", None)  # extractall's filter="data" is of 3.11.4
            packed.extractall(temporary)
        package = Path(temporary) / "package"
        (package / MATHJAX.parent.name).mkdir()  # what the site takes of it: one file and its licence
        shutil.copyfile(package / "es5" / MATHJAX.name, package / MATHJAX.parent.name / MATHJAX.name)
        shutil.copyfile(package / "LICENSE", package / MATHJAX.parent.name / "LICENSE.mathjax.txt")
        shutil.rmtree(folder, ignore_errors=True)
        os.replace(package, folder)


def build(out: Path, plain_formulas: bool, download: bool) -> None:
    """Everything below ``out``, from nothing."""
    for name in ("pages", "html", "epub", "doctrees-html", "doctrees-epub", "jupyter_execute"):
        shutil.rmtree(out / name, ignore_errors=True)
    lay_out(out / "pages")
    sphinx("html", out, "source" if plain_formulas else "mathjax")
    for notebook in (ROOT / "notebooks").glob("*.ipynb"):  # the button "download" gives the file itself
        shutil.copyfile(notebook, out / "html" / "_sources" / "notebooks" / notebook.name)
    if download:
        sphinx("epub", out, "source" if plain_formulas else "mathml")
        add_downloads(out / "html", out / "epub" / f"{NAME}.epub")


def sphinx(builder: str, out: Path, formulas: str) -> None:
    """Runs Sphinx on the pages; a warning is an error."""
    command = [sys.executable, "-m", "sphinx", "--builder", builder, "--quiet", "--fail-on-warning"]
    command += ["--conf-dir", str(ROOT / "site"), "--doctree-dir", str(out / f"doctrees-{builder}")]
    command += ["-D", f"html_math_renderer={formulas}", str(out / "pages"), str(out / builder)]
    environment = dict(os.environ)
    if (ROOT / ".git").exists():  # so that a commit gives the same files whenever it is built
        environment["SOURCE_DATE_EPOCH"] = git("log", "-1", "--format=%ct").strip()
    if subprocess.run(command, env=environment).returncode != 0:
        raise SystemExit(f"Sphinx could not build the {builder}; its messages stand above")


def git(*arguments: str) -> str:
    return subprocess.run(["git", *arguments], cwd=ROOT, check=True, capture_output=True, text=True).stdout


# ---- to take along -------------------------------------------------------------------------------------------------


def add_downloads(html: Path, book: Path) -> None:
    """html/download with site, book, project and checksums, and their list on the page download.html."""
    if not (ROOT / ".git").exists():
        raise SystemExit("--download packs the files that git tracks, and this is no git clone")
    names = git("ls-files", "-z", "--cached", "--others", "--exclude-standard").split("\0")
    project = {f"{NAME}/{name}": ROOT / name for name in names if name and (ROOT / name).is_file()}
    site = {f"{NAME}-site/{path.relative_to(html).as_posix()}": path for path in html.rglob("*") if path.is_file()}
    folder = html / "download"
    folder.mkdir()
    pack(folder / f"{NAME}-notebooks.zip", project)
    pack(folder / f"{NAME}-site.zip", site)
    pack_book(book, folder / book.name)
    made = sorted(folder.iterdir())
    sums = (f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.name}\n" for path in made)
    (folder / "SHA256SUMS").write_text("".join(sums), encoding="utf-8")
    entries = [f'<a href="download/{path.name}">{path.name}</a>, {megabytes([path])}' for path in made]
    listed = "".join(f"<li>{entry}</li>" for entry in [*entries, '<a href="download/SHA256SUMS">SHA256SUMS</a>'])
    page = html / "download.html"
    page.write_text(page.read_text(encoding="utf-8").replace(FILES_MARK, f"<ul>{listed}</ul>"), encoding="utf-8")


def pack(archive: Path, files: dict[str, Path]) -> None:
    """A zip of files: name in it -> path."""
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as packed:
        for name, path in sorted(files.items()):
            packed.writestr(undated(name, executable=os.access(path, os.X_OK)), path.read_bytes())


def pack_book(book: Path, archive: Path) -> None:
    """The EPUB that Sphinx made, whose list of contents must name the pages that hold MathML and does not."""
    with zipfile.ZipFile(book) as given, zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as packed:
        contents = {name: given.read(name) for name in given.namelist()}
        for name in (name for name, content in contents.items() if b"<math" in content):
            item = f'href="{name}" media-type="application/xhtml+xml"'.encode()
            contents["content.opf"] = contents["content.opf"].replace(item, item + b' properties="mathml"')
        for name, content in contents.items():
            kind = zipfile.ZIP_STORED if name == "mimetype" else zipfile.ZIP_DEFLATED
            packed.writestr(undated(name), content, kind)


def undated(name: str, executable: bool = False) -> zipfile.ZipInfo:
    """An entry of an archive that is the same whenever it is packed."""
    entry = zipfile.ZipInfo(name, date_time=(1980, 1, 1, 0, 0, 0))
    entry.compress_type, entry.external_attr = zipfile.ZIP_DEFLATED, (0o755 if executable else 0o644) << 16
    return entry


def megabytes(paths) -> str:
    return f"{sum(path.stat().st_size for path in paths) / 1e6:.1f} MB"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--download", action="store_true", help="also make what readers take along")
    parser.add_argument("--plain-formulas", action="store_true", help="show formulas as TeX source; needs no npm")
    parser.add_argument("--out", type=Path, default=ROOT / "build" / "site", help="default: build/site")
    arguments = parser.parse_args()
    start, out = time.perf_counter(), arguments.out.resolve()
    if not arguments.plain_formulas:
        fetch_mathjax()
    build(out, arguments.plain_formulas, arguments.download)
    downloads = sorted((out / "html" / "download").glob("*"))
    for path in downloads:
        print(f"{path}: {megabytes([path])}")
    site = {path for path in (out / "html").rglob("*") if path.is_file()} - set(downloads)
    print(f"{out / 'html' / 'index.html'}: {megabytes(site)} in {time.perf_counter() - start:.0f} s")


if __name__ == "__main__":
    main()
