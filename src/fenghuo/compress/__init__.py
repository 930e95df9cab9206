"""A run → a smaller run: augment, distill, export, quantize."""
