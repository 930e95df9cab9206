"""Tensor names and shapes as each project's own code spells them, by hand: the rules under test have no part in it.

`Parts` are a model's tensors in torch's layout, (out, in); each function spells them as one kind of file does.
Sources: transformers 4.57.6, fairseq 0.12, XLM, google-research/bert and albert, albert_zh, NEZHA, TinyBERT,
PaddleNLP and PaddlePaddle/ERNIE.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from pathlib import Path

import torch
from safetensors.torch import load_file

GOLDEN = Path(__file__).parents[1] / "parity" / "golden"
PAIRS = ("query", "key", "value", "out", "norm1", "inner", "outer", "norm2")


@dataclass(kw_only=True)
class Parts:
    """A model's tensors; pairs are (weight, bias). What the model lacks is None or absent."""

    words: torch.Tensor
    positions: torch.Tensor | None = None
    segments: torch.Tensor | None = None
    tasks: torch.Tensor | None = None
    languages: torch.Tensor | None = None
    norm: tuple
    project: tuple | None = None
    layers: list = field(default_factory=list)
    heads: dict = field(default_factory=dict)
    """pooler, mlm, mlm_norm, pair, classifier: pairs; mlm_bias: a tensor."""


def draw(
    *,
    vocab=23,
    width=8,
    inner=12,
    layers=2,
    embed=0,
    positions=16,
    segments=2,
    tasks=0,
    languages=0,
    heads=("pooler", "mlm", "pair"),
    classes=3,
    mlm_width=None,
    norm_width=None,
    device="cpu",
):
    """Random parts; with `device="meta"`, shapes alone, of any size."""
    generator = torch.Generator().manual_seed(11) if device == "cpu" else None

    def some(*shape):
        if device == "meta":
            return torch.empty(shape, device="meta")
        return torch.randn(shape, generator=generator) * 0.3

    def dense(size_in, size_out):
        return some(size_out, size_in), some(size_out)

    def norm(size):
        return some(size), some(size)

    def layer():
        shapes = dict.fromkeys(("query", "key", "value", "out"), (width, width))
        shapes |= {"inner": (width, inner), "outer": (inner, width)}
        made = {name: dense(*shape) for name, shape in shapes.items()}
        return made | {"norm1": norm(width), "norm2": norm(width)}

    narrow = embed or width
    table = norm_width or narrow
    made = {}
    if "pooler" in heads:
        made["pooler"] = dense(width, width)
    if "mlm" in heads:
        size = mlm_width or narrow
        made |= {"mlm": dense(width, size), "mlm_norm": norm(size), "mlm_bias": some(vocab)}
    if "pair" in heads:
        made["pair"] = dense(width, 2)
    if "classifier" in heads:
        made["classifier"] = dense(width, classes)
    return Parts(
        words=some(vocab, narrow),
        positions=some(positions, table) if positions else None,
        segments=some(segments, table) if segments else None,
        tasks=some(tasks, table) if tasks else None,
        languages=some(languages, table) if languages else None,
        norm=norm(table),
        project=dense(narrow, width) if embed else None,
        layers=[layer() for _ in range(layers)],
        heads=made,
    )


def plain(pairs, weight, bias):
    """{name: (weight, bias)} → tensors."""
    out = {}
    for name, pair in pairs.items():
        out |= {name + weight: pair[0], name + bias: pair[1]}
    return out


# Hugging Face and everything written by torch


