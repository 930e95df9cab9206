"""Tensors in, tensors out: every module with saved weights. Knows no family name, no file and no loss."""
