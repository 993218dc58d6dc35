"""Reports of stages in OUT/reports: a page and its numbers as JSON.

Reports are not data: no manifest lists them, and nothing depends on them. A report records its program and its results,
so that the stage's next run can tell whether to write it again.
"""

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any, TypeVar

import vlmixer
from vlmixer.artifacts import details, files, json_files, manifest
from vlmixer.artifacts.errors import UserError

FOLDER = "reports"
RUN = "run"
"""The name of the page about a whole run."""
SCORES = "retrieval.json"
"""The file with the last scores of `vlmixer eval retrieval` on OUT/run."""
_OF = "report_of"
Numbers = TypeVar("Numbers")


@dataclass(frozen=True)
class StageReport:
    """The report called `name` of the output folder `out`."""

    out: str
    name: str

    @property
    def page(self) -> str:
        """The page's path."""
        return files.join(self.out, FOLDER, f"{self.name}.html")

    @property
    def numbers(self) -> str:
        """The path of the JSON file."""
        return files.join(self.out, FOLDER, f"{self.name}.json")

    def is_current(self, content_hash: str, kind: type[Numbers]) -> bool:
        """Whether this program wrote page and numbers from the results with this content hash, and they are whole."""
        is_of_them = files.exists(self.page) and self._load().get(_OF) == _origin(content_hash)
        return is_of_them and self.read(kind) is not None

    def publish(self, content_hash: str, numbers: Mapping[str, Any], write_page: Callable[[str], None]) -> None:
        """Write the page, and then the numbers, which make the report current."""
        write_page(self.page)
        content = {**numbers, _OF: _origin(content_hash)}
        files.publish_bytes(self.numbers, manifest.canonical(content, indent=1))

    def read(self, kind: type[Numbers]) -> Numbers | None:
        """The numbers; None if there are no readable ones."""
        found = {key: value for key, value in self._load().items() if key != _OF}
        try:
            return details.from_json(kind, found)
        except ValueError:
            return None

    def _load(self) -> dict[str, Any]:
        try:
            found = json_files.read(self.numbers, advice="")
        except (OSError, UserError):
            return {}
        return found if isinstance(found, dict) else {}


def _origin(content_hash: str) -> dict[str, str]:
    return {"program": _program(), "content_hash": content_hash}


@cache
def _program() -> str:
    """The version of this program, and a digest of its templates and style sheets: both make the pages."""
    digest = hashlib.sha256()
    for entry in sorted(resources.files("vlmixer.pipeline.report").iterdir(), key=lambda entry: entry.name):
        if entry.is_file() and entry.name.endswith((".html", ".css", ".js")):
            digest.update(entry.read_bytes())
    return f"{vlmixer.__version__} {digest.hexdigest()[:12]}"
