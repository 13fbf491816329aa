"""Names of the MistNet routes, and the headers of a chunk of features."""

from __future__ import annotations

TERMS, EXTRACTOR = "/mistnet", "/extractor"
OFFER, CHUNK, PLACED = "/features/offer", "/features/chunk", "/features/placed"

SILO = "Cross-Silo-Silo"
"""Request: whose features."""
FILE = "Cross-Silo-File"
"""Request: name of the file in the manifest."""
OFFSET = "Cross-Silo-Offset"
"""Request: place of the chunk's first byte in the file."""
SHA256 = "Cross-Silo-Sha256"
"""Request: of the chunk, hex."""

CHUNK_BYTES = 4 << 20
"""Most bytes of a chunk."""
MANIFEST_BYTES = 1 << 20
"""Most bytes of an offer."""
