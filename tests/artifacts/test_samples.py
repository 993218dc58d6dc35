import io
import json
import tarfile

import numpy as np
import pytest
from tests.tars import member_bytes

from vlmixer.artifacts import files, samples
from vlmixer.artifacts.errors import UserError
from vlmixer.artifacts.samples import ImageSample, Mention, MixedSample, Patch


def patch(mention, number):
    return Patch(mention, f"i{number}-000", f"i{number}", "dog", 0.75, (1.0, 2.0, 30.5, 40.0), 640, 480)


def mixed(number=0, text="a dog chases two Hünde 🐕"):
    mentions = (Mention(2, 5, "dog", "dog", "dog"), Mention(17, 22, "dog", "Hünde", "hund"))
    features = np.arange(6, dtype=np.float16).reshape(2, 3) + number
    key = f"s{number}-00"
    return MixedSample(key, f"s{number}", 0, text, mentions, (1,), (patch(1, 0), patch(1, 1)), features)


def image(number=0):
    features = np.full((2, 3), number, np.float16)
    patches = (patch(None, number), patch(None, number))
    return ImageSample(f"i{number}", f"i{number}", "a b.jpg", 640, 480, ("dog", "hot dog"), patches, features)


def plain():
    """A mixed sample in which nothing was replaced."""
    return MixedSample("s9-00", "s9", 0, "a dog", (Mention(2, 5, "dog", "dog", "dog"),), (), (),
                       np.zeros((0, 3), np.float16))  # fmt: skip


def pictured(number=0):
    """A sample with a picture."""
    changed = {"patches": (patch(1, 0), Patch(**vars(patch(1, 1)) | {"crop": (3, 0, 5, 2)})), "picture": b"JPEG"}
    return MixedSample(**vars(mixed(number)) | changed)


def tar_of(*content):
    buffer = io.BytesIO()
    assert samples.write_shard(buffer, content) == len(content)
    return buffer.getvalue()


def read(data):
    return list(samples.read_samples(io.BytesIO(data), "mixed-000000.tar"))


def same(one, other):
    fields = [vars(sample) | {"features": sample.features.tolist()} for sample in (one, other)]
    return fields[0] == fields[1] and one.features.dtype == other.features.dtype == np.float16


def members(data):
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        return [(member.name, member_bytes(tar, member)) for member in tar]


def retarred(*named):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for name, data in named:
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    return buffer.getvalue()


@pytest.mark.parametrize("content", [[], [mixed()], [image()], [plain()], [mixed(), image(), plain(), mixed(1)],
                                     [pictured(), mixed(1), pictured(2)]])  # fmt: skip
def test_what_is_written_is_read_back(content):
    found = read(tar_of(*content))
    assert len(found) == len(content)
    assert all(same(one, other) for one, other in zip(found, content, strict=True))


def test_equal_samples_are_equal_bytes():
    assert tar_of(mixed(), image(), plain()) == tar_of(mixed(), image(), plain())


def test_writing_again_what_was_read_gives_the_same_bytes():
    data = tar_of(mixed(), image(), plain())
    assert tar_of(*read(data)) == data


def test_the_tar_is_the_one_that_tarfile_writes():
    for content in ([], [mixed(number) for number in range(20)], [image(), pictured()]):
        data = tar_of(*content)
        assert data == retarred(*members(data))
    with pytest.raises(ValueError, match="names of up to 100 letters"):
        tar_of(MixedSample(**vars(mixed()) | {"key": "x" * 96}))


def test_a_tar_that_others_wrote_or_went_on_with_is_read():
    whole = tar_of(mixed(), pictured(1), image(2))
    ours = members(whole)
    for number in range(len(ours) + 1):
        buffer = io.BytesIO()
        with tarfile.open(fileobj=buffer, mode="w", format=tarfile.GNU_FORMAT) as tar:
            for place, (name, data) in enumerate(ours):
                member = tarfile.TarInfo(name)
                member.size, member.mtime = len(data), place >= number
                tar.addfile(member, io.BytesIO(data))
        assert all(same(one, other) for one, other in zip(read(buffer.getvalue()), read(whole), strict=True))


def test_damage_in_a_tar_of_others_is_named():
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.GNU_FORMAT) as tar:
        for name, data in (*members(tar_of(mixed())), ("s1-00.json", b"{}"), ("s1-00.exe", b"")):
            member = tarfile.TarInfo(name)
            member.size, member.mtime = len(data), 1
            tar.addfile(member, io.BytesIO(data))
    with pytest.raises(UserError, match=r"damaged at s1-00\.exe \(expected the member \.txt"):
        read(buffer.getvalue())
    for length in range(1024, buffer.tell(), 500):
        with pytest.raises(UserError, match="damaged at s"):
            read(buffer.getvalue()[:length])


