"""Real text → the whole way: corpus, pretraining, fine-tuning, distillation, quantization, ledger."""
