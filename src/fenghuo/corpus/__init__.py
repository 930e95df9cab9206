"""Documents → shards → batches. No torch here."""