def test_features_need_not_be_contiguous():
    sample = mixed()
    turned = MixedSample(**vars(sample) | {"features": np.asfortranarray(sample.features)})
    assert tar_of(turned) == tar_of(sample)


def test_members_are_json_txt_npy_of_nobody_at_no_time():
    with tarfile.open(fileobj=io.BytesIO(tar_of(mixed(), image()))) as tar:
        found = tar.getmembers()
    assert [member.name for member in found] == [
        "s0-00.json", "s0-00.txt", "s0-00.npy", "i0.json", "i0.txt", "i0.npy"
    ]  # fmt: skip
    for member in found:
        assert (member.mtime, member.uid, member.gid, member.uname, member.gname) == (0, 0, 0, "", "")
        assert (member.mode, member.type) == (0o644, tarfile.REGTYPE)


def test_the_members_of_a_mixed_sample_hold_what_the_contract_says():
    (_, record), (_, text), (_, array) = members(tar_of(mixed()))
    assert text.decode() == "a dog chases two Hünde 🐕"
    assert np.load(io.BytesIO(array), allow_pickle=False).dtype == np.float16
    box = {"box": [1.0, 2.0, 30.5, 40.0], "width": 640, "height": 480}
    expected = {
        "kind": "mixed", "key": "s0-00", "sentence_id": "s0", "view": 0, "text": "a dog chases two Hünde 🐕",
        "mentions": [
            {"start": 2, "end": 5, "concept": "dog", "surface": "dog", "lemma": "dog"},
            {"start": 17, "end": 22, "concept": "dog", "surface": "Hünde", "lemma": "hund"},
        ],
        "replaced": [1], "patches_only": True,
        "patches": [
            {"mention": 1, "patch_id": "i0-000", "image_id": "i0", "concept": "dog", "score": 0.75} | box,
            {"mention": 1, "patch_id": "i1-000", "image_id": "i1", "concept": "dog", "score": 0.75} | box,
        ],
    }  # fmt: skip
    assert json.loads(record) == expected


def test_a_picture_is_the_fourth_member_and_the_record_says_where_patches_are_in_it():
    (_, record), _, _, picture = members(tar_of(pictured()))
    assert picture == ("s0-00.jpg", b"JPEG")
    assert ["crop" in patch for patch in json.loads(record)["patches"]] == [False, True]
    assert json.loads(record)["patches"][1]["crop"] == [3, 0, 5, 2]


def test_the_members_of_an_image_sample_hold_what_the_contract_says():
    (_, record), (_, text), _ = members(tar_of(image()))
    content = json.loads(record)
    assert text == b"dog, hot dog"
    assert [patch["mention"] for patch in content.pop("patches")] == [None, None]
    assert content == {
        "kind": "image", "key": "i0", "image_id": "i0", "source": "a b.jpg", "width": 640, "height": 480,
        "tags": ["dog", "hot dog"],
    }  # fmt: skip


def test_webdataset_reads_the_shards(tmp_path):
    wds = pytest.importorskip("webdataset")
    path = tmp_path / "mixed-000000.tar"
    path.write_bytes(tar_of(mixed(), mixed(1)))
    found = list(wds.WebDataset(str(path), shardshuffle=False).decode())
    assert [entry["__key__"] for entry in found] == ["s0-00", "s1-00"]
    assert found[1]["txt"] == "a dog chases two Hünde 🐕"
    assert found[1]["json"]["patches"][0]["patch_id"] == "i0-000"
    assert np.array_equal(found[1]["npy"], mixed(1).features)


def npy_with(shape, dtype):
    """Four numbers under a header that says anything of them."""
    header = f"{{'descr': {dtype}, 'fortran_order': False, 'shape': {shape}, }}\n".encode()
    return b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header + bytes(8)


def npy(array, **options):
    buffer = io.BytesIO()
    np.save(buffer, array, **options)
    return buffer.getvalue()


JSON, TXT, NPY = members(tar_of(mixed()))
IMAGE = members(tar_of(image()))


def record(**changed):
    return (JSON[0], json.dumps(json.loads(JSON[1]) | changed).encode())


