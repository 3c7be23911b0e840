"""The inner loop of `fused`, built as explicit 16-lane vector code through numba.

Four rows a turn. A tile is 16 channels held in one vector. The three projections and the norm of
a row are folded pairwise, so four rows share one vector of sums. LLVM splits the vectors on a
machine with narrower registers; the numbers stay the same.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from interlock.monitor._numba import njit

LANES = 16
ROWS = 4
RANK = 3
#: Samples to fetch ahead: 4 KiB. Twice as far is slower than none.
AHEAD = 1024
F32, I32, I64 = ir.FloatType(), ir.IntType(32), ir.IntType(64)
VEC = ir.VectorType(F32, LANES)


class _Emit:
    """A few vector operations over one builder."""

    def __init__(self, builder: Any) -> None:
        self.b = builder
        self.zero = ir.Constant(VEC, [ir.Constant(F32, 0.0)] * LANES)

    def at(self, base: Any, offset: Any) -> Any:
        index = offset if isinstance(offset, ir.Value) else ir.Constant(I64, offset)
        return self.b.bitcast(self.b.gep(base, [index]), VEC.as_pointer())

    def load(self, base: Any, offset: Any) -> Any:
        value = self.b.load(self.at(base, offset))
        value.align = 4
        return value

    def store(self, value: Any, base: Any, offset: int) -> None:
        self.b.store(value, self.at(base, offset)).align = 4

    def prefetch(self, base: Any, offset: Any) -> None:
        """Ask for the samples a few turns ahead: the arithmetic then does not wait for memory."""
        ahead = self.b.add(offset, ir.Constant(offset.type, AHEAD))
        pointer = self.b.gep(base, [ahead])
        pointer = self.b.bitcast(pointer, ir.IntType(8).as_pointer())
        kind = ir.FunctionType(ir.VoidType(), [ir.IntType(8).as_pointer(), I32, I32, I32])
        call = cgutils.get_or_insert_function(self.b.module, kind, "llvm.prefetch.p0i8")
        self.b.call(call, [pointer, *(ir.Constant(I32, k) for k in (0, 3, 1))])

    def maximum(self, x: Any, y: Any) -> Any:
        return self.b.select(self.b.fcmp_ordered(">", x, y), x, y)

    def minimum(self, x: Any, y: Any) -> Any:
        return self.b.select(self.b.fcmp_ordered("<", x, y), x, y)

    def fma(self, x: Any, y: Any, z: Any) -> Any:
        flags = ("contract",)
        return self.b.fadd(self.b.fmul(x, y, flags=flags), z, flags=flags)

    def shuffle(self, x: Any, y: Any, lanes: list[int]) -> Any:
        mask = ir.Constant(ir.VectorType(I32, LANES), [ir.Constant(I32, k) for k in lanes])
        return self.b.shuffle_vector(x, y, mask)

    def fold(self, x: Any, y: Any, group: int) -> Any:
        """Add neighbouring groups of lanes: x's sums land in even groups, y's in odd ones."""
        first, second = [], []
        for lane in range(LANES):
            block, rest = divmod(lane, 2 * group)
            source = (0 if rest < group else LANES) + block * 2 * group + rest % group
            first.append(source)
            second.append(source + group)
        return self.b.fadd(self.shuffle(x, y, first), self.shuffle(x, y, second))

    def swap_add(self, x: Any, distance: int) -> Any:
        return self.b.fadd(x, self.shuffle(x, x, [lane ^ distance for lane in range(LANES)]))


def _body(emit: _Emit, tiles: int, x: Any, base: Any, con: Any, cur: dict[Any, Any]) -> None:
    """Emit four rows: EWMA, two-sided CUSUM, their peaks, and the PCA residual."""
    b, width, rows = emit.b, tiles * LANES, []
    for u in range(ROWS):
        sums: list[Any] = [None] * (RANK + 1)
        for t in range(tiles):
            offset = b.add(base, ir.Constant(base.type, u * width + t * LANES))
            emit.prefetch(x, offset)
            w = b.fsub(emit.load(x, offset), con[0][t])
            e = cur["e", t] = emit.fma(con[2][t], b.fsub(w, cur["e", t]), cur["e", t])
            up = b.fadd(cur["up", t], b.fsub(w, con[3][t]))
            down = b.fsub(cur["down", t], b.fadd(w, con[3][t]))
            cur["up", t] = emit.maximum(up, emit.zero)
            cur["down", t] = emit.maximum(down, emit.zero)
            cur["e_max", t] = emit.maximum(e, cur["e_max", t])
            cur["e_min", t] = emit.minimum(e, cur["e_min", t])
            cur["up_max", t] = emit.maximum(cur["up", t], cur["up_max", t])
            cur["down_max", t] = emit.maximum(cur["down", t], cur["down_max", t])
            z = b.fmul(w, con[1][t])
            for j in range(RANK + 1):
                other = z if j == 0 else con[3 + j][t]
                sums[j] = b.fmul(z, other) if t == 0 else emit.fma(z, other, sums[j])
        rows.append(emit.fold(emit.fold(sums[0], sums[1], 8), emit.fold(sums[2], sums[3], 8), 4))
    packed = emit.fold(emit.fold(rows[0], rows[1], 2), emit.fold(rows[2], rows[3], 2), 1)
    minus_square = b.fsub(emit.zero, b.fmul(packed, packed))
    # The first four lanes are the four rows' norms, the others projections to take away squared.
    mixed = emit.shuffle(packed, minus_square, [k if k < 4 else LANES + k for k in range(LANES)])
    residual = emit.swap_add(emit.swap_add(mixed, 8), 4)
    cur["q"] = emit.maximum(residual, cur["q"])
    cur["q_sum"] = b.fadd(cur["q_sum"], residual)


def make_kernel(tiles: int) -> Any:
    """Return `run(x, constants, state, out, block)` for 16 * tiles channels, all float32.

    `constants` rows: centre, 1/sd, EWMA weight, CUSUM slack, three loadings. `state` rows: EWMA,
    CUSUM up, CUSUM down. `out[k]`: |EWMA| peak, up peak, down peak, 16 lanes of the residual's
    peak, 16 of its sum. Samples that are not finite poison a block's sum; the caller redoes it.
    """
    width = tiles * LANES

    @intrinsic  # type: ignore[untyped-decorator, unused-ignore]
    def block_step(_ctx: Any, x: Any, con: Any, state: Any, out: Any, n: Any) -> Any:
        def codegen(_context: Any, b: Any, _sig: Any, args: Any) -> Any:
            emit = _Emit(b)
            xp, cp, sp, op = (b.inttoptr(a, F32.as_pointer()) for a in args[:4])
            constants = [
                [emit.load(cp, r * width + t * LANES) for t in range(tiles)]
                for r in range(4 + RANK)
            ]
            slots: dict[Any, Any] = {}

            def slot(key: Any, value: Any) -> None:
                slots[key] = cgutils.alloca_once(b, VEC)
                b.store(value, slots[key])

            for t in range(tiles):
                for row, key in enumerate(("e", "up", "down")):
                    slot((key, t), emit.load(sp, row * width + t * LANES))
                for key in ("e_max", "e_min", "up_max", "down_max"):
                    slot((key, t), emit.zero)
            slot("q", emit.zero)
            slot("q_sum", emit.zero)
            with cgutils.for_range(b, b.udiv(args[4], ir.Constant(args[4].type, ROWS))) as loop:
                base = b.mul(loop.index, ir.Constant(loop.index.type, ROWS * width))
                current = {key: b.load(pointer) for key, pointer in slots.items()}
                _body(emit, tiles, xp, base, constants, current)
                for key, value in current.items():
                    b.store(value, slots[key])
            final = {key: b.load(pointer) for key, pointer in slots.items()}
            for t in range(tiles):
                for row, key in enumerate(("e", "up", "down")):
                    emit.store(final[key, t], sp, row * width + t * LANES)
                low = b.fsub(emit.zero, final["e_min", t])
                emit.store(emit.maximum(final["e_max", t], low), op, t * LANES)
                emit.store(final["up_max", t], op, width + t * LANES)
                emit.store(final["down_max", t], op, 2 * width + t * LANES)
            emit.store(final["q"], op, 3 * width)
            emit.store(final["q_sum"], op, 3 * width + LANES)

        return types.void(x, con, state, out, n), codegen

    @njit  # type: ignore[untyped-decorator, unused-ignore]
    def run(x: Any, con: Any, state: Any, out: Any, block: int) -> None:
        step = block * width * 4
        for k in range(x.shape[0] // block):
            block_step(
                x.ctypes.data + k * step,
                con.ctypes.data,
                state.ctypes.data,
                out.ctypes.data + k * out.shape[1] * 4,
                block,
            )

    return run
