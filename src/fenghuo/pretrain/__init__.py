"""Corpus + model + objectives → a pretrained encoder."""
