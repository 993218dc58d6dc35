import json
from typing import Any

import pytest

from vlmixer.artifacts import files, manifest
from vlmixer.artifacts.details import TaggedDetails
from vlmixer.artifacts.errors import CallError, UserError
from vlmixer.artifacts.manifest import Counts, Input, Manifest, Output
from vlmixer.artifacts.stages import MIX, TAG


def tagged(**changed: Any) -> TaggedDetails:
    content: dict[str, Any] = {
        "tagger": "rules", "vocabulary": "coco", "vocabulary_hash": "v0", "mentions": {"é": 1}, "not_meant": {},
        "sources": {"0a": "a.txt"}, "not_split": 0,
    }  # fmt: skip
    return TaggedDetails(**content | changed)


def small(**changed: Any) -> Manifest:
    content: dict[str, Any] = {
        "stage": "tag",
        "config_hash": "c0",
        "plan_hash": "p0",
        "versions": {"python": "3.11.1"},
        "inputs": [Input("a.txt", 3, "aa"), Input("b.txt", 8, "bb", 4, 12)],
        "outputs": [Output("part-00000.parquet", 2, 99, "cc")],
        "rejects": [Output("tag-part-00000.parquet", 1, 50, "dd")],
        "counts": {"sentences": Counts(3, 2, {"no_mention": 1})},
        "details": tagged(),
    }
    return Manifest(**content | changed)


def published(folder, content):
    files.publish_bytes(files.join(str(folder), manifest.NAME), content)


def test_what_is_published_is_read_back(tmp_path):
    manifest.publish(str(tmp_path), small())
    assert manifest.read(str(tmp_path)) == small()
    assert files.read_bytes(str(tmp_path / "manifest.json")) == small().to_bytes()


def test_equal_manifests_are_equal_bytes_whatever_the_order_of_keys():
    one = small(details=tagged(mentions={"a": 1, "b": 2}), versions={"x": "1", "y": "2"})
    other = small(details=tagged(mentions={"b": 2, "a": 1}), versions={"y": "2", "x": "1"})
    assert one.to_bytes() == other.to_bytes()
    assert one.content_hash == other.content_hash


def test_the_content_hash_covers_every_field():
    changes: list[dict[str, Any]] = [
        {"stage": "mix"}, {"config_hash": "c1"}, {"plan_hash": "p1"}, {"versions": {}}, {"inputs": []},
        {"outputs": []}, {"rejects": []}, {"counts": {}}, {"details": tagged(tagger="other")}, {"schema_version": 9},
    ]  # fmt: skip
    assert len({small(**change).content_hash for change in [{}, *changes]}) == len(changes) + 1


def test_a_flipped_bit_in_any_byte_is_refused(tmp_path):
    whole = small(inputs=[], rejects=[], versions={}, details=tagged(mentions={}, sources={})).to_bytes()
    unnoticed = []
    for position in range(len(whole)):
        bit = position % 8
        damaged = bytearray(whole)
        damaged[position] ^= 1 << bit
        (tmp_path / manifest.NAME).write_bytes(damaged)
        try:
            unnoticed.append((position, bit, manifest.read(str(tmp_path))))
        except UserError:
            continue
    assert unnoticed == []


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"[]", b"3", b"null", b"{}", b"\xff\xfe", b'{"schema_version": 3}', small().to_bytes()[:-1],
     small().to_bytes() + b" ", small().to_bytes().replace(b"rules", b"\\ud800"),
     small().to_bytes().replace(b'"not_split": 0', b'"not_split": NaN'),
     small().to_bytes().replace(b'"rows": 2', b'"lines": 2')],
)  # fmt: skip
def test_a_damaged_manifest_is_a_user_error_that_names_the_file(tmp_path, content):
    published(tmp_path, content)
    with pytest.raises(UserError, match=r"manifest\.json: damaged .*[Rr]un the stage again"):
        manifest.read(str(tmp_path))


DAMAGED_DETAILS = [
    (lambda details: details.pop("vocabulary"), r"details of stage 'tag': vocabulary: Field required"),
    (lambda details: details.update(surprise=1), r"details of stage 'tag': surprise: Unexpected keyword argument"),
    (
        lambda details: details.update(not_split="many"),
        r"details of stage 'tag': not_split: Input should be a valid int",
    ),
    (lambda details: details.update(mentions={"dog": []}), r"details of stage 'tag': mentions\.dog: Input should be"),
]


