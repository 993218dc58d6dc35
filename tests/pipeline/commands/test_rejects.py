from vlmixer.artifacts import manifest


def test_rejects_are_those_of_the_manifests(call, answer, out):
    counted = {(entry["stage"], entry["reason"]): entry["number"] for entry in answer("rejects", out)["counts"]}
    wanted = {}
    for folder in ("tagged", "regions", "bank", "shards"):
        finished = manifest.read(str(out / folder))
        for counts in finished.counts.values():
            wanted.update({(finished.stage, reason): number for reason, number in counts.rejected.items()})
    assert counted == wanted
    assert wanted
    code, printed, said = call("rejects", out)
    assert (code, said) == (0, "")
    assert all(f"{stage}  {reason}" in printed for stage, reason in wanted)
    stage, reason = sorted(wanted)[0]
    found = answer("rejects", out, "--reason", reason, "--stage", stage, "-n", 1)
    assert [entry["number"] for entry in found["counts"]] == [wanted[stage, reason]]
    assert [(entry["stage"], entry["reason"]) for entry in found["listed"]] == [(stage, reason)]


def test_wrong_reasons_and_folders(call, out, tmp_path):
    code, printed, said = call("rejects", out, "--reason", "no_mentions")
    assert (code, printed) == (2, "")
    assert said.startswith("error: --reason no_mentions: no such reason; did you mean no_mention or ")
    code, _, said = call("rejects", tmp_path)
    assert code == 2
    assert "no run here" in said
