"""Notebooks on a GPU that is not there: every cell in a kernel of its own, between two cells that watch.

    python tests/watched_notebooks.py cuda|mps NOTEBOOK ...

tests/test_colab.py runs every notebook so on CUDA, which is what Colab has, and tests/reader/test_exercises.py on MPS.
Long trainings are skimmed (see ``FakeDevice.skim``) from the cell on that follows the import of the helpers, and
figures are made but not drawn.
"""

import argparse
import sys
from pathlib import Path

import nbformat
from fake_device import IS_FAITHFUL, KINDS

TESTS = Path(__file__).resolve().parent
START = """
import importlib.util, sys
import PIL.Image
from matplotlib.figure import Figure

if "fake_device" not in sys.modules:  # a warm kernel has it
    spec = importlib.util.spec_from_file_location("fake_device", {path!r})
    sys.modules["fake_device"] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(sys.modules["fake_device"])
watching = sys.modules["fake_device"].FakeDevice({kind!r}).__enter__()

def skim_trainings(_):
    training = sys.modules.get("helpers.gan.training")
    if hasattr(training, "Trainer"):
        watching.skim(training.Trainer, only={only})
        get_ipython().events.unregister("pre_run_cell", skim_trainings)

get_ipython().events.register("pre_run_cell", skim_trainings)
# What a figure is drawn from lies on the host by now. Its pixels take most of the time, and nbval has drawn them.
Figure.savefig = lambda figure, file, format, **options: PIL.Image.new("RGB", (8, 8)).save(file, format)
"""
LEAVE_OUT = """
import ast

class WithoutAssertions(ast.NodeTransformer):
    def visit_Assert(self, node):
        return ast.copy_location(ast.Pass(), node)

get_ipython().ast_transformers.append(WithoutAssertions())
"""
END = "print(watching.report())"


def watch(notebook, kind: str, leave_out: bool = False) -> None:
    """Put the two cells around a notebook's own. With a torch too old for the fake devices they do nothing.

    leave_out: most steps are not taken (see ``FakeDevice.skim``), so what the cells assert of a training is not asked
    """
    only = 25 if leave_out else 1  # enough to bring a generator so near the data that a notebook can go on
    start = START.format(path=str(TESTS / "fake_device.py"), kind=kind, only=only).strip()
    start += LEAVE_OUT * leave_out
    start, end = (start, END) if IS_FAITHFUL else ("", "print('not watched')")
    notebook.cells.insert(0, nbformat.v4.new_code_cell(start))
    notebook.cells.append(nbformat.v4.new_code_cell(end))


def printed(cell) -> str:
    """All that an executed cell has printed: a kernel may send it in pieces."""
    return "".join(output.text for output in cell.get("outputs", ()) if output.output_type == "stream")


def report(notebook) -> str:
    """What the last cell of an executed notebook has printed."""
    return printed(notebook.cells[-1]).strip()


def main() -> int:
    sys.path.insert(0, str(TESTS.parent))
    from tools.build_notebooks import execute, kernel_environment

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("kind", choices=KINDS)
    parser.add_argument("notebooks", nargs="+", type=Path)
    chosen, clean = parser.parse_args(), True
    for path in chosen.notebooks:
        notebook = nbformat.read(path, as_version=4)
        for cell in notebook.cells:
            cell.metadata["tags"] = ["raises-exception"]  # go on after an error: later cells may have others
        watch(notebook, chosen.kind)
        execute(notebook, path.resolve().parent, kernel_environment("smoke"))
        found = report(notebook)
        print(f"== {path.name} on {chosen.kind}", found, sep="\n")
        for number, cell in enumerate(notebook.cells[1:-1]):
            for output in cell.get("outputs", ()):
                if output.output_type == "error":
                    print(f"cell {number} ends in {output.ename}: {output.evalue}")
                    clean = False
        clean = clean and found == "no findings"
    return 0 if clean else 1


if __name__ == "__main__":
    sys.exit(main())