def torch_bert(parts, prefix="bert."):
    """BertForPreTraining and its kin: BERT, NEZHA, ERNIE, UniLM, TinyBERT."""
    out = {f"{prefix}embeddings.word_embeddings.weight": parts.words}
    for name, table in (
        ("position", parts.positions),
        ("token_type", parts.segments),
        ("task_type", parts.tasks),
    ):
        if table is not None:
            out[f"{prefix}embeddings.{name}_embeddings.weight"] = table
    pairs = {f"{prefix}embeddings.LayerNorm": parts.norm}
    for number, layer in enumerate(parts.layers):
        scope = f"{prefix}encoder.layer.{number}"
        pairs |= {
            f"{scope}.attention.self.query": layer["query"],
            f"{scope}.attention.self.key": layer["key"],
            f"{scope}.attention.self.value": layer["value"],
            f"{scope}.attention.output.dense": layer["out"],
            f"{scope}.attention.output.LayerNorm": layer["norm1"],
            f"{scope}.intermediate.dense": layer["inner"],
            f"{scope}.output.dense": layer["outer"],
            f"{scope}.output.LayerNorm": layer["norm2"],
        }
    heads = parts.heads
    if "pooler" in heads:
        pairs[f"{prefix}pooler.dense"] = heads["pooler"]
    if "mlm" in heads:
        pairs["cls.predictions.transform.dense"] = heads["mlm"]
        pairs["cls.predictions.transform.LayerNorm"] = heads["mlm_norm"]
        out["cls.predictions.bias"] = heads["mlm_bias"]
        out["cls.predictions.decoder.weight"] = parts.words.clone()
    if "pair" in heads:
        pairs["cls.seq_relationship"] = heads["pair"]
    if "classifier" in heads:
        pairs["classifier"] = heads["classifier"]
    return out | plain(pairs, ".weight", ".bias")


def gamma_beta(arrays):
    """As torch's BERT spelled its norms until 2019."""
    old = {}
    for name, array in arrays.items():
        name = name.replace("LayerNorm.weight", "LayerNorm.gamma")
        old[name.replace("LayerNorm.bias", "LayerNorm.beta")] = array
    return old


def torch_roberta(parts):
    """RobertaForMaskedLM, or RobertaForSequenceClassification where there is a classifier."""
    headless = torch_bert(
        Parts(
            words=parts.words,
            positions=parts.positions,
            segments=parts.segments,
            norm=parts.norm,
            layers=parts.layers,
        ),
        "roberta.",
    )
    heads = parts.heads
    if "classifier" in heads:
        return headless | plain(
            {"classifier.dense": heads["pooler"], "classifier.out_proj": heads["classifier"]},
            ".weight",
            ".bias",
        )
    pairs = {"lm_head.dense": heads["mlm"], "lm_head.layer_norm": heads["mlm_norm"]}
    tied = {"lm_head.decoder.weight": parts.words.clone(), "lm_head.decoder.bias": heads["mlm_bias"].clone()}
    return headless | plain(pairs, ".weight", ".bias") | {"lm_head.bias": heads["mlm_bias"], **tied}


def torch_albert(parts):
    """AlbertForPreTraining; a layer of parts is a group."""
    out = {
        "albert.embeddings.word_embeddings.weight": parts.words,
        "albert.embeddings.position_embeddings.weight": parts.positions,
        "albert.embeddings.token_type_embeddings.weight": parts.segments,
    }
    pairs = {
        "albert.embeddings.LayerNorm": parts.norm,
        "albert.encoder.embedding_hidden_mapping_in": parts.project,
    }
    for number, layer in enumerate(parts.layers):
        scope = f"albert.encoder.albert_layer_groups.{number}.albert_layers.0"
        pairs |= {
            f"{scope}.attention.query": layer["query"],
            f"{scope}.attention.key": layer["key"],
            f"{scope}.attention.value": layer["value"],
            f"{scope}.attention.dense": layer["out"],
            f"{scope}.attention.LayerNorm": layer["norm1"],
            f"{scope}.ffn": layer["inner"],
            f"{scope}.ffn_output": layer["outer"],
            f"{scope}.full_layer_layer_norm": layer["norm2"],
        }
    heads = parts.heads
    pairs |= {
        "albert.pooler": heads["pooler"],
        "predictions.dense": heads["mlm"],
        "predictions.LayerNorm": heads["mlm_norm"],
        "sop_classifier.classifier": heads["pair"],
    }
    out |= {"predictions.bias": heads["mlm_bias"], "predictions.decoder.weight": parts.words.clone()}
    out["predictions.decoder.bias"] = heads["mlm_bias"].clone()
    return out | plain(pairs, ".weight", ".bias")


