"""What strict nbval does not compare: pictures, alt text, headings, links, tags, the set-up cell.

No kernel is started. Together with `pytest --nbval notebooks` it makes a stored notebook that is
stale, empty or unreadable fail.
"""

import base64
import io
import re
import statistics
from pathlib import Path

import nbformat
import pytest
from PIL import Image

from tools import stamp
from tools.build_notebooks import SETUP_CELL, WIDGET_VIEW, is_setup_cell, say_when_stored

ROOT = Path(__file__).resolve().parents[1]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
# nbval-skip is not among them: a cell that is not run proves nothing.
ALLOWED_TAGS = {
    "nbval-ignore-output",
    "raises-exception",
    "exercise",
    "solution",
    "hide-input",
    "remove-input",
}
MEDIAN_LINES, MOST_LINES, MOST_FIGURES = 8, 25, 30
LARGEST_FILE, LARGEST_PICTURE, LARGEST_IGNORED_SHARE = 3_000_000, 400_000, 0.5
MACHINE_PATH = re.compile(r"(?<![\w.:/-])/(?:root|home|Users|tmp|content|work)/\w|\b[A-Z]:\\\\\w")
GENERIC_ALT = re.compile(r"<Figure|<IPython|Figure\(|^(image|figure|plot|picture)?\W*$", re.IGNORECASE)


@pytest.fixture(params=NOTEBOOKS, ids=lambda path: path.stem)
def path(request):
    return request.param


@pytest.fixture
def notebook(path):
    return nbformat.read(path, as_version=4)


def code_cells(notebook) -> list:
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def markdown(notebook) -> str:
    return "\n\n".join(cell.source for cell in notebook.cells if cell.cell_type == "markdown")


def tags(cell) -> set[str]:
    return set(cell.metadata.get("tags", []))


def checked(cell) -> bool:
    return "nbval-ignore-output" not in tags(cell)


def output_text(cell) -> str:
    parts = []
    for output in cell.outputs:
        parts += [output.get("text", ""), str(output.get("data", {}).get("text/plain", ""))]
        parts += output.get("traceback", [])
    return "\n".join(parts)


def pictures(cell) -> list:
    return [output for output in cell.outputs if "image/png" in output.get("data", {})]


def test_file_format(path, notebook):
    text = path.read_text(encoding="utf-8")
    nbformat.validate(notebook)
    assert (notebook.nbformat, notebook.nbformat_minor) == (4, 5)
    assert text.endswith("}\n") and len(text) < LARGEST_FILE, f"{len(text) / 1e6:.1f} MB"
    identifiers = [cell.id for cell in notebook.cells]
    assert len(identifiers) == len(set(identifiers))
    assert set(notebook.metadata) == {"kernelspec", "language_info"}, "run tools/build_notebooks.py"
    assert notebook.metadata.kernelspec.name == "python3"
    assert "version" not in notebook.metadata.language_info


def test_stored_from_one_run_in_order(notebook):
    counts = [cell.execution_count for cell in code_cells(notebook)]
    assert counts == list(range(1, len(counts) + 1)), "run `make notebooks`"


def test_outputs_are_complete_without_a_kernel(notebook):
    for cell in code_cells(notebook):
        for output in cell.outputs:
            data = output.get("data", {})
            assert WIDGET_VIEW not in data, f"{cell.id}: a stored widget view reopens as 'model not found'"
            if str(data.get("text/plain", "")).startswith("<Figure"):
                assert "image/png" in data, f"{cell.id}: a figure without its picture"
            if output.output_type == "error":
                assert "raises-exception" in tags(cell), f"{cell.id}: an error is stored"
        if "raises-exception" in tags(cell):
            assert any(output.output_type == "error" for output in cell.outputs), f"{cell.id}: did not raise"


def test_cells_that_show_a_figure_store_it(notebook):
    shows = re.compile(r"(?<!def )\b(?:show|plt\.show|show_figure|interactive_figure|interactive)\(")
    for cell in code_cells(notebook):
        if shows.search(cell.source) and "exercise" not in tags(cell):
            html = any("text/html" in output.get("data", {}) for output in cell.outputs)
            assert pictures(cell) or html, f"{cell.id}: its picture is missing"


