"""Typed settings of the job (federated YAML) and of the model and its data (model YAML)."""
