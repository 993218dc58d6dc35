"""What is installed: one package, `vlmixer`, that works beside a user's files of any name.

The wheel and the sdist are built from a copy of the checkout, and the wheel is installed into an environment of its
own. That environment takes the dependencies from the one that runs the tests, so nothing is downloaded; the checkout
is not on its path.
"""

import os
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import tomllib
import zipfile
from pathlib import Path

import pytest

import vlmixer

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("artifacts", "bank", "model", "pipeline")
TRAPS = ("artifacts/__init__.py", "bank.py", "commands.py", "jobs.py", "model.py", "pipeline/__init__.py", "units.py")
"""Names that a user's files may well have, and that folders of ours have, too."""

NOT_SOURCES = shutil.ignore_patterns(
    ".git", ".venv", ".*cache", "__pycache__", "*.egg-info", "build", "dist", "*out", "shared"
)


def call(*command: str | Path, cwd: Path) -> str:
    """Run a command without this process's Python path; its output. Fails with all that it printed."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(
        [str(part) for part in command], cwd=cwd, env=environment, check=False, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout
    return done.stdout


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the wheel and the sdist."""
    folder = tmp_path_factory.mktemp("built")
    source = folder / "source"
    shutil.copytree(ROOT, source, symlinks=True, ignore=NOT_SOURCES)
    sdist = "import sys; from setuptools.build_meta import build_sdist; build_sdist(sys.argv[1])"
    call(sys.executable, "-c", sdist, folder, cwd=source)
    pip = (sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "--no-index")
    call(*pip, "--wheel-dir", folder, source, cwd=folder)
    return folder


@pytest.fixture(scope="module")
def wheel(built: Path) -> Path:
    (path,) = built.glob("*.whl")
    return path


@pytest.fixture(scope="module")
def sdist(built: Path) -> Path:
    (path,) = built.glob("*.tar.gz")
    return path


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The `bin` folder of an environment with the wheel, and with the packages of this one behind it."""
    environment = tmp_path_factory.mktemp("environment")
    call(sys.executable, "-m", "venv", "--without-pip", environment, cwd=environment)
    python = environment / "bin" / "python"
    # A line of a .pth file is added to the path, but its own .pth files, such as an editable install's, are not read.
    purelib = Path(
        call(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))", cwd=environment).strip()
    )
    (purelib / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    pip = (sys.executable, "-m", "pip", f"--python={python}", "install", "--quiet", "--no-deps", "--no-index")
    call(*pip, wheel, cwd=environment)
    return environment / "bin"


@pytest.fixture
def hostile(tmp_path: Path) -> Path:
    """A user's folder, whose files have the names of our folders and raise if they are imported."""
    for name in TRAPS:
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(f'raise RuntimeError("{name} of the user was imported")\n')
    return tmp_path


def members(path: Path) -> set[str]:
    """Names of the regular files in a wheel or an sdist, the latter's without their first folder."""
    if path.suffix == ".whl":
        with zipfile.ZipFile(path) as archive:
            return {name for name in archive.namelist() if not name.endswith("/")}
    with tarfile.open(path) as archive:
        assert all(member.isfile() or member.isdir() for member in archive)
        return {member.name.partition("/")[2] for member in archive if member.isfile()}


def sources() -> set[str]:
    """The files of the packages, below the name that they are installed under."""
    folders = [(ROOT / "src" / "vlmixer" / package, f"vlmixer/{package}") for package in PACKAGES]
    folders.append((ROOT / "src" / "vlmixer", "vlmixer"))
    return {
        f"{name}/{path.relative_to(folder).as_posix()}"
        for folder, name in folders
        for path in folder.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }


def test_the_wheel_holds_every_file_of_the_packages_and_nothing_else(wheel: Path) -> None:
    names = members(wheel)
    assert {name for name in names if ".dist-info/" not in name} == sources()
    assert any(name.endswith(".dist-info/licenses/LICENSE") for name in names)