def torch_xlm(parts, prefix=""):
    """XLM's own .pth; transformers puts `transformer.` before all but the head."""
    out = {f"{prefix}embeddings.weight": parts.words, f"{prefix}position_embeddings.weight": parts.positions}
    if parts.languages is not None:
        out[f"{prefix}lang_embeddings.weight"] = parts.languages
    pairs = {f"{prefix}layer_norm_emb": parts.norm}
    for number, layer in enumerate(parts.layers):
        pairs |= {
            f"{prefix}attentions.{number}.q_lin": layer["query"],
            f"{prefix}attentions.{number}.k_lin": layer["key"],
            f"{prefix}attentions.{number}.v_lin": layer["value"],
            f"{prefix}attentions.{number}.out_lin": layer["out"],
            f"{prefix}layer_norm1.{number}": layer["norm1"],
            f"{prefix}ffns.{number}.lin1": layer["inner"],
            f"{prefix}ffns.{number}.lin2": layer["outer"],
            f"{prefix}layer_norm2.{number}": layer["norm2"],
        }
    out |= {"pred_layer.proj.weight": parts.words.clone(), "pred_layer.proj.bias": parts.heads["mlm_bias"]}
    return out | plain(pairs, ".weight", ".bias")


def fairseq(parts, *, top="encoder.", old_norm=False, fused=False):
    """RoBERTa's model.pt: by version, `decoder.` for the top, `emb_layer_norm`, and queries, keys, values in one."""
    scope = f"{top}sentence_encoder"
    out = {f"{scope}.embed_tokens.weight": parts.words, f"{scope}.embed_positions.weight": parts.positions}
    pairs = {f"{scope}.{'emb_layer_norm' if old_norm else 'layernorm_embedding'}": parts.norm}
    for number, layer in enumerate(parts.layers):
        inside = f"{scope}.layers.{number}"
        pairs |= {
            f"{inside}.self_attn.out_proj": layer["out"],
            f"{inside}.self_attn_layer_norm": layer["norm1"],
            f"{inside}.fc1": layer["inner"],
            f"{inside}.fc2": layer["outer"],
            f"{inside}.final_layer_norm": layer["norm2"],
        }
        three = [layer[name] for name in ("query", "key", "value")]
        if fused:
            out[f"{inside}.self_attn.in_proj_weight"] = torch.cat([pair[0] for pair in three])
            out[f"{inside}.self_attn.in_proj_bias"] = torch.cat([pair[1] for pair in three])
        else:
            pairs |= {
                f"{inside}.self_attn.{name}_proj": pair for name, pair in zip("qkv", three, strict=True)
            }
    pairs |= {f"{top}lm_head.dense": parts.heads["mlm"], f"{top}lm_head.layer_norm": parts.heads["mlm_norm"]}
    out |= {f"{top}lm_head.weight": parts.words.clone(), f"{top}lm_head.bias": parts.heads["mlm_bias"]}
    return out | plain(pairs, ".weight", ".bias")


# TensorFlow 1: kernels are (in, out), and names have slashes


def kernels(pairs):
    out = {}
    for name, (weight, bias) in pairs.items():
        out |= {f"{name}/kernel": weight.T, f"{name}/bias": bias}
    return out


def norms(pairs):
    return plain(pairs, "/gamma", "/beta")


def tensorflow_heads(parts):
    heads, dense, norm, out = parts.heads, {}, {}, {}
    if "pooler" in heads:
        dense["bert/pooler/dense"] = heads["pooler"]
    if "mlm" in heads:
        dense["cls/predictions/transform/dense"] = heads["mlm"]
        norm["cls/predictions/transform/LayerNorm"] = heads["mlm_norm"]
        out["cls/predictions/output_bias"] = heads["mlm_bias"]
    if "pair" in heads:
        out["cls/seq_relationship/output_weights"], out["cls/seq_relationship/output_bias"] = heads["pair"]
    if "classifier" in heads:
        out["output_weights"], out["output_bias"] = heads["classifier"]
    return out | kernels(dense) | norms(norm)


