"""Labelled rows + a pretrained encoder → a model that answers."""