@pytest.mark.parametrize(
    ("named", "where"),
    [
        ([TXT, JSON, NPY], r"s0-00\.txt \(expected the member \.json"),
        ([JSON, NPY, TXT], r"s0-00\.npy \(expected the member \.txt"),
        ([JSON, TXT], r"s0-00\.txt \(the last sample is not complete"),
        ([JSON, ("s1-00.txt", TXT[1]), NPY], r"s1-00\.txt"),
        ([JSON, TXT, NPY, ("s1-00.jpg", b"")], r"s1-00\.jpg \(expected the member \.json"),
        ([JSON, TXT, NPY, ("s0-00.jpg", b""), ("s0-00.jpg", b"")], r"s0-00\.jpg \(expected the member \.json"),
        ([JSON, TXT, ("s0-00.jpg", b"")], r"s0-00\.jpg \(expected the member \.npy"),
        ([("s.0.json", JSON[1]), TXT, NPY], r"s\.0\.json"),
        ([(f"other.{name.partition('.')[2]}", data) for name, data in (JSON, TXT, NPY)],
         r"other\.npy \(the record says key 's0-00'"),
        ([JSON, TXT, (NPY[0], npy(np.zeros((1, 3), np.float16)))], r"s0-00\.npy \(float16 features of shape \(1, 3\)"),
        ([JSON, TXT, (NPY[0], npy(np.zeros(2, np.float16)))], r"s0-00\.npy \(float16 features of shape \(2,\)"),
        ([JSON, TXT, (NPY[0], npy(np.zeros((2, 3), np.float32)))], r"s0-00\.npy \(float32 features"),
        ([JSON, TXT, (NPY[0], npy(np.array([[None]]), allow_pickle=True))], r"s0-00\.npy \(Object arrays cannot"),
        ([JSON, TXT, (NPY[0], NPY[1][:-1])], r"s0-00\.npy"),
        ([JSON, TXT, (NPY[0], NPY[1][:8] + b"\0\0" + NPY[1][10:])], r"s0-00\.npy \(the .npy header's length"),
        ([JSON, TXT, (NPY[0], npy_with("(-1, 4)", "'<f2'"))], r"s0-00\.npy \(an array of shape \(-1, 4\)"),
        ([JSON, TXT, (NPY[0], npy_with("(1, 4)", "()"))], r"s0-00\.npy"),
        ([JSON, TXT, (NPY[0], b"")], r"s0-00\.npy"),
        ([JSON, (TXT[0], b"another text"), NPY], r"s0-00\.npy \(\.txt and \.json have different texts"),
        ([JSON, (TXT[0], b"\xff"), NPY], r"s0-00\.npy"),
        ([(JSON[0], b"{"), TXT, NPY], r"s0-00\.npy"),
        ([(JSON[0], b"[]"), TXT, NPY], r"s0-00\.npy"),
        ([(JSON[0], b'"text"'), TXT, NPY], r"s0-00\.npy"),
        ([(JSON[0], b"[" * 100_000), TXT, NPY], r"s0-00\.npy"),
        ([record(kind="video"), TXT, NPY], r"s0-00\.npy \(it: Input tag 'video'"),
        ([record(extra=1), TXT, NPY], r"s0-00\.npy \(mixed\.extra: Unexpected"),
        ([record(mentions=[{"start": 0}]), TXT, NPY], r"s0-00\.npy"),
        ([IMAGE[0], ("i0.txt", b"dog"), IMAGE[2]], r"i0\.npy \(\.txt and \.json have different tags"),
    ],
)  # fmt: skip
def test_a_damaged_shard_is_a_user_error_that_names_shard_and_member(named, where):
    with pytest.raises(UserError, match=rf"^mixed-000000\.tar: damaged at {where}.*vlmixer verify"):
        read(retarred(*named))


@pytest.mark.parametrize("ending", [".json", ".txt", ".exe", ""])
def test_a_member_with_a_name_of_megabytes_is_a_short_message(ending):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.GNU_FORMAT) as tar:
        tar.addfile(tarfile.TarInfo("a" * (1 << 20) + ending))
    with pytest.raises(UserError, match=r"^mixed-000000\.tar: damaged at .*then make this shard again\.$") as raised:
        read(buffer.getvalue())
    assert len(str(raised.value)) < 1000


def sparse() -> bytes:
    """A member that says 2**40 bytes and has none of them in the tar."""
    member = tarfile.TarInfo("s0-00.json")
    member.pax_headers = {"GNU.sparse.map": "0,0", "GNU.sparse.size": str(1 << 40), "GNU.sparse.numblocks": "1"}
    return member.tobuf(tarfile.PAX_FORMAT)


def link() -> bytes:
    """A link to a member."""
    member = tarfile.TarInfo("s0-00.json")
    member.type, member.linkname = tarfile.LNKTYPE, "s0-00.json"
    return member.tobuf()


@pytest.mark.parametrize("header", [sparse(), link()])
def test_members_that_are_no_plain_files_are_not_read(header):
    with pytest.raises(UserError, match=r"damaged at s0-00\.json \(not a plain file\)"):
        read(header + bytes(2 * tarfile.BLOCKSIZE))


def changed(part, **values):
    """The record with other values in the first of its mentions or patches."""
    first, *others = json.loads(JSON[1])[part]
    return record(**{part: [first | values, *others]})