def tensorflow_tables(parts):
    tables = {
        "word": parts.words,
        "position": parts.positions,
        "token_type": parts.segments,
    }
    out = {f"bert/embeddings/{name}_embeddings": table for name, table in tables.items() if table is not None}
    return out | norms({"bert/embeddings/LayerNorm": parts.norm})


def tensorflow_layer(layer, attention, inner, outer):
    return kernels(
        {
            f"{attention}/self/query": layer["query"],
            f"{attention}/self/key": layer["key"],
            f"{attention}/self/value": layer["value"],
            f"{attention}/output/dense": layer["out"],
            f"{inner}/dense": layer["inner"],
            f"{outer}/dense": layer["outer"],
        }
    ) | norms({f"{attention}/output/LayerNorm": layer["norm1"], f"{outer}/LayerNorm": layer["norm2"]})


def tensorflow_bert(parts):
    """BERT's and NEZHA's checkpoints."""
    out = tensorflow_tables(parts) | tensorflow_heads(parts)
    for number, layer in enumerate(parts.layers):
        scope = f"bert/encoder/layer_{number}"
        out |= tensorflow_layer(layer, f"{scope}/attention", f"{scope}/intermediate", f"{scope}/output")
    return out


def tensorflow_albert(parts):
    """Google's ALBERT; a layer of parts is a group."""
    out = tensorflow_tables(parts) | tensorflow_heads(parts)
    out |= kernels({"bert/encoder/embedding_hidden_mapping_in": parts.project})
    for number, layer in enumerate(parts.layers):
        scope = f"bert/encoder/transformer/group_{number}/inner_group_0"
        out |= kernels(
            {
                f"{scope}/attention_1/self/query": layer["query"],
                f"{scope}/attention_1/self/key": layer["key"],
                f"{scope}/attention_1/self/value": layer["value"],
                f"{scope}/attention_1/output/dense": layer["out"],
                f"{scope}/ffn_1/intermediate/dense": layer["inner"],
                f"{scope}/ffn_1/intermediate/output/dense": layer["outer"],
            }
        )
        out |= norms({f"{scope}/LayerNorm": layer["norm1"], f"{scope}/LayerNorm_1": layer["norm2"]})
    return out


def tensorflow_albert_zh(parts, sharing="all"):
    """albert_zh's, by what the layers share; a layer that shares has the first one's arrays."""
    out = tensorflow_tables(parts) | tensorflow_heads(parts)
    out["bert/embeddings/word_embeddings_2"] = parts.project[0].T  # a product, without a bias
    shared = "bert/encoder/layer_shared"
    for number, layer in enumerate(parts.layers):
        own = f"bert/encoder/layer_{number}"
        scopes = {
            "all": (f"{shared}/attention", f"{shared}/intermediate", f"{shared}/output"),
            "attention": (
                f"{shared}/attention",
                f"{shared}/intermediate_{number}",
                f"{shared}/output_{number}",
            ),
            "ffn": (f"{shared}/attention_{number}", f"{shared}/intermediate", f"{shared}/output"),
            "none": (f"{own}/attention", f"{own}/intermediate", f"{own}/output"),
        }[sharing]
        out = tensorflow_layer(layer, *scopes) | out
    return out


def with_slots(arrays, optimizer="adam"):
    """What a Saver keeps besides: two slots a weight, and the step."""
    slots = {f"{name}/{optimizer}_{slot}": array + 1 for name, array in arrays.items() for slot in "mv"}
    return arrays | slots | {"global_step": torch.tensor(1000)}


# Paddle: linear weights are (in, out)


