"""Run folders as the stages leave them, made without training anything."""

import json
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from fenghuo.rundir import sha256_of


def stands_for(path: Path) -> Path:
    """What a stage writes down of an input: of a model its weights."""
    weights = path / "model" / "model.safetensors"
    return weights if weights.exists() else path


@dataclass
class Runs:
    """Writes small run folders below `folder`."""

    folder: Path
    machine: dict = field(default_factory=lambda: {"processor": "A processor", "cores": 2, "threads": 2})

    def data(self, name="test.tsv", rows=40) -> Path:
        path = self.folder / name
        path.write_text(
            "label\ttext\n"
            + "".join(f"positive\t酒店很好，第{row}次来{'了' * row}\n" for row in range(rows)),
            encoding="utf-8",
        )
        return path

    def make(
        self,
        name,
        *,
        result,
        inputs=(),
        metrics=(),
        recipe="seed: 1\n",
        model=True,
        layers=4,
        width=64,
        files=("model.safetensors",),
        size=1000,
    ) -> Path:
        run = self.folder / name
        (run / "model" / "onnx").mkdir(parents=True)
        if model:
            config = {"model_type": "nezha", "num_hidden_layers": layers, "hidden_size": width}
            (run / "model" / "config.json").write_text(json.dumps(config))
            for file in files:
                (run / "model" / file).write_bytes(name.encode().ljust(size, b"\0"))
        (run / "recipe.yaml").write_text(recipe, encoding="utf-8")
        (run / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in metrics))
        listed = [
            {"role": role, "path": str(path), "sha256": sha256_of(path) if path.exists() else None}
            for role, path in ((role, stands_for(Path(given))) for role, given in inputs)
        ]
        environment = {
            "verb": name,
            "seed": 1,
            "versions": {"python": "3.11.7", "torch": "2.13.0"},
            "hardware": self.machine,
            "inputs": listed,
        }
        (run / "environment.json").write_text(json.dumps(environment))
        (run / "result.json").write_text(json.dumps(result))
        return run

    def answering(self, name, *, role, value, data, inputs=(), **more) -> Path:
        """A run whose model answers and was evaluated on `data`."""
        result = {
            "role": role,
            "task": "classify",
            "metric": "accuracy",
            "value": value,
            "value_of": "test",
            "examples_file": str(data),
            "parameters": 1_234_567,
        }
        return self.make(name, result=result, inputs=[*inputs, ("data", data)], **more)

    def line(self) -> list[Path]:
        """pretrained → teacher → student → quantized, and a baseline beside them."""
        data = self.data()
        pretrained = self.make(
            "pretrained",
            result={
                "role": "pretrained",
                "task": "pretrain",
                "metric": "heldout_mlm_accuracy",
                "value": 0.41,
            },
        )
        teacher = self.answering(
            "teacher", role="finetuned", value=0.92, data=data, inputs=[("model", pretrained)], width=256
        )
        general = self.make(
            "general",
            result={"role": "pretrained", "task": "distill-general", "metric": "train_loss", "value": 1.2},
            inputs=[("teacher", pretrained)],
        )
        student = self.answering(
            "student",
            role="student",
            value=0.91,
            data=data,
            inputs=[("teacher", teacher), ("student", general)],
        )
        quantized = self.answering(
            "quantized",
            role="quantized",
            value=0.9075,
            data=data,
            inputs=[("model", student)],
            files=("model.safetensors", "onnx/model.onnx", "onnx/model_quantized.onnx"),
            size=300,
        )
        baseline = self.answering("baseline", role="finetuned", value=0.88, data=data)
        return [pretrained, teacher, general, student, quantized, baseline]


@pytest.fixture
def runs(tmp_path):
    return Runs(tmp_path)