@pytest.mark.parametrize(
    ("record", "what"),
    [
        *[(record(view=value), "mixed.view: Input should be ") for value in ("0", None, 1.5, True, 2**31, 10**400)],
        (record(sentence_id=3), "mixed.sentence_id: Input should be a valid string"),
        (record(patches_only=0), "mixed.patches_only: Input should be a valid boolean"),
        *[(record(replaced=[value]), "other mentions than those replaced") for value in (2, -1)],
        (record(replaced=["1"]), "mixed.replaced.0: Input should be a valid integer"),
        *[
            (changed("mentions", start=value), "mixed.mentions.0.start: Input should be ")
            for value in ("2", 10**400, None)
        ],
        (changed("mentions", surface=None), "mixed.mentions.0.surface: Input should be a valid string"),
        *[
            (changed("patches", mention=value), "patches.0.mention: Input should be a valid int")
            for value in ("1", 0.5)
        ],
        *[(changed("patches", mention=value), "mention that is not there") for value in (None, 2)],
        *[
            (changed("patches", width=value), "patches.0.width: Input should be ")
            for value in (10**400, "x", [[["deep"]]])
        ],
        *[
            (changed("patches", score=value), "patches.0.score: Input should be a valid number")
            for value in (None, "1", True)
        ],
        *[(changed("patches", score=value), "not from 0 to 1") for value in (float("nan"), float("inf"), -0.1, 2)],
        (changed("patches", score=10**400), "score"),  # another message with each version of pydantic
        (changed("patches", box=[0, 0, 1]), "patches.0.box.3: Field required"),
        *[(changed("patches", width=value), "is not inside") for value in (0, -1)],
        *[(changed("patches", box=box), "is not inside") for box in ([0, 0, 0, 1], [0, 0, 1e6, 1], [-1, 0, 1, 1])],
        (changed("patches", crop=[0, 0, 1]), "patches.0.crop.3: Field required"),
        (changed("patches", crop=[0, 0, 1, 1.5]), "patches.0.crop.3: Input should be a valid integer"),
        (changed("patches", concept={}), "patches.0.concept: Input should be a valid string"),
        (changed("patches", concept="\ud800"), "Invalid JSON"),
    ],
)
def test_values_of_other_types_are_damage(record, what):
    with pytest.raises(UserError, match=rf"damaged at s0-00\.npy \(.*{what}"):
        read(retarred(record, TXT, NPY))


def test_an_image_has_no_mentions():
    content = json.loads(IMAGE[0][1])
    for patches, what in (
        ({"mention": 0}, "replaces a mention"),
        ({"width": None}, "image.patches.0.width: Input should be a valid integer"),
    ):
        data = json.dumps(content | {"patches": [content["patches"][0] | patches, content["patches"][1]]}).encode()
        with pytest.raises(UserError, match=what):
            read(retarred((IMAGE[0][0], data), *IMAGE[1:]))


def test_a_shard_cut_anywhere_is_refused():
    whole = tar_of(mixed(), mixed(1))
    with tarfile.open(fileobj=io.BytesIO(whole)) as tar:
        end = tar.getmembers()[-1].offset_data + 3 * tarfile.BLOCKSIZE
    for length in [*range(0, end, 97), *range(0, end, tarfile.BLOCKSIZE), end - 1]:
        with pytest.raises(UserError, match="damaged"):
            read(whole[:length])


def test_a_damaged_header_never_shortens_a_shard():
    whole = tar_of(mixed(), mixed(1))
    with tarfile.open(fileobj=io.BytesIO(whole)) as tar:
        headers = [member.offset for member in tar]
    for header in headers:
        damaged = bytearray(whole)
        damaged[header + 3] ^= 1
        with pytest.raises(UserError, match="damaged"):
            read(bytes(damaged))


def test_whatever_bit_is_flipped_reading_ends_in_samples_or_in_a_user_error():
    whole = tar_of(mixed())
    for position in range(7 * tarfile.BLOCKSIZE):
        damaged = bytearray(whole)
        damaged[position] ^= 1 << position % 8
        try:
            assert len(read(bytes(damaged))) == 1
        except UserError:
            continue


def test_something_else_than_a_tar_is_a_user_error():
    for data in (b"", b"hello", b"\0" * 511):
        with pytest.raises(UserError, match=r"mixed-000000\.tar: damaged at the beginning"):
            read(data)


def test_shards_are_read_through_the_file_door():
    with files.publishing("memory://test-samples/mixed-000000.tar") as file:
        samples.write_shard(file, [mixed()])
    (found,) = samples.read_shard("memory://test-samples/mixed-000000.tar")
    assert same(found, mixed())
