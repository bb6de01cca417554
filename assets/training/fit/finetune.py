"""Which weights are trained: all, the last blocks and heads, or low-rank adapters (LoRA, peft), merged afterwards."""

from __future__ import annotations

from typing import Any, cast

from torch import nn

from resources.errors import CandlecastError
from resources.settings import FitSettings

LORA_TARGETS = ["q_proj", "k_proj", "v_proj", "out_proj", "w1", "w2", "w3"]
# Modules after the last block, which are trained together with it.
HEADS = ("norm", "dep_layer", "head", "quant_embed", "post_quant_embed", "post_quant_embed_pre")


def adapt(model: nn.Module, settings: FitSettings, seed: int) -> nn.Module:
    """The module to train: the model itself with parameters frozen as `settings.adapt` asks, or wrapped for LoRA.

    Raises:
        CandlecastError: `last_layers` is larger than the number of blocks.
    """
    if settings.adapt == "lora":
        return _with_lora(model, settings, seed)
    if settings.adapt == "last_layers":
        _freeze_all_but_last(model, settings.last_layers)
    return model


def merge_adapters(model: nn.Module) -> nn.Module:
    """The plain module: adapters added to the weights, all parameters trainable again."""
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


def _freeze_all_but_last(model: nn.Module, layers: int) -> None:
    stacks = [stack for name in ("transformer", "encoder", "decoder") if (stack := getattr(model, name, None))]
    shortest = min(len(stack) for stack in stacks)
    if layers > shortest:
        raise CandlecastError(f"last_layers = {layers}, but the base has {shortest} blocks: choose at most {shortest}")
    model.requires_grad_(False)
    for part in [*(block for stack in stacks for block in list(stack)[-layers:]), *_heads(model)]:
        part.requires_grad_(True)


def _heads(model: nn.Module) -> list[nn.Module]:
    return [part for name in HEADS if isinstance(part := getattr(model, name, None), nn.Module)]
