"""Training and fine-tuning; nothing else in the package imports it."""
