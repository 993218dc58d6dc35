from dataclasses import dataclass, field
from typing import ClassVar, Literal

import pytest

from vlmixer.artifacts import settings
from vlmixer.artifacts.errors import CallError


@dataclass(frozen=True)
class Inner:
    __pydantic_config__: ClassVar = {"extra": "forbid"}
    views: int = 1
    sampler: Literal["uniform", "score"] = "uniform"
    inputs: tuple[str, ...] = ()


@dataclass(frozen=True)
class Outer:
    __pydantic_config__: ClassVar = {"extra": "forbid"}
    seed: int = 0
    mix: Inner = field(default_factory=Inner)
    train: Inner | None = None


@dataclass(frozen=True)
class Needy:
    __pydantic_config__: ClassVar = {"extra": "forbid"}
    name: str


def built(content):
    return settings.build(Outer, content, where="c.yaml")


def test_nested_dataclasses_are_built_with_defaults():
    assert built({}) == Outer()
    content = {"seed": 2, "mix": {"views": 3, "inputs": ["a", "b"]}, "train": {}}
    assert built(content) == Outer(2, Inner(3, inputs=("a", "b")), Inner())


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"sead": 1}, "c.yaml: unknown key 'sead'; did you mean 'seed'?"),
        ({"mix": {"veiws": 1}}, "c.yaml: unknown key 'mix.veiws'; did you mean 'views'?"),
        ({"train": {"smapler": 1}}, "c.yaml: unknown key 'train.smapler'; did you mean 'sampler'?"),
        ({"zzz": 1}, "c.yaml: unknown key 'zzz'; known keys: seed, mix, train."),
        ({"train": {"zzz": 1}}, "c.yaml: unknown key 'train.zzz'; known keys: views, sampler, inputs."),
        ({"seed": "x"}, "c.yaml: seed: Input should be a valid integer, .*; found 'x'."),
        ({"seed": 1.5}, "c.yaml: seed: Input should be a valid integer, .*; found 1.5."),
        ({"mix": {"sampler": "best"}}, "c.yaml: mix.sampler: Input should be 'uniform' or 'score'; found 'best'."),
        ({"mix": {"inputs": "a.txt"}}, "c.yaml: mix.inputs: Input should be a valid tuple; found 'a.txt'."),
        ({"mix": 3}, "c.yaml: mix: Input should be a dictionary .*; found 3."),
        ({1: 2}, "c.yaml: 1: Keys should be strings; found 1."),
    ],
)
def test_what_does_not_fit_is_a_call_error_that_names_the_key(content, message):
    with pytest.raises(CallError, match=f"^{message.replace('?', '[?]')}$"):
        built(content)


def test_all_that_is_wrong_is_told_at_once():
    with pytest.raises(CallError, match=r"(?s)mix\.views: .*unknown key 'sead'") as caught:
        built({"sead": 1, "mix": {"views": "x"}})
    assert len(str(caught.value).splitlines()) == 2


def test_a_missing_key_without_default():
    with pytest.raises(CallError, match=r"^w: 'name' is missing; it has no default\.$"):
        settings.build(Needy, {}, where="w")


def test_override_puts_values_in_as_yaml_and_leaves_the_original_alone():
    content = {"mix": {"views": 1, "sampler": "score"}}
    assignments = ["mix.views=2", "seed=7", "mix.inputs=[a, b]", "train.sampler=x=y", "new.deep.key=", "mix.views=3"]
    assert settings.override(content, assignments) == {
        "mix": {"views": 3, "sampler": "score", "inputs": ["a", "b"]},
        "seed": 7,
        "train": {"sampler": "x=y"},
        "new": {"deep": {"key": None}},
    }
    assert content == {"mix": {"views": 1, "sampler": "score"}}


def test_override_fills_a_section_that_is_there_but_empty():
    assert settings.override({"mix": None}, ["mix.views=2"]) == {"mix": {"views": 2}}


@pytest.mark.parametrize(
    ("assignment", "message"),
    [
        ("mix.views", "--set mix.views: expected key.path=value, such as"),
        ("=3", "--set =3: expected key.path=value"),
        ("seed.x=1", "--set seed.x=1: 'seed' holds a value, not further keys"),
        ("mix.views=[1", r"--set mix.views=\[1: the value is not valid YAML"),
    ],
)
def test_assignments_that_cannot_be_understood(assignment, message):
    with pytest.raises(CallError, match=message):
        settings.override({"seed": 0}, [assignment])


def test_load_yaml(tmp_path):
    path = tmp_path / "c.yaml"
    path.write_text("seed: 1\nmix: {views: 2}\n")
    assert settings.load_yaml(str(path)) == {"seed": 1, "mix": {"views": 2}}
    path.write_text("# nothing but a comment\n")
    assert settings.load_yaml(str(path)) == {}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"a: [1", "c.yaml: not valid YAML"),
        (b"\xff\xfe", "c.yaml: not valid YAML"),
        (b"- a\n- b\n", "c.yaml: expected a mapping of keys to values, found list"),
        (b"!!python/object/apply:os.getcwd []", "c.yaml: not valid YAML"),
    ],
)
def test_a_config_that_is_no_yaml_mapping(tmp_path, content, message):
    (tmp_path / "c.yaml").write_bytes(content)
    with pytest.raises(CallError, match=message):
        settings.load_yaml(str(tmp_path / "c.yaml"))


def test_a_config_that_is_not_there(tmp_path):
    with pytest.raises(CallError, match=r"c\.yaml: no such config file"):
        settings.load_yaml(str(tmp_path / "c.yaml"))
    with pytest.raises(CallError, match="is a folder, expected a YAML config file"):
        settings.load_yaml(str(tmp_path))
