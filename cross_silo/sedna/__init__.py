"""Sedna's custom resources as launch arguments: read, checked, planned, run and reported back."""
