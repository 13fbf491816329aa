"""Check manifests against the schemas of CustomResourceDefinitions, as strictly as a Kubernetes API server.

DIR is a checkout's directory of CRDs, such as build/crds of kubeedge/sedna. Exit status: 0; 1 where something is wrong.
"""

from __future__ import annotations

import argparse
import copy
from pathlib import Path
from typing import Any, Dict, Iterator, List, Mapping, Optional, Sequence, Tuple

import yaml

from cross_silo.errors import UserError, run_main

MANIFESTS = Path(__file__).resolve().parents[1] / "configs" / "sedna"
CRD = "CustomResourceDefinition"
PRESERVE = "x-kubernetes-preserve-unknown-fields"
BOUNDS = {"int32": 2**31, "int64": 2**63}
"""Of whole numbers by their format."""

Kind = Tuple[str, str]
"""apiVersion and kind."""


def read_documents(path: Path) -> List[Any]:
    """Return the documents of a YAML or JSON file. Raises UserError."""
    try:
        return [document for document in yaml.safe_load_all(path.read_text(encoding="utf-8")) if document is not None]
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: not valid YAML: {' '.join(str(error).split())}") from None


def read_schemas(directory: Path) -> Dict[Kind, Dict[str, Any]]:
    """Return the strict schemas of all served versions of the CRDs in ``directory``. Raises UserError for none."""
    files = sorted([*directory.glob("*.yaml"), *directory.glob("*.yml"), *directory.glob("*.json")])
    schemas: Dict[Kind, Dict[str, Any]] = {}
    for document in (document for file in files for document in read_documents(file)):
        if not isinstance(document, dict) or document.get("kind") != CRD:
            continue
        spec = document["spec"]
        for version in spec["versions"]:
            if version["served"]:
                schema = strict(version["schema"]["openAPIV3Schema"])
                # metadata is the API server's own, whatever the CRD says of it
                schema["properties"]["metadata"] = {"type": "object", "required": ["name"]}
                schemas[f"{spec['group']}/{version['name']}", spec["names"]["kind"]] = schema
    if not schemas:
        raise UserError(f"--crds {directory}: has no {CRD}; expected a directory like build/crds of kubeedge/sedna")
    return schemas


def strict(schema: Mapping[str, Any]) -> Dict[str, Any]:
    """Return a structural schema (OpenAPI 3.0, Kubernetes' dialect) as JSON Schema that refuses unknown fields."""
    found = copy.deepcopy(dict(schema))
    for name in ("properties", "patternProperties"):
        if name in found:
            found[name] = {key: strict(value) for key, value in found[name].items()}
    for name in ("items", "additionalProperties"):
        if isinstance(found.get(name), dict):
            found[name] = strict(found[name])
    is_object = found.get("type") == "object"
    if is_object and not found.get(PRESERVE) and "additionalProperties" not in found:
        found["additionalProperties"] = False
    if found.get("type") == "integer" and found.get("format") in BOUNDS:
        bound = BOUNDS[found["format"]]
        found.setdefault("minimum", -bound)
        found.setdefault("maximum", bound - 1)
    if found.pop("nullable", False) and "type" in found:
        found["type"] = [found["type"], "null"]
    return found


def problems(document: Any, schemas: Mapping[Kind, Mapping[str, Any]]) -> Optional[List[str]]:
    """Return what is wrong with a document; None where no schema is for its kind."""
    if not isinstance(document, dict):
        return [f"found {type(document).__name__}, expected a mapping"]
    kind = (str(document.get("apiVersion")), str(document.get("kind")))
    if kind not in schemas:
        groups = {group.partition("/")[0] for group, _ in schemas}
        if kind[0].partition("/")[0] in groups:
            return [f'no matches for kind "{kind[1]}" in version "{kind[0]}"']
        return None
    try:
        from jsonschema import Draft4Validator
    except ImportError:
        raise UserError("this tool needs the package jsonschema; expected cross-silo[test]") from None
    errors = sorted(Draft4Validator(schemas[kind]).iter_errors(document), key=lambda error: list(map(str, error.path)))
    found = [f"{dotted(error.absolute_path) or '.'}: {error.message}" for error in errors]
    return found + list(duplicates(document, schemas[kind], ""))


def duplicates(value: Any, schema: Mapping[str, Any], path: str) -> Iterator[str]:
    """Yield entries that a list keyed by some of their fields, or a set, has twice."""
    if isinstance(value, dict):
        fallback = schema.get("additionalProperties")
        for key, item in value.items():
            inner = schema.get("properties", {}).get(key, fallback)
            if isinstance(inner, dict):
                yield from duplicates(item, inner, f"{path}.{key}" if path else str(key))
    if isinstance(value, list):
        kind, keys = schema.get("x-kubernetes-list-type"), schema.get("x-kubernetes-list-map-keys", ())
        defaults = {key: schema["items"].get("properties", {}).get(key, {}).get("default") for key in keys}
        seen: List[Any] = []
        for index, item in enumerate(value):
            if kind == "map" and isinstance(item, dict):
                identity = [item.get(key, defaults[key]) for key in keys]
            elif kind == "set":
                identity = item
            else:
                identity = None
            if identity is not None and identity in seen:
                yield f"{path}[{index}]: Duplicate value: {identity}"
            seen.append(identity)
            if isinstance(schema.get("items"), dict):
                yield from duplicates(item, schema["items"], f"{path}[{index}]")


def dotted(path: Sequence[Any]) -> str:
    """Return the path of a value as Kubernetes writes it: spec.trainingWorkers[0].dataset."""
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else f".{part}"
    return text.lstrip(".")


def parse(argv: Optional[Sequence[str]] = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
    parser.add_argument("--crds", type=Path, required=True, help="directory with CRDs")
    parser.add_argument(
        "--manifests", type=Path, nargs="+", help="files to check; those of configs/sedna if none is given"
    )
    return parser.parse_args(argv)


def main(argv: Optional[Sequence[str]] = None) -> int:
    """Run the command."""
    arguments = parse(argv)
    schemas = read_schemas(arguments.crds)
    files = arguments.manifests or sorted(MANIFESTS.glob("*.yaml"))
    wrong = 0
    for file in files:
        for document in read_documents(file):
            found = problems(document, schemas)
            name = f"{file}: {shown(document)}"
            if found is None:
                print(f"{name}: no CRD for it, not checked")
            elif found:
                wrong += 1
                print("\n".join(f"{name}: {problem}" for problem in found))
            else:
                print(f"{name}: valid")
    return 1 if wrong else 0


def shown(document: Any) -> str:
    """Return kind and name of a document."""
    if not isinstance(document, dict):
        return "document"
    metadata = document.get("metadata")
    return f"{document.get('kind')}/{metadata.get('name') if isinstance(metadata, dict) else ''}"


if __name__ == "__main__":
    run_main(main)
