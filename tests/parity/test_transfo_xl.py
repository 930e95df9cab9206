"""The same numbers as transformers 4.57.6 for Transformer-XL, over three segments that follow each other.

Golden folders are those of `regenerate_transfo_xl.py`; `make parity` makes them anew.
"""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from fenghuo.models import FAMILIES
from fenghuo.models.folder import build, load_with_report, save_model
from fenghuo.net.config import HeadsConfig

HERE = Path(__file__).parent
WITHIN = 1e-5


def pytest_generate_tests(metafunc):
    if "xl_folder" in metafunc.fixturenames:
        live = metafunc.config.getoption("--golden", default=None)
        folders = sorted(
            x.parent for x in (live / "xl" if live else HERE / "golden_xl").glob("*/config.json")
        )
        metafunc.parametrize("xl_folder", folders, ids=[path.name for path in folders], scope="module")


@pytest.fixture(scope="module")
def model(xl_folder):
    model, report = load_with_report(xl_folder)
    assert report.unexpected == report.fresh == ()
    assert all("crit.out_" in name or "r_" in name or "inv_freq" in name for name in report.dropped)
    return model


@pytest.fixture(scope="module")
def values(xl_folder):
    return {
        name: x if x.is_floating_point() else x.long()
        for name, x in load_file(xl_folder / "values.safetensors").items()
    }


def segments(values):
    """(ids, labels, rest) of each segment."""
    for number in range(3):
        prefix = f"{number}/"
        case = {key.removeprefix(prefix): x for key, x in values.items() if key.startswith(prefix)}
        yield case.pop("input_ids"), case.pop("labels"), case


def flat(ids):
    return {"pieces": ids.flatten(), "lengths": torch.full((ids.shape[0],), ids.shape[1])}


def compare_memory(near, group, mine, case):
    theirs = [case[f"memory.{layer}"].transpose(0, 1) for layer in range(len(mine))]
    assert f"memory.{len(mine)}" not in case
    for found, wanted in zip(mine, theirs, strict=True):
        near(group, "memory", found, wanted, within=WITHIN)


def test_states_memory_and_log_probabilities_of_the_packed_encoder(xl_folder, model, values, near):
    memory = []
    for ids, _, case in segments(values):
        with torch.no_grad():
            encoded = model.encode(flat(ids), memory=memory, states=True)
        assert len(encoded.states) == sum(key.startswith("state.") for key in case)
        for layer, state_TD in enumerate(encoded.states):
            wanted = case[f"state.{layer}"].flatten(0, 1)
            near(f"transfo-xl {xl_folder.name}", "states", state_TD, wanted, within=WITHIN)
        memory = encoded.memory
        compare_memory(near, f"transfo-xl {xl_folder.name}", memory, case)


def test_the_padded_call(xl_folder, model, values, near):
    mems, group = None, f"transfo-xl {xl_folder.name}"
    for ids, _, case in segments(values):
        with torch.no_grad():
            out = model(ids, mems=mems)
        mems = out.mems
        last = case[max(key for key in case if key.startswith("state."))]
        near(group, "last", out.last_hidden_state, last, within=WITHIN)
        near(group, "log-probabilities", out.logits, case["log_prob"], within=WITHIN)
        compare_memory(near, group, mems, case)