def test_pictures_are_readable_and_described(notebook):
    count = 0
    for cell in code_cells(notebook):
        for output in pictures(cell):
            count += 1
            content = base64.b64decode(output.data["image/png"])
            image = Image.open(io.BytesIO(content))
            assert image.width >= 200 and len(content) < LARGEST_PICTURE, f"{cell.id}: {image.size}, {len(content)}"
            darkest, brightest = image.convert("L").getextrema()
            assert brightest - darkest > 50, f"{cell.id}: blank figure"
            alternative = output.metadata.get("image/png", {}).get("alt", "")
            assert len(alternative) >= 20 and not GENERIC_ALT.search(alternative), (
                f"{cell.id}: the figure needs alt text that says what it shows, not {alternative!r}"
            )
            assert output.data["text/plain"] == alternative, f"{cell.id}: nbval must compare the alt text"
    assert count >= len(code_cells(notebook)) / 6, f"only {count} figures"


def test_images_in_text_are_described(notebook):
    assert not re.search(r"!\[\s*\]\(|<img(?![^>]*\balt=\"[^\"]+\")", markdown(notebook))


def test_headings_descend_one_level_at_a_time(notebook):
    text = re.sub(r"```.*?```", "", markdown(notebook), flags=re.DOTALL)
    levels = [len(marks) for marks in re.findall(r"^(#+) ", text, re.MULTILINE)]
    assert levels[:1] == [1] and levels.count(1) == 1, "one title, and it comes first"
    steps = [later - earlier for earlier, later in zip(levels, levels[1:], strict=False)]
    assert max(steps, default=0) <= 1, f"a heading level is skipped: {levels}"


def test_sections_are_numbered_without_a_gap(notebook):
    """Other places refer to them by number."""
    numbers = [int(number) for number in re.findall(r"^## (\d+) · ", markdown(notebook), re.MULTILINE)]
    assert numbers == list(range(1, len(numbers) + 1)) != []


def test_nothing_that_nbval_cannot_replay(notebook):
    for cell in code_cells(notebook):
        last = cell.source.rstrip()
        assert not last.endswith(";"), f"{cell.id}: nbval prints what a final ';' hides"
        unstable = r"clear_output|update_display|display_id|%%capture|\bOutput\(|\binteract(?:ive_output)?\("
        assert not re.search(unstable, cell.source), f"{cell.id}: nbval does not replay these messages"
        assert not re.search(r"^\s*[!%]\s*(?:pip|conda)\b", cell.source, re.MULTILINE), f"{cell.id}: installs"
        assert not re.search(r"\bat 0x[0-9a-f]{6,}", output_text(cell)), f"{cell.id}: an address is stored"
        assert not MACHINE_PATH.search(output_text(cell)), f"{cell.id}: a path of the build machine is stored"
        assert not MACHINE_PATH.search(cell.source), f"{cell.id}: a path of one machine"
        if checked(cell):
            assert all(output.get("name") != "stderr" for output in cell.outputs), f"{cell.id}: stderr stored"


def test_most_cells_are_compared_and_the_others_stand_beside_facts(notebook):
    """A cell whose output differs from machine to machine has a compared fact right before it or soon after it."""
    cells = code_cells(notebook)
    unknown = set().union(*map(tags, cells)) - ALLOWED_TAGS
    assert not unknown, f"unknown tags {unknown}"
    assert not any(re.search(r"^\s*#\s*(?:NBVAL_|PYTEST_VALIDATE)", cell.source, re.M) for cell in cells)
    ignored = [index for index, cell in enumerate(cells) if not checked(cell)]
    assert len(ignored) <= LARGEST_IGNORED_SHARE * len(cells), f"{len(ignored)} of {len(cells)} not compared"
    for index in ignored:
        near = cells[max(index - 1, 0) : index + 4]
        facts = (cell for cell in near if checked(cell) and "assert" in cell.source and cell.outputs)
        assert next(facts, None), (
            f"{cells[index].id}: no compared cell with an assert before it or among the next three"
        )


def test_code_cells_are_short(notebook):
    """Solutions stand in Markdown, and the set-up cell is folded: what is left is read."""
    lengths = {cell.id: len(cell.source.splitlines()) for cell in code_cells(notebook) if not is_setup_cell(cell)}
    assert statistics.median(lengths.values()) <= MEDIAN_LINES, sorted(lengths.values())
    assert max(lengths.values()) <= MOST_LINES, {name: n for name, n in lengths.items() if n > MOST_LINES}


def test_there_are_not_too_many_figures(notebook):
    assert sum(len(pictures(cell)) for cell in code_cells(notebook)) <= MOST_FIGURES


