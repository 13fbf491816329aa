"""Federated object detection on MindSpore across silos."""

__version__ = "0.1.0"
