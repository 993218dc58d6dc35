"""The image and the template, as far as they can be tested without Docker and without Dataflow."""

import argparse
import io
import json
import re
from importlib.metadata import version
from pathlib import Path

import pytest
import yaml
from apache_beam.options.pipeline_options import GoogleCloudOptions
from dockerfile_parse import DockerfileParser

from vlmixer.artifacts.errors import CallError
from vlmixer.pipeline.commands import main as cli
from vlmixer.pipeline.jobs import dataflow

ROOT = Path(__file__).parents[2]
STEPS = DockerfileParser(fileobj=io.BytesIO((ROOT / "docker" / "Dockerfile").read_bytes())).structure
PINS = dict(line.partition(";")[0].strip().split("==") for line in (ROOT / "constraints.txt").read_text().splitlines())
TEMPLATE = json.loads((ROOT / "docker" / "flex-template.json").read_text())


def steps(verb: str) -> list[str]:
    return [step["value"] for step in STEPS if step["instruction"] == verb]


def args() -> dict[str, str]:
    return {name: value.strip('"') for name, _, value in (text.partition("=") for text in steps("ARG"))}


def test_versions_match_the_constraints():
    beam = args()["BEAM"]
    assert beam == f"apache/beam_python3.11_sdk:{PINS['apache-beam']}"
    assert PINS["apache-beam"] == version("apache-beam")
    assert args()["BASE"].startswith("python:3.11-")
    assert "/python311-" in args()["LAUNCHER"]


def test_everything_downloaded_is_pinned():
    for name in ("BASE", "BEAM", "LAUNCHER"):
        assert not args()[name].endswith(":latest")
        assert ":" in args()[name]
    assert re.search(r"detectron2\.git@[0-9a-f]{40}$", args()["DETECTRON2"])
    assert re.search(r"en_core_web_sm-3\.8\.\d+-py3-none-any\.whl$", args()["SPACY_PIPELINE"])
    assert "PIP_CONSTRAINT=/src/constraints.txt" in steps("ENV")[0]
    for text in steps("RUN"):
        for words in re.findall(r"pip install ([^;&|]*)", text):
            for package in re.findall(r"(?<!\S)[a-z][a-z0-9-]+(?!\S)", words):
                assert package in PINS, f"{package} is not in constraints.txt"


def test_copied_files_exist_and_are_sent_to_docker():
    ignored = (ROOT / ".dockerignore").read_text().splitlines()
    for text in steps("COPY"):
        if "--from=" not in text:
            *sources, _ = text.split()
            for source in sources:
                assert (ROOT / source).exists(), source
                assert f"!{source.split('/')[0]}" in ignored, source


def test_the_whole_package_is_copied():
    copied = {source for text in steps("COPY") if "--from=" not in text for source in text.split()[:-1]}
    package = ROOT / "src" / "vlmixer"
    linked = {path.resolve().relative_to(ROOT).as_posix() for path in package.iterdir() if path.is_symlink()}
    assert linked == {"artifacts", "bank", "model", "pipeline"}
    assert linked | {"src", "pyproject.toml", "README.md", "LICENSE"} <= copied


def test_the_image_starts_beam_and_the_launcher_finds_the_template():
    assert json.loads(steps("ENTRYPOINT")[0]) == ["/opt/apache/beam/boot"]
    copies = steps("COPY")
    assert "--from=beam /opt/apache/beam /opt/apache/beam" in copies
    launcher = "/opt/google/dataflow/python_template_launcher"
    assert f"--from=launcher {launcher} {launcher}" in copies
    settings = steps("ENV")[-1]
    assert "RUN_PYTHON_SDK_IN_DEFAULT_ENVIRONMENT=1" in settings
    assert "FLEX_TEMPLATE_PYTHON_PY_FILE=/template/launch.py" in settings
    assert any("docker/launch.py" in text and text.endswith(" /template/") for text in copies)
    assert "pip check" in steps("RUN")


def run_options() -> set[str]:
    """The names of the options of `vlmixer run`."""
    commands = next(action for action in cli.parser()._actions if isinstance(action, argparse._SubParsersAction))
    return {action.dest for action in commands.choices["run"]._actions} - {"help"}


def test_the_template_has_the_parameters_of_the_command():
    own = {action.dest for action in dataflow.parser()._actions} - {"help"}
    # Dataflow has its own workers, a dry run and a plan to compare with need no template, and --extend a local OUT. The
    # parameter `beam` holds the arguments after --.
    assert own == run_options() - {"workers", "dry_run", "timings", "extend"} | {"beam"}
    assert {parameter["name"] for parameter in TEMPLATE["parameters"]} == own | {"sdk_container_image"}