def paddlenlp(parts, prefix):
    """PaddleNLP's ErnieForPretraining and its kin."""
    out = {f"{prefix}.embeddings.word_embeddings.weight": parts.words}
    for name, table in (
        ("position", parts.positions),
        ("token_type", parts.segments),
        ("task_type", parts.tasks),
    ):
        if table is not None:
            out[f"{prefix}.embeddings.{name}_embeddings.weight"] = table
    dense, pairs = {}, {f"{prefix}.embeddings.layer_norm": parts.norm}
    for number, layer in enumerate(parts.layers):
        scope = f"{prefix}.encoder.layers.{number}"
        dense |= {
            f"{scope}.self_attn.q_proj": layer["query"],
            f"{scope}.self_attn.k_proj": layer["key"],
            f"{scope}.self_attn.v_proj": layer["value"],
            f"{scope}.self_attn.out_proj": layer["out"],
            f"{scope}.linear1": layer["inner"],
            f"{scope}.linear2": layer["outer"],
        }
        pairs |= {f"{scope}.norm1": layer["norm1"], f"{scope}.norm2": layer["norm2"]}
    heads = parts.heads
    if "pooler" in heads:
        dense[f"{prefix}.pooler.dense"] = heads["pooler"]
    if "mlm" in heads and prefix == "roberta":
        dense["lm_head.dense"] = heads["mlm"]
        pairs["lm_head.layer_norm"] = heads["mlm_norm"]
        dense["lm_head.decoder"] = parts.words.clone(), heads["mlm_bias"]
    elif "mlm" in heads:
        dense["cls.predictions.transform"] = heads["mlm"]
        pairs["cls.predictions.layer_norm"] = heads["mlm_norm"]
        out["cls.predictions.decoder_bias"] = heads["mlm_bias"]
        out["cls.predictions.decoder_weight"] = parts.words.clone()
    if "pair" in heads:
        dense["cls.seq_relationship"] = heads["pair"]
    if "classifier" in heads:
        dense["classifier"] = heads["classifier"]
    for name, (weight, bias) in dense.items():
        out |= {f"{name}.weight": weight.T, f"{name}.bias": bias}
    return out | plain(pairs, ".weight", ".bias")


def persistables(parts):
    """The variables of Baidu's ERNIE 1.0 and 2.0, a file each."""
    out = {
        "word_embedding": parts.words,
        "pos_embedding": parts.positions,
        "sent_embedding": parts.segments,
    }
    if parts.tasks is not None:
        out["task_embedding"] = parts.tasks
    dense, pairs = {}, {"pre_encoder_layer_norm": parts.norm}
    for number, layer in enumerate(parts.layers):
        scope = f"encoder_layer_{number}"
        dense |= {
            f"{scope}_multi_head_att_query_fc": layer["query"],
            f"{scope}_multi_head_att_key_fc": layer["key"],
            f"{scope}_multi_head_att_value_fc": layer["value"],
            f"{scope}_multi_head_att_output_fc": layer["out"],
        }
        for name, one in ((f"{scope}_ffn_fc_0", layer["inner"]), (f"{scope}_ffn_fc_1", layer["outer"])):
            dense[name] = one
        pairs |= {
            f"{scope}_post_att_layer_norm": layer["norm1"],
            f"{scope}_post_ffn_layer_norm": layer["norm2"],
        }
    heads = parts.heads
    if "pooler" in heads:
        dense["pooled_fc"] = heads["pooler"]
    if "mlm" in heads:
        dense["mask_lm_trans_fc"] = heads["mlm"]
        pairs["mask_lm_trans_layer_norm"] = heads["mlm_norm"]
        out["mask_lm_out_fc.b_0"] = heads["mlm_bias"]
    if "pair" in heads:
        dense["next_sent_fc"] = heads["pair"]
    for name, (weight, bias) in dense.items():
        out |= {f"{name}.w_0": weight.T, f"{name}.b_0": bias}
    return out | plain(pairs, "_scale", "_bias")


def write_persistables(folder, arrays):
    """A file a variable, as fluid.io.save_persistables writes float32: version, no levels, version, description."""
    folder.mkdir(parents=True)
    for name, array in arrays.items():
        told = b"\x08\x05" + b"".join(b"\x10" + varint(extent) for extent in array.shape)
        head = struct.pack("<IQIi", 0, 0, 0, len(told))
        (folder / name).write_bytes(head + told + array.contiguous().numpy().tobytes())