def test_gradients_in_training_mode_without_dropout(xl_folder, model, values, near):
    """Both ways to the loss: all V log-probabilities, and only the clusters that are asked."""
    group = f"transfo-xl {xl_folder.name}"
    for way in ("nll", "log_prob"):
        model.train().zero_grad()
        memory, loss = [], torch.zeros(())
        for ids, labels, _ in segments(values):
            encoded = model.encode(flat(ids), memory=memory)
            memory = encoded.memory
            if way == "nll":
                loss = loss + model.mlm.nll(encoded.last_TD, labels.flatten()).sum()
            else:
                log_prob = model.mlm.log_prob(encoded.last_TD)
                loss = loss - log_prob.gather(1, labels.flatten()[:, None]).sum()
        loss.backward()
        model.eval()
        torch.testing.assert_close(loss.detach(), values["loss"], rtol=1e-5, atol=0)
        gradients = {name: x.grad for name, x in model.named_parameters()}
        checked, form = 0, FAMILIES["transfo-xl"].form
        for ours in gradients:
            whole, parts = form.whole(ours) or (form.theirs(ours)[0], (ours,))
            if ours != parts[0]:
                continue
            gradient = torch.cat([gradients[part] for part in parts]).flatten()
            norm, wanted = values[f"gradient.{whole}.norm"], values[f"gradient.{whole}.some"]
            some = gradient[:: max(1, len(gradient) // 12)][:12]
            scale = max(float(norm), 0.1)
            near(group, f"gradients, {way}", some / scale, wanted / scale, within=1e-4)
            assert abs(float(gradient.norm()) - float(norm)) <= 1e-4 * scale, ours
            checked += 1
        assert checked == sum(key.endswith(".norm") for key in values)


def test_folders_go_there_and_back(xl_folder, model, tmp_path):
    """Fused tensors, shared vectors and config keys are written as they were read."""
    save_model(model, tmp_path)
    again, report = load_with_report(tmp_path)
    assert again.config == model.config
    assert report.unexpected == ()
    for (name, mine), (_, theirs) in zip(again.named_parameters(), model.named_parameters(), strict=True):
        assert torch.equal(mine, theirs), name
    before, after = (
        json.loads((folder / "config.json").read_text(encoding="utf-8")) for folder in (xl_folder, tmp_path)
    )
    for key in FAMILIES["transfo-xl"].config_keys:
        # Every clip below 1 means none.
        assert after[key] == before[key] or (key == "clamp_len" and before[key] <= 0 and after[key] == -1)
    stored = load_file(tmp_path / "model.safetensors")
    theirs = load_file(xl_folder / "model.safetensors")
    assert all(torch.equal(stored[name], theirs[name]) for name in stored)
    assert {name for name in theirs if "dec_attn" in name} == {name for name in stored if "dec_attn" in name}


SHAPES = {
    "untied": {"cutoffs": (20, 40, 60), "cutoff_divisor": 2, "memory": 8, "relative_clip": 5},
    "shared": {"cutoffs": (20, 60), "cutoff_divisor": 1, "memory": 8, "relative_shared": True},
    "plain": {"cutoffs": (), "cutoff_divisor": 1, "memory": 12, "norm_first": True, "relative_clip": 0},
}


def test_transformers_loads_what_is_saved(reference, tmp_path, near):
    for name, shape in SHAPES.items():
        values = {
            "layers": 2,
            "heads": 4,
            "width": 32,
            "inner_width": 40,
            "same_length": name == "untied",
            **shape,
        }
        heads = HeadsConfig(pooler=False, mlm=True)
        model = build(None, family="transfo-xl", values=values, vocab=90, heads=heads, seed=0).eval()
        torch.manual_seed(1)
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(torch.randn_like(parameter) * 0.1)
            ids = torch.randint(90, (3, 20))
            first = model(ids[:, :12])
            second = model(ids[:, 12:], mems=first.mems)
        save_model(model, tmp_path / f"transfo-xl-{name}")
        logits = torch.cat([first.logits, second.logits], dim=1)
        last = torch.cat([first.last_hidden_state, second.last_hidden_state], dim=1)
        found = {"input_ids": ids, "first": torch.tensor(12), "logits": logits, "last": last}
        save_file(found, tmp_path / f"transfo-xl-{name}" / "values.safetensors")
    run = subprocess.run(
        [reference, HERE / "check_saved.py", tmp_path], capture_output=True, text=True, check=False
    )
    if run.returncode:
        pytest.fail(run.stderr[-3000:])
    report = json.loads(run.stdout.splitlines()[-1])
    if not report["has_transfo_xl"]:
        pytest.skip(f"transformers {report['version']} has no Transformer-XL")
    assert set(report["differences"]) == {f"transfo-xl-{name}" for name in SHAPES}
    for folder, worst in report["differences"].items():
        for what, value in worst.items():
            group = f"saved, transformers {report['version']}"
            near(group, f"{folder} {what}", torch.tensor(value), torch.tensor(0.0), within=WITHIN)
