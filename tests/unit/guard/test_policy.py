from pathlib import Path

import pytest

from interlock.errors import PolicyError
from interlock.guard.policy import load_policy

GOOD = """\
interlock: 1
name: lab
admit: {principal: {}, budget: {max_shots_per_job: 100}}
verify: {limits: {}}
health: {calibration: {}}
execute: {run: {}}
validate: {counts: {}}
filter: {constraints: {rules: [{id: e, field: energy, min: -2, max: 0}]}}
govern: {rate: {}}
release: {lineage: {}, baseline: {}}
"""


def write(folder: Path, text: str) -> Path:
    path = folder / "policy.yaml"
    path.write_text(text, "utf-8")
    return path


def test_a_good_policy_binds_its_controls(tmp_path: Path) -> None:
    policy = load_policy(write(tmp_path, GOOD))
    assert [b.id for b in policy.controls("admit")] == ["budget", "principal"]
    assert policy.controls("admit")[0].settings.max_shots_per_job == 100


def test_the_identity_is_of_the_content_not_of_the_spacing(tmp_path: Path) -> None:
    first = load_policy(write(tmp_path, GOOD)).sha256
    assert load_policy(write(tmp_path, "# a comment\n" + GOOD)).sha256 == first
    assert load_policy(write(tmp_path, GOOD.replace("100", "101"))).sha256 != first


def test_the_starter_policy_is_good() -> None:
    assert load_policy(None).name == "starter"


@pytest.mark.parametrize(
    ("old", "new", "code", "says"),
    [
        ("admit:", "admitt:", "policy-unknown-key", "did you mean 'admit'?"),
        ("budget:", "bugdet:", "policy-unknown-control", "did you mean 'budget'?"),
        ("max_shots_per_job", "max_shot_per_job", "policy-unknown-key", "'max_shots_per_job'"),
        (": 100}", ": -5}", "policy-value", ">= 1"),
        (": 100}", ": many}", "policy-value", "int"),
        ("interlock: 1", "interlock: 2", "policy-version", "interlock: 1"),
        ("name: lab\n", "", None, ""),
        ("verify: {limits: {}}\n", "", "policy-empty-stage", "limits"),
        ("verify: {limits: {}}\n", "verify: {}\n", "policy-empty-stage", "limits"),
        ("verify: {limits: {}}\n", "verify: {limits: 5}\n", "policy-settings", "{}"),
        ("field: energy, min: -2, max: 0", "field: energy", "policy-value", "checks nothing"),
        ("name: lab", "name: lab\nname: other", "policy-not-yaml", "stands twice"),
        ("name: lab", "name: &a lab\n? *a\n: 1", "policy-not-yaml", "aliases"),
        ("name: lab", "name: !!python/object/apply:os.system [id]", "policy-not-yaml", "YAML"),
        ("admit:", "admit: [", "policy-not-yaml", "YAML"),
    ],
)
def test_a_wrong_policy_is_named_with_the_nearest_right_key(
    tmp_path: Path, old: str, new: str, code: str | None, says: str
) -> None:
    path = write(tmp_path, GOOD.replace(old, new, 1))
    if code is None:
        load_policy(path)
        return
    with pytest.raises(PolicyError) as caught:
        load_policy(path)
    assert caught.value.code == code
    assert says in caught.value.diagnostics()


def test_a_missing_file_a_binary_file_and_a_list_are_refused(tmp_path: Path) -> None:
    with pytest.raises(PolicyError, match="cannot read"):
        load_policy(tmp_path / "none.yaml")
    binary = tmp_path / "b.yaml"
    binary.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(PolicyError):
        load_policy(binary)
    with pytest.raises(PolicyError, match="mapping"):
        load_policy(write(tmp_path, "- a\n- b\n"))


def test_deep_nesting_is_refused_not_a_crash(tmp_path: Path) -> None:
    with pytest.raises(PolicyError):
        load_policy(write(tmp_path, "[" * 100_000))


def test_an_endless_file_is_refused() -> None:
    with pytest.raises(PolicyError, match="cannot read") as caught:
        load_policy("/dev/zero")
    assert "larger than" in str(caught.value.got)


def test_a_wrong_value_is_shown_with_its_setting() -> None:
    with pytest.raises(PolicyError) as caught:
        load_policy({"interlock": 1, "admit": {"budget": {"max_shots_per_job": "many"}}})
    error = caught.value
    assert error.message == "admit.budget.max_shots_per_job has a wrong value"
    assert (error.got, error.expected) == ("'many'", "`int | null`")