@pytest.mark.parametrize(("damage", "message"), DAMAGED_DETAILS)
def test_damaged_details_are_one_line_that_names_the_key(tmp_path, damage, message):
    content = json.loads(small().to_bytes())
    damage(content["details"])
    del content["content_hash"]
    published(tmp_path, manifest.canonical(content | {"content_hash": manifest.digest(content)}, indent=1))
    with pytest.raises(UserError, match=message) as raised:
        manifest.read(str(tmp_path))
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("part", ["outputs", "rejects"])
@pytest.mark.parametrize("name", ["../a.tar", "mixed-a/../../b.tar", "/etc/passwd", "..", "a\0b"])
def test_a_file_outside_of_the_folder_is_damage(tmp_path, name, part):
    manifest.publish(str(tmp_path), small(**{part: [Output(name, 2, 99, "cc")]}))
    with pytest.raises(UserError, match="is not the name of a file in the folder"):
        manifest.read(str(tmp_path))


def test_an_unknown_stage_is_damage(tmp_path):
    published(tmp_path, small(stage="bake").to_bytes())
    with pytest.raises(UserError, match=r"damaged \(stage 'bake'; expected tag, detect, index, mix, train\)"):
        manifest.read(str(tmp_path))


def test_the_manifest_of_another_stage_is_a_wrong_call(tmp_path):
    manifest.publish(str(tmp_path), small())
    assert manifest.read(str(tmp_path), TAG).details == tagged()
    with pytest.raises(CallError, match=r"holds what stage 'tag' wrote, expected .* 'mix' \(OUT/shards\)"):
        manifest.read(str(tmp_path), MIX)


def test_another_schema_version_is_refused_with_both_versions(tmp_path):
    published(tmp_path, small(schema_version=7).to_bytes())
    with pytest.raises(UserError, match=r"manifest\.json: written with schema version 7, this program reads 3"):
        manifest.read(str(tmp_path))


def test_no_manifest_means_that_the_stage_has_not_finished(tmp_path):
    (tmp_path / "a.tar").write_bytes(b"")
    for folder in (tmp_path, tmp_path / "absent", tmp_path / "a.tar"):
        with pytest.raises(UserError, match=r"manifest\.json: no such file; the stage .* has not finished"):
            manifest.read(str(folder))


def test_counts_that_do_not_add_up_are_never_published(tmp_path):
    with pytest.raises(RuntimeError, match="tag: sentences do not add up"):
        manifest.publish(str(tmp_path), small(counts={"sentences": Counts(3, 2, {})}))
    assert files.list_files(str(tmp_path)) == []


def test_counts_add():
    total = Counts(3, 1, {"b": 2}) + Counts(5, 3, {"a": 1, "b": 1})
    assert total == Counts(8, 4, {"a": 1, "b": 3})
    assert list(total.rejected) == ["a", "b"]
    assert total.add_up()
    assert not Counts(1, 1, {"a": 1}).add_up()
    assert Counts(0, 0).add_up()


def test_canonical_json():
    assert manifest.canonical({"b": 1, "a": "é"}) == '{"a": "é", "b": 1}\n'.encode()
    with pytest.raises(ValueError, match="not JSON compliant"):
        manifest.canonical(float("nan"))


def test_describe_reads_the_file_that_lies_there(tmp_path):
    (tmp_path / "x").write_bytes(b"abc")
    known = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert manifest.output_of(str(tmp_path), "x", 4) == Output("x", 4, 3, known)


def test_versions_names_what_is_absent():
    found = manifest.versions(["numpy", "no-such-package"])
    assert list(found) == ["no-such-package", "numpy", "python"]
    assert found["no-such-package"] == "absent"
    assert json.loads(json.dumps(found)) == found


def test_the_digest_of_many_entries_is_that_of_their_list():
    for entries in ([], [1], [{"b": 1, "a": "é"}, {"a": [2]}]):
        assert manifest.digest_of_many(iter(entries)) == manifest.digest(entries)
        assert manifest.digest_of_many(iter(entries), [3, {"x": 1}]) == manifest.digest([3, {"x": 1}, entries])
