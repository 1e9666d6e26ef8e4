"""Frames to tokens to bytes and back, with a model."""
