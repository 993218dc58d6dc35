"""The downstream tasks: reading their official files, inputs, heads, metrics and result files.

This is the table of tasks. A task is imported when it is looked for, because tasks need torch.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vlmixer.model.tasks.base import Task

TASKS = {
    "vqa": ("vqa", "Vqa"),
    "gqa": ("gqa", "Gqa"),
    "nlvr2": ("nlvr2", "Nlvr2"),
    "snli_ve": ("snli_ve", "SnliVe"),
    "refcoco": ("refcoco", "RefCoco"),
    "retrieval": ("retrieval", "Retrieval"),
    "captioning": ("captioning", "Captioning"),
}
"""The file here and the class of each task."""


def find_task(name: str) -> "Task[Any]":
    """The task called `name`. Raises KeyError if there is none."""
    from importlib import import_module

    module, kind = TASKS[name]
    task: Task[Any] = getattr(import_module(f"{__name__}.{module}"), kind)()
    return task
