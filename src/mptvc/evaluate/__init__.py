"""How good and how fast: comparison with the source and with other codecs."""
