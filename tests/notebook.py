"""Executes ``docs/campaigns.ipynb``; ``make notebook`` stores its results in it."""

import tempfile
from collections.abc import Mapping
from pathlib import Path

import nbformat
from nbclient import NotebookClient

from tests.connectors.console.console import running
from tests.waiting import WITHIN_S

NOTEBOOK = Path(__file__).parent.parent / "docs" / "campaigns.ipynb"


def executed(environment: Mapping[str, str]) -> nbformat.NotebookNode:
    """The notebook with the results of its cells. Raises ``CellExecutionError`` if a cell fails."""
    notebook: nbformat.NotebookNode = nbformat.read(NOTEBOOK, as_version=4)
    client = NotebookClient(
        notebook,
        timeout=int(WITHIN_S),
        resources={"metadata": {"path": str(NOTEBOOK.parent)}},
        record_timing=False,
    )
    client.execute(env=dict(environment) | {"PYTHONPATH": str(NOTEBOOK.parent.parent)})
    return notebook


def main() -> None:
    """Executes the notebook on a line with a demo day."""
    with tempfile.TemporaryDirectory() as home, running(Path(home)) as console:
        notebook = executed(console.environment)
    nbformat.write(notebook, NOTEBOOK)


if __name__ == "__main__":
    main()
