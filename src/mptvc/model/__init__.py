"""Networks and the integer entropy model: tensors in, tensors out."""
