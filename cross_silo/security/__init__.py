"""Making and keeping secrets: certificates with their keys, tokens, files that nobody else may read."""