def test_a_reading_follows_every_figure(notebook):
    """Within two cells stands Markdown that opens no new section and has two sentences: what to see, what follows."""
    for index, cell in enumerate(notebook.cells):
        if cell.cell_type == "code" and pictures(cell):
            following = notebook.cells[index + 1 : index + 3]
            assert any(is_reading(each) for each in following), f"{cell.id}: its figure is not read"


def is_reading(cell) -> bool:
    text = re.sub(r"<details>.*?</details>", "", cell.source, flags=re.DOTALL)
    text = re.split(r"^#+ ", text, maxsplit=1, flags=re.MULTILINE)[0]  # what comes before a new section
    return cell.cell_type == "markdown" and len(re.findall(r"[.!?:](?=\s|\*|$)", text)) >= 2


def test_the_answer_comes_first(path, notebook):
    """A box of four lines below the title: question, answer in one sentence, the one figure, one caveat.

    > **Question:** Why does a GAN collapse?
    >
    > **Answer:** Because ...
    >
    > **Figure:** [A chase on the ring](#2-·-A-chase-on-the-ring): ...
    >
    > **Caveat:** ...
    """
    if path.stem.startswith("00"):
        return  # the start page opens with the laboratory
    opening = notebook.cells[0].source
    box = re.findall(r"^> \*\*(\w+):\*\* (.+)$", opening, re.MULTILINE)
    assert [name for name, _ in box] == ["Question", "Answer", "Figure", "Caveat"], "the box below the title"
    lines = dict(box)
    assert lines["Question"].endswith("?")
    assert len(re.findall(r"[.!?](?=\s|$)", lines["Answer"])) == 1 and lines["Answer"].endswith("."), "one sentence"
    assert opening.index("> **Question") < opening.lower().index("you will be able to")
    (target,) = re.findall(r"\]\(#([^)]+)\)", lines["Figure"])
    section = cells_of_section(notebook, target)
    assert any(pictures(cell) for cell in section if cell.cell_type == "code"), f"no figure in section {target!r}"


def cells_of_section(notebook, target: str) -> list:
    """The cells below the heading that JupyterLab gives the anchor ``target``, until the next one of its rank."""
    heading = re.compile(r"^(#+) (.*)$", re.MULTILINE)
    headings = [
        [(len(marks), name.strip().replace(" ", "-")) for marks, name in heading.findall(cell.source)]
        if cell.cell_type == "markdown"
        else []
        for cell in notebook.cells
    ]
    start = next((index for index, each in enumerate(headings) if each and each[-1][1] == target), None)
    assert start is not None, f"no heading has the anchor {target!r} and stands last in its cell: {headings}"
    rank = headings[start][-1][0]
    end = start + 1
    while end < len(headings) and not any(level <= rank for level, _ in headings[end]):
        end += 1
    return notebook.cells[start + 1 : end]


def test_anchors_lead_to_headings(notebook):
    names = [name.strip().replace(" ", "-") for name in re.findall(r"^#+ (.*)$", markdown(notebook), re.MULTILINE)]
    for target in re.findall(r"\]\(#([^)]+)\)", markdown(notebook)):
        assert target in names, f"no heading has the anchor {target!r}: {names}"


def test_references_to_other_notebooks_arrive(notebook):
    """A link with an anchor, or with a section beside it: "[notebook 4b](04b_evidence.ipynb), section 5"."""
    text = markdown(notebook)
    for name, anchor in re.findall(r"\]\((\w+\.ipynb)#([^)]+)\)", text):
        assert anchor in [heading.replace(" ", "-") for heading in headings_of(name)], f"{name} lacks {anchor}"
    sections = re.findall(r"\]\((\w+\.ipynb)\)[,:] sections? (\d+)(?:(?:,| and) (\d+))?", text)
    sections += [
        (name, number, "") for number, name in re.findall(r"[Ss]ection (\d+) of notebook \w+\]\((\w+\.ipynb)\)", text)
    ]
    for name, *numbers in sections:
        for number in filter(None, numbers):
            assert any(heading.startswith(f"{number} ·") for heading in headings_of(name)), (
                f"{name}: no section {number}"
            )


def headings_of(name: str) -> list[str]:
    text = markdown(nbformat.read(ROOT / "notebooks" / name, as_version=4))
    return [heading.strip() for heading in re.findall(r"^#+ (.*)$", text, re.MULTILINE)]


