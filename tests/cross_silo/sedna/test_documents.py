"""Manifests as they come: several in a file, inside kubectl commands, JSON, and what is no YAML."""

import json

import pytest

from cross_silo.errors import UserError
from cross_silo.sedna import documents
from cross_silo.sedna.documents import read_documents


def read(directory, text, name="m.yaml"):
    path = directory / name
    path.write_text(text)
    return read_documents(str(path))


def contents(directory, text, name="m.yaml"):
    return [document.content for document in read(directory, text, name)]


def test_documents_of_a_file_in_their_order_with_their_lines(tmp_path):
    found = read(tmp_path, "# first\nkind: A\n---\n---\nkind: B\n")
    assert [document.content["kind"] for document in found] == ["A", "B"]
    assert [document.where for document in found] == [f"{tmp_path}/m.yaml:2", f"{tmp_path}/m.yaml:4"]


def test_here_documents_of_kubectl_among_other_text(tmp_path):
    lines = ["Title: a text with colons: and more", "cat <<EOF > other.txt", "not: [yaml", "EOF"]
    lines += ["kubectl create -f - <<EOF", "kind: A", "EOF"]
    lines += ["cat <<'MANIFEST' | kubectl apply -f -", "kind: B", "---", "kind: C", "MANIFEST"]
    lines += ["# kubectl create -f - <<EOF", "kind: D", "EOF"]
    found = read(tmp_path, "\n".join(lines), "text.md")
    assert [document.content["kind"] for document in found] == ["A", "B", "C", "D"]
    assert found[0].where.endswith("text.md:6")


def test_a_here_document_without_an_end_is_named_by_its_line(tmp_path):
    with pytest.raises(UserError, match=r"line 2: <<EOF has no line EOF that ends it"):
        read(tmp_path, "\nkubectl create -f - <<EOF\nkind: A\n")


def test_json_with_tabs_and_lists_of_resources(tmp_path):
    items = {"kind": "List", "apiVersion": "v1", "items": [{"kind": "A"}, {"kind": "B"}]}
    assert contents(tmp_path, json.dumps(items, indent="\t"), "m.json") == items["items"]


def test_json_documents_one_after_the_other(tmp_path):
    found = read(tmp_path, '{"kind": "A"}\n\n{"kind": "B"} {"kind": "C"}\n', "m.json")
    assert [(document.content["kind"], document.where[-1]) for document in found] == [
        ("A", "1"),
        ("B", "3"),
        ("C", "3"),
    ]


def test_what_is_too_deep_is_refused(tmp_path):
    for depth in (100, 100_000):
        for text in ("[" * depth + "]" * depth, '{"a":' * depth + "1" + "}" * depth):
            with pytest.raises(UserError, match="one in another|not valid YAML|expected a manifest"):
                read(tmp_path, text)


def test_null_is_absent_and_dates_stay_text(tmp_path):
    (content,) = contents(tmp_path, "kind: A\nspec: {empty: null, day: 2024-01-31, list: [{a: ~}]}\n")
    assert content == {"kind": "A", "spec": {"day": "2024-01-31", "list": [{}]}}


@pytest.mark.parametrize(
    "text, message",
    [
        ("kind: A\nspec:\n  url: a\n  url: b\n", r'line 4: not valid YAML: key "url" already set in map'),
        ('{"kind": "A", "kind": "B"}', r'line 1: not valid YAML: key "kind" already set in map'),
        ("- kind: A\n", r"m.yaml:1: found list, expected a manifest"),
        ("1: a\n", r"key 1 is no text"),
        ("kind: !!python/object:os.system {}\n", "could not determine a constructor"),
        ("# nothing\n", "holds no manifest"),
        ("a: &a [*a]\n", "has more than 100000 values"),
    ],
)
def test_what_is_no_manifest_is_refused(tmp_path, text, message):
    with pytest.raises(UserError, match=message):
        read(tmp_path, text)


def test_aliases_of_aliases_do_not_fill_the_memory(tmp_path):
    lines = ["a: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"b{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 12)]
    with pytest.raises(UserError, match="has more than 100000 values"):
        read(tmp_path, "\n".join(lines))


def test_files_that_cannot_be_read(tmp_path, monkeypatch):
    with pytest.raises(UserError, match="No such file"):
        read_documents(str(tmp_path / "none.yaml"))
    (tmp_path / "binary").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UserError, match="is not UTF-8 text"):
        read_documents(str(tmp_path / "binary"))
    monkeypatch.setattr(documents, "MOST_BYTES", 4)
    with pytest.raises(UserError, match="is larger than"):
        read(tmp_path, "kind: A\n")


@pytest.mark.parametrize(
    "text, form",
    [
        (
            'spec:\n  stopCondition:\n    operator: "or"\n      conditions:\n        - metric: rounds\n',
            "stopCondition is written so: spec.stopCondition: {operator",
        ),
        (
            "spec:\n  data_path: ./data/\n    train_path: ./data/train\n",
            "data_path is written so: spec.data_path: {train_path",
        ),
        (
            "spec:\n  transimitter:\n    transimitter_list: a\n      b: c\n",
            "transimitter is written so: spec.transmitter: {",
        ),
    ],
)
def test_mis_indented_proposals_are_answered_with_the_right_form(tmp_path, text, form):
    with pytest.raises(UserError, match="not valid YAML") as error:
        read(tmp_path, text)
    assert form in str(error.value)
    assert "\n" not in str(error.value)
