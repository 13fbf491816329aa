"""What the proposed fields of a Dataset and of a Model come to here, or why they are refused."""

from __future__ import annotations

from typing import Any, Dict, Tuple

from cross_silo.errors import UserError
from cross_silo.sedna.extensions import DatasetExtensionSpec, Faults, ModelExtensionSpec
from cross_silo.sedna.plan import find_config

MULTIPLE = 32
"""Of the image's sides: the detectors' largest stride."""


def dataset_keys(extension: DatasetExtensionSpec, name: str, url: str) -> Tuple[Dict[str, Any], Faults]:
    """Return the model YAML's keys that a Dataset's proposed fields come to, and what is refused of them."""
    keys: Dict[str, Any] = {}
    faults: Faults = []
    if extension.name not in ("", name):
        faults.append(("spec.name", f"found {extension.name!r}, but metadata.name is {name!r}; expected the same"))
    if extension.data_params is not None:
        faults.append(("spec.data_params", "parameters of a script that is not run here; expected none"))
    if extension.download_url:
        faults.append(("spec.download_url", "silos' data is not downloaded; expected its place in spec.url"))
    if extension.data_path.test_path:
        reason = "a silo's held-out images are no part of a job; expected spec.aggregationWorker.dataset"
        faults.append(("spec.data_path.test_path", reason))
    path = extension.data_path.train_path
    if path.startswith("/") and not path.startswith(url.rstrip("/") + "/"):
        faults.append(("spec.data_path.train_path", f"{path} is not below spec.url {url}"))
    number, classes = extension.num_classes, extension.classes
    if number is not None and number < 1:
        faults.append(("spec.num_classes", f"found {number}, expected at least 1"))
    if classes and number not in (None, len(classes)):
        faults.append(("spec.classes", f"names {len(classes)} classes, but spec.num_classes is {number}"))
    if len(set(classes)) < len(classes):
        faults.append(("spec.classes", "names a class twice"))
    if any(not name.strip() or len(name.splitlines()) > 1 for name in classes):
        faults.append(("spec.classes", "has a name that is empty or of several lines"))
    if number or classes:
        keys["num_classes"] = number or len(classes)
    if extension.image_size is not None:
        if extension.image_size < MULTIPLE or extension.image_size % MULTIPLE:
            faults.append(("spec.image_size", f"found {extension.image_size}, expected a multiple of {MULTIPLE}"))
        keys.update(img_height=extension.image_size, img_width=extension.image_size)
    return keys, faults


def train_url(extension: DatasetExtensionSpec, url: str) -> str:
    """Return the url of the directory that is trained on: that of ``url`` which data_path.train_path is within.

    The directory of images in coco128's layout stands for the one that has images and labels.
    """
    path = extension.data_path.train_path.rstrip("/")
    if not path:
        return url
    whole = path if path.startswith("/") else f"{url.rstrip('/')}/{path[2:] if path.startswith('./') else path}"
    head, separator, _ = whole.partition("/images")
    return head if separator else whole


def model_config(extension: ModelExtensionSpec) -> Tuple[str, Faults]:
    """Return the model YAML that a Model's proposed fields name, empty for none, and what is refused of them."""
    faults: Faults = []
    if extension.framework.lower() not in ("", "mindspore"):
        faults.append(("spec.framework", f"found {extension.framework!r}, expected MindSpore: it is what trains here"))
    found = ""
    for path, name in (("model_name", extension.model_name), ("model_config", extension.model_config_path)):
        if name:
            try:
                found = find_config(name)
            except UserError as error:
                faults.append((f"spec.{path}", str(error)))
    return found, faults
