"""Links in the documentation lead somewhere, and the names of files and of code that it uses exist."""

import os
import re
import subprocess
import sys
from dataclasses import MISSING, fields
from pathlib import Path

import pytest
import yaml

from vlmixer.bank.concepts import HARDLY_VISUAL
from vlmixer.model.config import ModelConfig, TrainConfig
from vlmixer.model.tasks.caption_learning import CaptioningConfig
from vlmixer.model.tasks.config import TaskConfig
from vlmixer.model.tasks.refcoco import RefCocoConfig
from vlmixer.model.tasks.retrieval_learning import RetrievalConfig
from vlmixer.pipeline.config import BankSettings, Config, ImageSettings, MixSettings, TextSettings

ROOT = Path(__file__).resolve().parents[1]
SOURCES = ROOT / "src" / "vlmixer"  # links in a checkout, folders in an sdist
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("examples/**/*.md")])
LINK = re.compile(r"\]\(([^)\s]+)\)")
CODE = re.compile(r"^(`{3,}).*?^\1", re.MULTILINE | re.DOTALL)


def text_of(page):
    return CODE.sub("", page.read_text(encoding="utf-8"))


def anchors(page):
    """The names by which GitHub knows the page's headings."""
    headings = re.findall(r"^#+ (.+)$", text_of(page), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=[str(page.relative_to(ROOT)) for page in PAGES])
def test_links_lead_to_files_and_headings_that_are_there(page):
    broken = []
    for target in LINK.findall(text_of(page)):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, anchor = target.partition("#")
        other = (page.parent / path).resolve() if path else page
        if not other.exists() or (anchor and anchor not in anchors(other)):
            broken.append(target)
    assert not broken


def test_every_page_is_listed_in_the_readme():
    listed = text_of(ROOT / "README.md")
    assert [page.name for page in ROOT.glob("docs/*.md") if f"(docs/{page.name})" not in listed] == []


def nav_pages(entries):
    """The files in the menu of the site."""
    for entry in entries:
        for content in entry.values():
            yield from [content] if isinstance(content, str) else nav_pages(content)


def test_the_site_has_every_page_and_every_name_of_the_api(tmp_path):
    environment = os.environ | {"PYTHON": sys.executable}
    done = subprocess.run(
        [ROOT / ".ci" / "docs", tmp_path], env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    assert done.returncode == 0, done.stdout
    pages = {str(page.relative_to(ROOT)) for page in [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md")]}
    assert set(nav_pages(yaml.safe_load((ROOT / "mkdocs.yml").read_text())["nav"])) == pages
    found = (tmp_path / "build" / "site" / "docs" / "api" / "index.html").read_text()
    names = re.findall(r"^::: ([\w.]+)$", (ROOT / "docs" / "api.md").read_text(), re.MULTILINE)
    assert len(names) > 20
    assert [name for name in names if f'id="{name}"' not in found] == []
    assert "Open the bank at a path or URL." in found


NAME = re.compile(r"`([A-Za-z_][\w./-]*)`")
PACKAGES = ("artifacts", "bank", "model", "pipeline")
FOLDERS_OF_A_RUN = {"tagged/", "regions/", "bank/", "shards/", "rejects/", "reports/", "logs/"}


def names_in(page):
    """What the page puts in back-quotes and what may be a file or a name in the code, with the line it is in."""
    return [(name, line) for line in text_of(page).splitlines() for name in NAME.findall(line)]


def is_there(path):
    """Whether a file or folder is in the repository, or in our packages."""
    return (ROOT / path).exists() or (SOURCES / path).exists()


def test_files_and_folders_in_the_architecture_exist():
    missing, folder = [], ""
    for name, _ in names_in(ROOT / "docs" / "architecture.md"):
        if name.endswith("/") and name not in FOLDERS_OF_A_RUN:
            folder = name
        path = name if "/" in name else folder + name if name.endswith(".py") else ""
        missing += [name] * (name not in FOLDERS_OF_A_RUN and not is_there(path))
    assert missing == []


def test_names_of_code_in_the_architecture_exist():
    sources = "\n".join(path.read_text() for package in PACKAGES for path in (SOURCES / package).rglob("*.py"))
    words = set(re.findall(r"\w+", sources))
    named = {name for name, _ in names_in(ROOT / "docs" / "architecture.md") if "/" not in name}
    named -= {path.name for path in ROOT.iterdir()}
    assert {name for name in named if not words.issuperset(name.split("."))} == set()


def test_every_room_is_in_the_architecture():
    page = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    rooms = [path.parent.name for path in (SOURCES / "pipeline").glob("*/__init__.py")]
    assert rooms
    assert [room for room in rooms if f"{room}/" not in page] == []


SECTIONS = {
    "Top level": Config, "text": TextSettings, "images": ImageSettings, "bank": BankSettings, "mix": MixSettings,
    "model": ModelConfig, "train": TrainConfig, "task": TaskConfig,
}  # fmt: skip


def default_of(field):
    """A field's default as a config file would have it."""
    value = field.default_factory() if field.default_factory is not MISSING else field.default
    if value == HARDLY_VISUAL:
        return ["default"]
    return list(value) if isinstance(value, tuple) else value


def listed_keys(section):
    """The keys of a section of the configuration page, with their defaults."""
    page = (ROOT / "docs" / "configuration.md").read_text(encoding="utf-8")
    (text,) = re.findall(rf"^## {section}$(.*?)(?=^## |\Z)", page, re.MULTILINE | re.DOTALL)
    return {
        key: None if default == "none" else yaml.safe_load(default.strip("`"))
        for key, default in re.findall(r"^\| `(\w+)` \| [^|]+ \| ([^|]+) \|", text, re.MULTILINE)
    }


@pytest.mark.parametrize("section", SECTIONS)
def test_the_configuration_page_lists_every_key_with_its_default(section):
    listed = listed_keys(section)
    known = {field.name: default_of(field) for field in fields(SECTIONS[section])}
    if section == "Top level":  # its mappings have sections of their own
        known = {key: default for key, default in known.items() if key not in SECTIONS}
    if "inputs" in known:
        assert known["inputs"] == []
        known["inputs"] = None
    assert listed == known


@pytest.mark.parametrize(
    ("task", "kind"), [("captioning", CaptioningConfig), ("refcoco", RefCocoConfig), ("retrieval", RetrievalConfig)]
)
def test_the_configuration_page_lists_what_a_task_adds_or_changes(task, kind):
    base = {field.name: default_of(field) for field in fields(TaskConfig)}
    own = {field.name: default_of(field) for field in fields(kind)}
    changed = {key: value for key, value in own.items() if key not in base or base[key] != value}
    assert listed_keys(f"task for {task}") == changed
