"""MistNet (2020): silos compute a frozen extractor once and send noisy bits; the server trains the rest on them."""
