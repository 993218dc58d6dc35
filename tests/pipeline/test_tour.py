"""The notebook: all its cells run on a small result, in order, and it is kept without outputs."""

import os
from pathlib import Path

import nbformat
from nbclient import NotebookClient

PATH = Path(__file__).parents[2] / "examples" / "tour.ipynb"


def test_the_notebook_runs(small_run, monkeypatch):
    book = nbformat.read(PATH, as_version=4)
    cells = [cell for cell in book.cells if cell.cell_type == "code"]
    assert all(cell.outputs == [] and cell.execution_count is None for cell in cells)
    monkeypatch.setenv("VLMIXER_OUT", str(small_run.folder / "out"))
    monkeypatch.setenv("PYTHONPATH", str(PATH.parents[1] / "src"))
    NotebookClient(book, timeout=300, resources={"metadata": {"path": os.fspath(small_run.folder)}}).execute()
    shown = [output for cell in cells for output in cell.outputs]
    assert all(output.output_type != "error" for output in shown)
    kinds = [kind for output in shown for kind in output.get("data", {})]
    assert kinds.count("image/png") >= 2  # a patch, and those that replace words
    assert kinds.count("text/html") >= 3  # the bank and two lists of hits