def test_only_plumbing_is_folded(notebook):
    """The set-up cell, and cells that draw; each has a title for Colab, and no assertion, for these are to be read."""
    for cell in code_cells(notebook):
        hidden = bool(cell.metadata.get("jupyter", {}).get("source_hidden"))
        assert hidden == (cell.metadata.get("cellView") == "form"), f"{cell.id}: run tools/build_notebooks.py"
        if is_setup_cell(cell):
            assert hidden, "the set-up cell is folded"
        elif hidden:
            assert cell.source.startswith("# @title "), f"{cell.id}: a folded cell starts with '# @title What it draws'"
            assert pictures(cell), f"{cell.id}: only cells that draw are folded"
            assert not re.search(r"^\s*assert\b", cell.source, re.MULTILINE), f"{cell.id}: a folded assertion"
        else:
            assert "@title" not in cell.source, f"{cell.id}: titles are for folded cells"


def test_setup_cell_is_the_shared_one_and_comes_first(notebook):
    first = code_cells(notebook)[0]
    assert first.source == SETUP_CELL, "run `python tools/build_notebooks.py --no-exec`"
    assert output_text(first).strip() == "Set-up done."


def test_the_line_on_stored_outputs_stands_below_the_title(notebook):
    lines = re.findall(r"^\*Outputs stored .*$", markdown(notebook), re.MULTILINE)
    assert len(lines) <= 1
    if lines:
        pattern = r"^# .*\n\n\*Outputs stored \d{4}-\d\d-\d\d with torch [\w.+]+\.\*$"
        assert re.search(pattern, markdown(notebook), re.MULTILINE), "written by `make notebooks`"


def test_storing_again_replaces_the_line_on_stored_outputs():
    text = "[badge](x)\n\n# Title\n\nText. *Outputs stored by hand* stay."
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_markdown_cell(text)])
    say_when_stored(notebook)
    once = notebook.cells[0].source
    notebook.cells[0].source = re.sub(r"stored \d{4}", "stored 1999", once)
    say_when_stored(notebook)
    assert notebook.cells[0].source == once
    assert re.sub(r"\*Outputs stored [\d-]+ with torch \S+\.\*\n\n", "", once) == text


def test_colab_badge_opens_this_notebook(path, notebook):
    repository, branch = stamp.current_stamp()
    address = f"https://colab.research.google.com/github/{repository}/blob/{branch}/notebooks/{path.name}"
    assert f"]({address})" in notebook.cells[0].source, f"the first cell needs a badge that leads to {address}"


def test_neighbours_are_linked(path, notebook):
    place = NOTEBOOKS.index(path)
    neighbours = NOTEBOOKS[max(place - 1, 0) : place] + NOTEBOOKS[place + 1 : place + 2]
    for neighbour in neighbours:
        assert f"({neighbour.name})" in markdown(notebook), f"no link to {neighbour.name}"


def test_links_inside_the_project_lead_somewhere(path, notebook):
    for target in re.findall(r"\]\(([^)#\s]+)[^)]*\)", markdown(notebook)):
        if "://" not in target and not target.startswith("attachment:"):
            assert (path.parent / target).exists(), f"{path.name} links to {target}"


def test_opening_and_closing_sections(notebook):
    opening = "\n".join(cell.source for cell in notebook.cells[:4] if cell.cell_type == "markdown").lower()
    assert "you will be able to" in opening and "prerequisite" in opening
    assert re.search(r"\d\s*(?:min|s\b|second)", opening), "the measured run time"
    headings = " ".join(re.findall(r"^#+ (.*)$", markdown(notebook), re.MULTILINE)).lower()
    for section in ("exercise", "recap", "reference"):
        assert section in headings, f"no section named {section!r}"


def test_stamping_changes_badges_and_clone_address_everywhere():
    badge = "[c](https://colab.research.google.com/github/OWNER/REPO/blob/main/notebooks/01.ipynb)"
    in_json = SETUP_CELL.replace('"', '\\"')
    stamped = stamp.stamp(f"{badge}\n{SETUP_CELL}\n{in_json}", "someone/a.copy", "course-2027")
    assert "OWNER" not in stamped and "main" not in stamped.replace("__main__", "")
    assert stamped.count("https://github.com/someone/a.copy.git") == 2
    assert "github/someone/a.copy/blob/course-2027/notebooks/01.ipynb" in stamped
    assert stamped.count("course-2027") == 3


def test_every_file_carries_the_same_stamp():
    repository, branch = stamp.current_stamp()
    for path in filter(Path.is_file, stamp.stamped_files()):
        text = path.read_text(encoding="utf-8")
        assert stamp.stamp(text, repository, branch) == text, f"{path.name}: run tools/stamp.py"
