"""The formula of the work of a step, beside torch's own count of the products that a plain model makes."""

from __future__ import annotations

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from fenghuo.models.build import build
from fenghuo.net.config import EncoderConfig, HeadsConfig
from fenghuo.net.flops import MatrixPeak, training_flops


@pytest.mark.parametrize("narrow_words", [False, True])
def test_the_formula_is_what_torch_counts_of_a_pass(narrow_words: bool) -> None:
    values = {"layers": 3, "layer_groups": 3, "width": 64, "inner_width": 96, "heads": 4, "dropout": 0.0}
    values |= {"embed_width": 16 if narrow_words else 64, "attention_dropout": 0.0}
    family = "albert" if narrow_words else "bert"
    model = build(
        None, family=family, values=values, vocab=500, heads=HeadsConfig(pooler=False, mlm=True), seed=0
    )
    lengths = torch.tensor([40, 40, 40])
    batch = {"pieces": torch.arange(120) % 500, "lengths": lengths}
    at = torch.arange(0, 120, 7)
    # Of all ways of attention torch counts the products of this one on every device.
    with FlopCounterMode(display=False) as counter, torch.no_grad(), sdpa_kernel(SDPBackend.MATH):
        model.eval()
        encoded = model.encode(batch)
        assert model.mlm is not None
        model.mlm(encoded.last_TD[at])
    formula = training_flops(model.config, pieces=120, squares=float((lengths**2).sum()), asked=len(at))
    # A pass forward is a third of a step.
    assert counter.get_total_flops() == pytest.approx(formula / 3, rel=1e-9)


def test_the_peak_is_a_rate_that_only_rises() -> None:
    config = EncoderConfig(vocab=10, width=64, heads=4)
    state = torch.get_rng_state()
    peak = MatrixPeak(config, rows=64)
    first = peak.measure_for(0.0)
    assert 0 < first <= peak.measure_for(0.02) == peak.flops_per_s
    assert 0 < peak.mean_per_s < peak.flops_per_s
    assert torch.equal(torch.get_rng_state(), state)
