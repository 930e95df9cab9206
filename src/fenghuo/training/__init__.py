"""How weights move: optimizers, schedules, the loop, checkpoints. Knows a model, batches and a loss; no language."""
