"""A worker: local training steps and the rounds around them."""
