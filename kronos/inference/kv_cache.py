"""Keys and values of one attention layer: a prefix a series, a suffix a path."""

from __future__ import annotations

from typing import Protocol

from torch import Tensor

from kronos.inference.attention import SHORT_SUFFIX, attention, merge, partial_attention, short_attention


class PrefixStore(Protocol):
    """What a prefill writes to."""

    def fill(self, first: int, k: Tensor, v: Tensor) -> None:
        """Store the prefix of series `first`…: k and v (series, prefix, heads, dim)."""


class LayerCache:
    """The cache of one layer for `series` series of one length with `paths` paths each.

    With several paths the prefix (series, heads, prefix, dim) is shared and each path appends to its own
    suffix (steps, series · paths, heads, dim). With one path there is nothing to share: the prefix tensor
    has room for the steps and simply grows.
    """

    def __init__(
        self, series: int, paths: int, prefix: int, steps: int, heads: int, head_dim: int, like: Tensor
    ) -> None:
        self.series, self.paths, self.prefix = series, paths, prefix
        room = prefix + (steps if paths == 1 else 0)
        self.keys, self.values = (like.new_empty(series, heads, room, head_dim) for _ in range(2))
        rows = series * paths
        self.path_keys, self.path_values = (
            like.new_empty(0 if paths == 1 else steps, rows, heads, head_dim) for _ in range(2)
        )
        self.length = 0
        """Steps that the paths have appended."""

    @staticmethod
    def bytes_needed(series: int, paths: int, prefix: int, steps: int, width: int, itemsize: int = 4) -> int:
        """Size of one layer's cache with `width` = heads · dim."""
        return 2 * series * (prefix + paths * steps) * width * itemsize

    def fill(self, first: int, k: Tensor, v: Tensor) -> None:
        """Store the prefix of series `first`…: k and v (series, prefix, heads, dim)."""
        last = first + k.shape[0]
        self.keys[first:last, :, : self.prefix] = k.transpose(1, 2)
        self.values[first:last, :, : self.prefix] = v.transpose(1, 2)

    def append(self, k: Tensor, v: Tensor) -> None:
        """Store one step of every path: k and v (series · paths, heads, dim)."""
        if self.paths == 1:
            self.keys[:, :, self.prefix + self.length] = k
            self.values[:, :, self.prefix + self.length] = v
        else:
            self.path_keys[self.length] = k
            self.path_values[self.length] = v
        self.length += 1

    def append_block(self, k: Tensor, v: Tensor) -> None:
        """Store several first steps of every path: k and v (series · paths, steps, heads, dim)."""
        steps = k.shape[1]
        self.path_keys[:steps] = k.transpose(0, 1)
        self.path_values[:steps] = v.transpose(0, 1)
        self.length = steps

    def attend(self, q: Tensor) -> Tensor:
        """One query a path, q (series · paths, heads, dim), over everything stored → same shape."""
        rows, heads, dim = q.shape
        if self.paths == 1:
            seen = self.prefix + self.length
            out = attention(q.unsqueeze(2), self.keys[:, :, :seen], self.values[:, :, :seen])
            return out.reshape(rows, heads, dim)
        shared, shared_lse = self._attend_prefix(q.view(self.series, self.paths, heads, dim))
        shared, shared_lse = shared.reshape(rows, heads, dim), shared_lse.reshape(rows, heads)
        if self.length == 0:
            return shared
        k, v = self.path_keys[: self.length], self.path_values[: self.length]
        if self.length <= SHORT_SUFFIX:
            own, own_lse = short_attention(q, k, v)
        else:
            own, own_lse = partial_attention(q.unsqueeze(2), k.permute(1, 2, 0, 3), v.permute(1, 2, 0, 3))
            own, own_lse = own.view(rows, heads, dim), own_lse.view(rows, heads)
        return merge(shared, shared_lse, own, own_lse)

    def attend_block(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Causal block of first steps, q, k, v (series · paths, steps, heads, dim), over prefix and itself."""
        rows, steps, heads, dim = q.shape
        folded = q.reshape(self.series, self.paths * steps, heads, dim)
        shared, shared_lse = self._attend_prefix(folded)
        own, own_lse = partial_attention(q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2), causal=True)
        return merge(
            shared.reshape(rows, steps, heads, dim),
            shared_lse.reshape(rows, steps, heads),
            own.transpose(1, 2),
            own_lse.transpose(1, 2),
        )

    def _attend_prefix(self, q: Tensor) -> tuple[Tensor, Tensor]:
        """q (series, queries, heads, dim) → output of that shape and log-sum-exp (series, queries, heads)."""
        keys, values = self.keys[:, :, : self.prefix], self.values[:, :, : self.prefix]
        out, lse = partial_attention(q.transpose(1, 2), keys, values)
        return out.transpose(1, 2), lse.transpose(1, 2)