def varint(value):
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    return bytes([*out, value])


# What transformers wrote, taken apart


def golden(name):
    """The parts of a committed folder of transformers, and its values by case."""
    t = load_file(GOLDEN / name / "model.safetensors")
    cases: dict = {}
    for key, value in load_file(GOLDEN / name / "values.safetensors").items():
        case, _, key = key.partition("/")
        cases.setdefault(case, {})[key] = value if value.is_floating_point() else value.long()

    def pair(scope):
        return t[f"{scope}.weight"], t[f"{scope}.bias"]

    if name == "xlm":
        names = ("attentions.{}.q_lin", "attentions.{}.k_lin", "attentions.{}.v_lin", "attentions.{}.out_lin")
        names += ("layer_norm1.{}", "ffns.{}.lin1", "ffns.{}.lin2", "layer_norm2.{}")
        layers = [
            {one: pair(f"transformer.{scope.format(n)}") for one, scope in zip(PAIRS, names, strict=True)}
            for n in range(3)
        ]
        parts = Parts(
            words=t["transformer.embeddings.weight"],
            positions=t["transformer.position_embeddings.weight"],
            languages=t["transformer.lang_embeddings.weight"],
            norm=pair("transformer.layer_norm_emb"),
            layers=layers,
            heads={"mlm_bias": t["pred_layer.proj.bias"]},
        )
        return parts, cases
    prefix = {"unilm": "bert", "nezha-64": "nezha", "albert-groups": "albert"}.get(name, name)
    tables = f"{prefix}.embeddings"
    common = {
        "words": t[f"{tables}.word_embeddings.weight"],
        "positions": t.get(f"{tables}.position_embeddings.weight"),
        "segments": t[f"{tables}.token_type_embeddings.weight"],
        "tasks": t.get(f"{tables}.task_type_embeddings.weight"),
        "norm": pair(f"{tables}.LayerNorm"),
    }
    if prefix == "albert":
        names = ("attention.query", "attention.key", "attention.value", "attention.dense")
        names += ("attention.LayerNorm", "ffn", "ffn_output", "full_layer_layer_norm")
        scope = "albert.encoder.albert_layer_groups.{}.albert_layers.0"
        layers = [
            {one: pair(f"{scope.format(n)}.{end}") for one, end in zip(PAIRS, names, strict=True)}
            for n in range(2 if name == "albert-groups" else 1)
        ]
        heads = {"pooler": pair("albert.pooler"), "mlm": pair("predictions.dense")}
        heads |= {"mlm_norm": pair("predictions.LayerNorm"), "mlm_bias": t["predictions.bias"]}
        heads |= {"pair": pair("sop_classifier.classifier")}
        project = pair("albert.encoder.embedding_hidden_mapping_in")
        return Parts(**common, project=project, layers=layers, heads=heads), cases
    names = ("attention.self.query", "attention.self.key", "attention.self.value", "attention.output.dense")
    names += ("attention.output.LayerNorm", "intermediate.dense", "output.dense", "output.LayerNorm")
    layers = [
        {one: pair(f"{prefix}.encoder.layer.{n}.{end}") for one, end in zip(PAIRS, names, strict=True)}
        for n in range(3)
    ]
    if prefix == "roberta":
        heads = {"mlm": pair("lm_head.dense"), "mlm_norm": pair("lm_head.layer_norm")}
        heads["mlm_bias"] = t["lm_head.bias"]
    else:
        heads = {"pooler": pair(f"{prefix}.pooler.dense"), "mlm": pair("cls.predictions.transform.dense")}
        heads |= {
            "mlm_norm": pair("cls.predictions.transform.LayerNorm"),
            "mlm_bias": t["cls.predictions.bias"],
        }
        heads |= {"pair": pair("cls.seq_relationship")}
    return Parts(**common, layers=layers, heads=heads), cases
