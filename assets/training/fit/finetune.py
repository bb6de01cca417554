"""Which weights of a base may move: all, the last blocks and heads, or low-rank additions (peft) that are merged."""

from __future__ import annotations

from typing import Any, cast

from torch import nn

from resources.errors import CandlecastError
from resources.settings import FitSettings

LORA_TARGETS = ["q_proj", "k_proj", "v_proj", "out_proj", "w1", "w2", "w3"]
# What stands after the last block, and always moves with it.
TAILS = ("norm", "dep_layer", "head", "quant_embed", "post_quant_embed", "post_quant_embed_pre")


def adapt(model: nn.Module, settings: FitSettings, seed: int) -> nn.Module:
    """The module to train. Freezes what must not move; with LoRA, wraps it.

    Raises:
        CandlecastError: more last layers than there are.
    """
    if settings.adapt == "lora":
        return _with_lora(model, settings, seed)
    if settings.adapt == "last_layers":
        _freeze_but_last(model, settings.last_layers)
    return model


def merged(model: nn.Module) -> nn.Module:
    """The plain module again, low-rank additions added to the weights, every weight movable."""
    merge = getattr(model, "merge_and_unload", None)
    plain = cast(nn.Module, merge()) if merge is not None else model
    plain.requires_grad_(True)
    return plain


def _with_lora(model: nn.Module, settings: FitSettings, seed: int) -> nn.Module:
    import torch
    from peft import LoraConfig, get_peft_model

    torch.manual_seed(seed)
    config = LoraConfig(r=settings.lora_rank, lora_alpha=2 * settings.lora_rank, target_modules=LORA_TARGETS)
    return cast(nn.Module, get_peft_model(cast(Any, model), config))


def _freeze_but_last(model: nn.Module, layers: int) -> None:
    stacks = [stack for name in ("transformer", "encoder", "decoder") if (stack := getattr(model, name, None))]
    shortest = min(len(stack) for stack in stacks)
    if layers > shortest:
        raise CandlecastError(f"last_layers = {layers}, but the base has {shortest} blocks: choose at most that")
    model.requires_grad_(False)
    for part in [*(block for stack in stacks for block in list(stack)[-layers:]), *(_tails(model))]:
        part.requires_grad_(True)


def _tails(model: nn.Module) -> list[nn.Module]:
    return [part for name in TAILS if isinstance(part := getattr(model, name, None), nn.Module)]
