"""Export of the decoding step to ONNX, for runtimes without torch.

One step of one path is two graphs, because the fine token is drawn after the coarse one: `step.onnx` reads bars and
extends the caches, `fine.onnx` gives the logits of the fine token. The tokenizer, the draws and the loop stay outside;
`benchmarks/kronos_onnx.py` has a complete loop, and docs/reference/kronos.md its speed. Needs the extra `onnx`.
"""

from __future__ import annotations

from pathlib import Path
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from kronos.layers import DependencyAwareLayer, TransformerBlock
from kronos.model import Kronos

OPSET = 20
STEP, FINE = "step.onnx", "fine.onnx"


class StepGraph(nn.Module):
    """New bars of some rows after `past` cached ones: `s1`, `s2` (rows, new), `stamps` (rows, new, 5).

    `keys`, `values` (layers, rows, heads, past, dim) and `cross_keys`, `cross_values` (rows, 4, past, d / 4) are empty
    (past = 0) at first. Returns the coarse logits (rows, 2**s1_bits) and the hidden state (rows, d) of the last bar,
    and the four caches with the new bars.
    """

    def __init__(self, model: Kronos) -> None:
        super().__init__()
        self.model = model

    def forward(
        self,
        s1: Tensor,
        s2: Tensor,
        stamps: Tensor,
        keys: Tensor,
        values: Tensor,
        cross_keys: Tensor,
        cross_values: Tensor,
    ) -> tuple[Tensor, ...]:
        model, past, new = self.model, keys.shape[3], s1.shape[1]
        places = torch.arange(past + new)
        visible = places[None, :] <= places[past:, None]
        blocks = [cast(TransformerBlock, block) for block in model.transformer]
        angle = places[past:, None].float() * blocks[0].self_attn.rotary.inv_freq
        rotation = torch.cat((angle, angle), dim=-1)
        x = model.embedding(s1, s2) + model.time_emb(stamps)
        grown = []
        for depth, block in enumerate(blocks):
            x, *pair = _block(block, x, rotation, visible, keys[depth], values[depth])
            grown.append(pair)
        hidden = model.norm(x)
        cross = model.dep_layer.cross_attn
        fresh = (
            _heads(projection(hidden), DependencyAwareLayer.N_HEADS) for projection in (cross.k_proj, cross.v_proj)
        )
        new_cross = [torch.cat(pair, dim=2) for pair in zip((cross_keys, cross_values), fresh, strict=True)]
        last = hidden[:, -1]
        new_keys, new_values = (torch.stack(caches) for caches in zip(*grown, strict=True))
        return model.head.proj_s1(last), last, new_keys, new_values, *new_cross


class FineGraph(nn.Module):
    """Fine logits (rows, 2**s2_bits) of the coarse tokens `s1` (rows,), after the states `hidden` (rows, d)."""

    def __init__(self, model: Kronos) -> None:
        super().__init__()
        self.model = model

    def forward(self, hidden: Tensor, s1: Tensor, cross_keys: Tensor, cross_values: Tensor) -> Tensor:
        layer, cross = self.model.dep_layer, self.model.dep_layer.cross_attn
        query = _heads(cross.q_proj(self.model.embedding.emb_s1(s1[:, None])), DependencyAwareLayer.N_HEADS)
        attended = F.scaled_dot_product_attention(query, cross_keys, cross_values)
        out = cross.out_proj(attended.transpose(1, 2).flatten(2))[:, 0]
        logits: Tensor = self.model.head.proj_s2(layer.norm(hidden + out))
        return logits


def export_onnx(model: Kronos, folder: str | Path) -> Path:
    """Write `step.onnx` and `fine.onnx` to a folder, in float32, and return it. The numbers of rows and bars are free.

    Raises ImportError without the extra `onnx`.
    """
    import onnxscript  # noqa: F401  # torch's exporter imports it late, with an error that names no remedy

    target = Path(folder)
    target.mkdir(parents=True, exist_ok=True)
    config = model.config
    rows, past, new = 2, 3, 4
    heads, width = config.n_heads, config.d_model
    # A tensor for each input: the exporter takes inputs that are one tensor for one input.
    s1, s2 = (torch.ones(rows, new, dtype=torch.long) for _ in range(2))
    stamps = torch.ones(rows, new, 5, dtype=torch.long)
    caches = [torch.zeros(config.n_layers, rows, heads, past, width // heads) for _ in range(2)]
    cross_heads = DependencyAwareLayer.N_HEADS
    cross = [torch.zeros(rows, cross_heads, past, width // cross_heads) for _ in range(2)]
    dims = {name: torch.export.Dim(name) for name in ("rows", "past", "new")}
    row, before, after = dims["rows"], dims["past"], dims["new"]
    _export(
        StepGraph(model),
        (s1, s2, stamps, *caches, *cross),
        target / STEP,
        {
            **{name: {0: row, 1: after} for name in ("s1", "s2", "stamps")},
            **{name: {1: row, 3: before} for name in ("keys", "values")},
            **{name: {0: row, 2: before} for name in ("cross_keys", "cross_values")},
        },
        ["s1_logits", "last_hidden", "new_keys", "new_values", "new_cross_keys", "new_cross_values"],
    )
    _export(
        FineGraph(model),
        (torch.zeros(rows, width), s1[:, 0].clone(), *cross),
        target / FINE,
        {"hidden": {0: row}, "s1": {0: row}, **{name: {0: row, 2: before} for name in ("cross_keys", "cross_values")}},
        ["s2_logits"],
    )
    return target


def _export(
    graph: nn.Module,
    arguments: tuple[Tensor, ...],
    file: Path,
    dynamic: dict[str, dict[int, torch.export.Dim]],
    outputs: list[str],
) -> None:
    torch.onnx.export(
        graph.eval(),
        arguments,
        file,
        input_names=list(dynamic),
        output_names=outputs,
        dynamic_shapes=dynamic,
        opset_version=OPSET,
        dynamo=True,
        external_data=False,
        verbose=False,
    )


def _block(
    block: TransformerBlock, x: Tensor, rotation: Tensor, visible: Tensor, keys: Tensor, values: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """One transformer block on new bars x (rows, new, d): its output, and its keys and values with the new ones."""
    attention, normed = block.self_attn, block.norm1(x)
    q, k, v = (_heads(p(normed), attention.n_heads) for p in (attention.q_proj, attention.k_proj, attention.v_proj))
    q, k = (_rotate(part, rotation) for part in (q, k))
    keys, values = torch.cat((keys, k), dim=2), torch.cat((values, v), dim=2)
    attended = F.scaled_dot_product_attention(q, keys, values, attn_mask=visible)
    x = x + attention.out_proj(attended.transpose(1, 2).flatten(2))
    return x + block.ffn(block.norm2(x)), keys, values


def _heads(x: Tensor, heads: int) -> Tensor:
    """(rows, new, d) → (rows, heads, new, d / heads)."""
    split: Tensor = x.unflatten(-1, (heads, -1))
    return split.transpose(1, 2)


def _rotate(x: Tensor, angle: Tensor) -> Tensor:
    low, high = x.chunk(2, dim=-1)
    return x * angle.cos() + torch.cat((-high, low), dim=-1) * angle.sin()