def test_required_parameters_are_the_same_in_both():
    required = {action.dest for action in dataflow.parser()._actions if action.required}
    listed = {parameter["name"] for parameter in TEMPLATE["parameters"] if not parameter.get("isOptional")}
    assert listed == required | {"sdk_container_image"}


RIGHT = {
    "config": ["gs://bucket/my.yaml", "s3://bucket/a/b.yml"],
    "out": ["gs://bucket/out", "s3://bucket"],
    "set": ["mix.views=2", "seed=1;text.inputs=[gs://b/a.txt, gs://b/c.txt]"],
    "overwrite": ["true", "false"],
    "debug": ["true"],
    "beam": ["--max_num_workers=50", "--machine_type=n1-standard-8 --no_use_public_ips"],
    "sdk_container_image": ["europe-west4-docker.pkg.dev/p/r/vlmixer:0.1.0", "gcr.io/p/vlmixer@sha256:" + "0" * 64],
}
WRONG = {
    "config": ["my.yaml", "gs://bucket/my.json", "gs:///my.yaml"],
    "out": ["out", "/out", "gs://"],
    "set": ["mix.views", ";", "mix.views=2;"],
    "overwrite": ["yes", ""],
    "debug": ["1"],
    "beam": ["max_num_workers=50", "--a=b c"],
    "sdk_container_image": ["vlmixer", "gcr.io/p/vlmixer"],
}


@pytest.mark.parametrize("parameter", TEMPLATE["parameters"], ids=lambda parameter: parameter["name"])
def test_each_parameter_is_explained_and_checked(parameter):
    assert parameter["label"]
    assert parameter["helpText"]
    (regex,) = parameter["regexes"]
    assert regex.startswith("^")
    assert regex.endswith("$")
    for value in RIGHT[parameter["name"]]:
        assert re.search(regex, value), value
    for value in WRONG[parameter["name"]]:
        assert not re.search(regex, value), value


def test_parameters_become_the_command(tmp_path):
    config = tmp_path / "my.yaml"
    config.write_text(yaml.safe_dump({"train": {"steps": 5}}))
    command, options = dataflow.plan(
        [
            f"--config={config}", "--out=gs://bucket/out", "--set=mix.views=2; seed=1", "--overwrite=true",
            "--beam=--max_num_workers=50 --machine_type=n1-standard-8",
            "--runner=DataflowRunner", "--project=p", "--region=europe-west4", "--temp_location=gs://bucket/tmp",
            "--job_name=mine", "--template_location=gs://bucket/job", "--sdk_container_image=gcr.io/p/vlmixer:1",
            "--no_use_public_ips", "--labels=team=a", "--labels=what=b",
        ]
    )  # fmt: skip
    assert command == (
        "run", str(config), "--out", "gs://bucket/out", "--set", "mix.views=2", "--set", "seed=1",
        "--set", "train=null", "--overwrite", "--",
        "--runner=DataflowRunner", "--project=p", "--region=europe-west4", "--temp_location=gs://bucket/tmp",
        "--sdk_container_image=gcr.io/p/vlmixer:1", "--no_use_public_ips", "--labels=team=a", "--labels=what=b",
        "--max_num_workers=50", "--machine_type=n1-standard-8",
    )  # fmt: skip
    assert options.view_as(GoogleCloudOptions).template_location == "gs://bucket/job"


def test_wrong_parameters_are_reported_before_a_job_is_made(tmp_path):
    with pytest.raises(CallError, match="out: 'out' is a local folder"):
        dataflow.plan(["--config=x.yaml", "--out=out"])
    with pytest.raises(CallError, match=r"no\.yaml: no such config file"):
        dataflow.plan([f"--config={tmp_path}/no.yaml", "--out=gs://bucket/out"])
    with pytest.raises(SystemExit, match=r"error: .*no\.yaml"):
        dataflow.main([f"--config={tmp_path}/no.yaml", "--out=gs://bucket/out"])


def test_the_templates_job_runs_the_command_in_a_worker(caplog):
    caplog.set_level("INFO", logger="vlmixer")
    assert list(dataflow.run_command(["bank", "stats", "--help"])) == ["done"]
    assert any("folder of the bank" in line for line in caplog.messages)
    with pytest.raises(RuntimeError, match=r"vlmixer bank stats /none ended with 2:\n.*/none: no bank here"):
        list(dataflow.run_command(["bank", "stats", "/none"]))