def test_the_sdist_holds_sources_docs_and_tests_as_plain_files(sdist: Path) -> None:
    names = members(sdist)
    assert {f"src/{name}" for name in sources()} <= names
    for name in ("LICENSE", "README.md", "Makefile", "constraints.txt", "docs/bank.md", "tests/test_packaging.py"):
        assert name in names
    assert not [name for name in names if "__pycache__" in name]


def test_tests_run_from_the_sdist(sdist: Path, installed: Path, tmp_path: Path) -> None:
    with tarfile.open(sdist) as archive:
        archive.extractall(tmp_path, filter="data")
    (folder,) = tmp_path.iterdir()
    tests = ("tests/bank/test_concepts.py", "tests/test_docs.py")
    assert " passed" in call(installed / "python", "-m", "pytest", "-p", "no:cacheprovider", *tests, cwd=folder)


def test_a_wheel_built_from_the_sdist_is_the_same(wheel: Path, sdist: Path, tmp_path: Path) -> None:
    pip = (sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "--no-index")
    call(*pip, "--wheel-dir", tmp_path, sdist, cwd=tmp_path)
    assert members(tmp_path / wheel.name) == members(wheel)


def test_version_and_licence_have_one_source(installed: Path, tmp_path: Path) -> None:
    code = "import importlib.metadata as m; d = m.metadata('vlmixer'); print(d['Version'], d['License-Expression'])"
    assert call(installed / "python", "-c", code, cwd=tmp_path).split() == [vlmixer.__version__, "Apache-2.0"]
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert "version" in project["dynamic"]
    assert "version" not in project
    assert f"\nversion: {vlmixer.__version__}\n" in (ROOT / "CITATION.cff").read_text()
    assert f"\n## {vlmixer.__version__}" in (ROOT / "CHANGELOG.md").read_text()


@pytest.mark.parametrize("package", [f"vlmixer.{package}" for package in PACKAGES])
def test_packages_come_from_the_wheel(installed: Path, hostile: Path, package: str) -> None:
    code = f"import vlmixer, {package}; print(vlmixer.__file__, {package}.__file__, sep='\\n')"
    for path in call(installed / "python", "-c", code, cwd=hostile).splitlines():
        assert Path(path).is_relative_to(installed.parent)


def test_training_starts_beside_a_users_files(installed: Path, hostile: Path) -> None:
    assert "--resume" in call(installed / "python", "-m", "vlmixer.model.train", "--help", cwd=hostile)


def test_tagging_in_two_processes_beside_a_users_files(installed: Path, hostile: Path) -> None:
    for number in range(2):
        (hostile / f"texts-{number}.txt").write_text(f"A dog runs after {number + 2} cats on the grass.\n")
    (hostile / "config.yaml").write_text('text: {inputs: ["texts-*.txt"], spacy_model: rules}\n')
    call(installed / "vlmixer", "tag", "config.yaml", "--workers", "2", cwd=hostile)
    assert "sound" in call(installed / "vlmixer", "verify", "out/tagged", cwd=hostile)


def test_the_demo_beside_a_users_files(installed: Path, hostile: Path) -> None:
    shown = call(installed / "vlmixer", "demo", "--small", "--workers", "2", cwd=hostile)
    assert "regions + tags" in shown
    assert (hostile / "demo-out" / "report.html").stat().st_size > 100_000
    assert "sound" in call(installed / "python", "-m", "vlmixer", "verify", "demo-out", cwd=hostile)


def test_type_checkers_find_the_installed_types(installed: Path, hostile: Path) -> None:
    (hostile / "program.py").write_text("from vlmixer.bank import PatchBank\nreveal_type(PatchBank.open)\n")
    mypy = (sys.executable, "-m", "mypy", f"--python-executable={installed / 'python'}", "--follow-imports=silent")
    shown = call(*mypy, "--cache-dir", hostile / "cache", "program.py", cwd=hostile)
    assert "PatchBank" in shown.split("Revealed type", 1)[1]
