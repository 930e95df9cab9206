"""A model folder → answers: in Python, over lines of JSON, and over HTTP. Runs without torch."""
