"""The exported decoding step draws what the engine draws, for any number of rows and bars."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from kronos import Kronos
from kronos.export import FINE, STEP, export_onnx
from kronos.layers import DependencyAwareLayer
from tests.kronos.kronos_pairs import TINY, random_stamps


@pytest.mark.slow
def test_the_exported_step_gives_the_logits_of_the_model(tiny_model: Kronos, tmp_path: Path) -> None:
    runtime = pytest.importorskip("onnxruntime")
    export_onnx(tiny_model, tmp_path)
    step, fine = (runtime.InferenceSession(str(tmp_path / name)) for name in (STEP, FINE))
    rows, length = 5, 11
    s1, s2 = torch.randint(0, 64, (2, rows, length))
    stamps = torch.from_numpy(random_stamps(rows, length))
    with torch.inference_mode():
        s1_logits, hidden = tiny_model.decode_s1(s1, s2, stamps)
    cross = DependencyAwareLayer.N_HEADS
    own = np.zeros((TINY.n_layers, rows, TINY.n_heads, 0, TINY.d_model // TINY.n_heads), np.float32)
    caches = [own, own, *[np.zeros((rows, cross, 0, TINY.d_model // cross), np.float32)] * 2]
    names = [one.name for one in step.get_inputs()]
    for first, last in ((0, 6), (6, 7), (7, 11)):
        new = [part[:, first:last].numpy() for part in (s1, s2, stamps)]
        logits, state, *caches = step.run(None, dict(zip(names, [*new, *caches], strict=True)))
        np.testing.assert_allclose(logits, s1_logits[:, last - 1], atol=1e-4)
        drawn = s1[:, first]
        inputs = {"hidden": state, "s1": drawn.numpy(), "cross_keys": caches[2], "cross_values": caches[3]}
        with torch.inference_mode():
            expected = tiny_model.decode_s2(hidden[:, :last], drawn[:, None])[:, -1]
        np.testing.assert_allclose(fine.run(None, inputs)[0], expected, atol=1e-4)
