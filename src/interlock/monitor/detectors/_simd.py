"""The inner loop of `fused`, built as explicit 16-lane vector code through numba.

A tile is 16 channels held in one vector. Four rows a turn: their vectors exchange lanes, so that
each sum over channels (norm and projections) of the four rows is one vector of partial sums; the
sums of four turns are folded together into one vector of 16 rows. LLVM splits the vectors on a
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
#: Rows of the constants.
OFFSET, SCALE, KEEP, SLACK, GAIN, LEAD = range(6)
#: Samples to fetch ahead: 4 KiB. Four times as far is slower.
AHEAD = 1024
F32, I32, I64 = ir.FloatType(), ir.IntType(32), ir.IntType(64)
VEC, BITS = ir.VectorType(F32, LANES), ir.VectorType(I32, LANES)


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

    def peak(self, x: Any, peak: Any) -> Any:
        """Return the larger, where `peak` is not below 0: compared as integers, on more ports."""
        x, peak = self.b.bitcast(x, BITS), self.b.bitcast(peak, BITS)
        kind = ir.FunctionType(BITS, [BITS, BITS])
        call = cgutils.get_or_insert_function(self.b.module, kind, "llvm.smax.v16i32")
        return self.b.bitcast(self.b.call(call, [x, peak]), VEC)

    def magnitude(self, x: Any) -> Any:
        mask = ir.Constant(BITS, [ir.Constant(I32, 0x7FFFFFFF)] * LANES)
        return self.b.bitcast(self.b.and_(self.b.bitcast(x, BITS), mask), VEC)

    def fma(self, x: Any, y: Any, z: Any) -> Any:
        flags = ("contract",)
        return self.b.fadd(self.b.fmul(x, y, flags=flags), z, flags=flags)

    def exchange(self, x: Any, y: Any, distance: int) -> tuple[Any, Any]:
        """Return (x where a lane's bit `distance` is clear, else y) and the other lanes, moved.

        What is moved goes `distance` lanes away; the two results hold x and y in the same lanes.
        """
        stay = [lane + LANES * bool(lane & distance) for lane in range(LANES)]
        cross = [lane ^ distance for lane in stay]
        kind = ir.VectorType(I32, LANES)
        lanes = ([ir.Constant(I32, lane) for lane in side] for side in (stay, cross))
        first, second = (self.b.shuffle_vector(x, y, ir.Constant(kind, side)) for side in lanes)
        return first, second

    def swap(self, x: Any, distance: int) -> Any:
        return self.exchange(x, x, distance)[1]

    def fold(self, x: Any, y: Any, distance: int) -> Any:
        return self.b.fadd(*self.exchange(x, y, distance))


def _row(emit: _Emit, t: int, samples: Any, con: dict[Any, Any], cur: dict[Any, Any]) -> Any:
    """Emit EWMA, two-sided CUSUM and their peaks of one row of one tile; return its z-scores."""
    b = emit.b
    if con["near"]:
        z = emit.fma(samples, con[SCALE, t], con[OFFSET, t])
    else:
        z = b.fmul(b.fadd(samples, con[OFFSET, t]), con[SCALE, t])
    cur["e", t] = emit.fma(cur["e", t], con[KEEP], z)
    up = b.fadd(cur["up", t], b.fsub(z, con[SLACK]))
    down = b.fsub(cur["down", t], b.fadd(z, con[SLACK]))
    cur["up", t], cur["down", t] = emit.peak(up, emit.zero), emit.peak(down, emit.zero)
    cur["e_max", t] = emit.peak(emit.magnitude(cur["e", t]), cur["e_max", t])
    for key in ("up", "down"):
        cur[key + "_max", t] = emit.peak(cur[key, t], cur[key + "_max", t])
    return z


def _turn(
    emit: _Emit, tiles: int, x: Any, base: Any, con: dict[Any, Any], cur: dict[Any, Any]
) -> list[Any]:
    """Emit four rows; return partial sums over channels of the norm and of the projections."""
    b, width = emit.b, tiles * LANES
    sums: list[Any] = [None] * (RANK + 1)
    for t in range(tiles):
        # For the compiler alone: tiles that it mixes do not fit the registers (half the speed).
        b.fence("acq_rel", "singlethread")
        z = []
        for u in range(ROWS):
            offset = b.add(base, ir.Constant(base.type, u * width + t * LANES))
            emit.prefetch(x, offset)
            z.append(_row(emit, t, emit.load(x, offset), con, cur))
        # Each of the four vectors holds a quarter of each row's channels: they add up to the rows.
        halves = zip(emit.exchange(z[0], z[1], 8), emit.exchange(z[2], z[3], 8), strict=True)
        quarters = [part for x8, y8 in halves for part in emit.exchange(x8, y8, 2)]
        for s, part in enumerate(quarters):
            for j, other in enumerate((part, *con[LEAD, t, s])):
                sums[j] = b.fmul(part, other) if t == s == 0 else emit.fma(part, other, sums[j])
    return sums


def _residual(emit: _Emit, sums: list[list[Any]]) -> Any:
    """Emit the PCA residual of the 16 rows, norm less squared projections, from four turns."""
    whole = [
        emit.fold(emit.fold(a, b, 4), emit.fold(c, d, 4), 1)
        for a, b, c, d in zip(*sums, strict=True)
    ]
    residual = whole[0]
    for projection in whole[1:]:
        residual = emit.fma(emit.b.fneg(projection), projection, residual)
    return residual


def make_kernel(tiles: int, turns: int, near: bool) -> Any:
    """Return `run(x, constants, state, out, block)` for 16 * tiles channels, all float32.

    Args:
        tiles: vectors a row.
        turns: turns folded together: 4, or 1 where a block is not a multiple of 16 rows.
        near: z = x * scale + offset, in one operation; else (x + offset) * scale.

    `constants` rows: offset, scale, 1 - EWMA weight, CUSUM slack, EWMA weight, three loadings.
    `state`: EWMA / weight, in sd; each block begins its CUSUMs at 0. `out[k]`: |EWMA| peak, up
    peak, down peak, the residual's peak and its sum, each of these two in 16 lanes. Samples that
    are not finite poison a block's sum; the caller redoes it.
    """
    width = tiles * LANES

    @intrinsic  # type: ignore[untyped-decorator, unused-ignore]
    def blocks(
        _ctx: Any, x: Any, con: Any, state: Any, out: Any, count: Any, block: Any, stride: Any
    ) -> Any:
        def codegen(_context: Any, b: Any, _sig: Any, args: Any) -> Any:
            emit = _Emit(b)
            xp, cp, sp, op = (b.inttoptr(a, F32.as_pointer()) for a in args[:4])
            count, block, stride = args[4:]

            def const(value: int) -> Any:
                return ir.Constant(count.type, value)

            con: dict[Any, Any] = {"near": near}
            for r in (KEEP, SLACK, GAIN):
                con[r] = emit.load(cp, r * width)
            for t in range(tiles):
                for r in (OFFSET, SCALE):
                    con[r, t] = emit.load(cp, r * width + t * LANES)
                lead = [emit.load(cp, (LEAD + j) * width + t * LANES) for j in range(RANK)]
                for s, moved in enumerate((0, 2, 8, 10)):
                    con[LEAD, t, s] = [emit.swap(v, moved) for v in lead]
            slots: dict[Any, Any] = {}
            for t in range(tiles):
                slots["e", t] = cgutils.alloca_once(b, VEC)
                b.store(emit.load(sp, t * LANES), slots["e", t])
            of_block = ("up", "down", "e_max", "up_max", "down_max")
            fresh = [(key, t) for t in range(tiles) for key in of_block]
            fresh += [("q", 0), ("q_sum", 0)]
            for name in fresh:
                slots[name] = cgutils.alloca_once(b, VEC)
            parts = cgutils.alloca_once(b, VEC, ir.Constant(I64, 4 * (RANK + 1)))

            def part(turn: Any, j: int) -> Any:
                return b.gep(parts, [b.add(b.mul(turn, const(RANK + 1)), const(j))])

            for k in range(4 * (RANK + 1)):
                b.store(emit.zero, part(const(0), k))
            with cgutils.for_range(b, count) as each:
                for name in fresh:
                    b.store(emit.zero, slots[name])
                first = b.mul(each.index, b.mul(block, const(width)))
                with cgutils.for_range(b, b.udiv(block, const(turns * ROWS))) as several:
                    start = b.add(first, b.mul(several.index, const(turns * ROWS * width)))
                    with cgutils.for_range(b, const(turns)) as turn:
                        base = b.add(start, b.mul(turn.index, const(ROWS * width)))
                        cur = {key: b.load(pointer) for key, pointer in slots.items()}
                        for j, value in enumerate(_turn(emit, tiles, xp, base, con, cur)):
                            b.store(value, part(turn.index, j))
                        for key, value in cur.items():
                            b.store(value, slots[key])
                    sums = [[b.load(part(const(k), j)) for j in range(RANK + 1)] for k in range(4)]
                    residual = _residual(emit, sums)
                    peak, total = slots["q", 0], slots["q_sum", 0]
                    b.store(emit.peak(residual, b.load(peak)), peak)
                    b.store(b.fadd(residual, b.load(total)), total)
                final = {key: b.load(pointer) for key, pointer in slots.items()}
                base = b.gep(op, [b.mul(each.index, stride)])
                for t in range(tiles):
                    emit.store(b.fmul(final["e_max", t], con[GAIN]), base, t * LANES)
                    emit.store(final["up_max", t], base, width + t * LANES)
                    emit.store(final["down_max", t], base, 2 * width + t * LANES)
                peak, total = final["q", 0], final["q_sum", 0]
                for distance in (1, 2, 4, 8):
                    peak = emit.peak(peak, emit.swap(peak, distance))
                    total = emit.fold(total, total, distance)
                emit.store(peak, base, 3 * width)
                emit.store(total, base, 3 * width + LANES)
            for t in range(tiles):
                emit.store(b.load(slots["e", t]), sp, t * LANES)

        return types.void(x, con, state, out, count, block, stride), codegen

    @njit  # type: ignore[untyped-decorator, unused-ignore]
    def run(x: Any, con: Any, state: Any, out: Any, block: int) -> None:
        blocks(
            x.ctypes.data,
            con.ctypes.data,
            state.ctypes.data,
            out.ctypes.data,
            x.shape[0] // block,
            block,
            out.shape[1],
        )

    return run
