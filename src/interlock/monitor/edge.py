"""The edge half: a detector as ONNX in a signed bundle, run beside the device by onnxruntime.

Raw samples stay there. What leaves is one score, one flag and a count a block. The bundle carries
the PCA-residual detector as three matrix operations, so that any ONNX runtime can run it.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import rfc8785

from interlock.crypto.files import read_private, write_private
from interlock.errors import InputError, IntegrityError, SetupError
from interlock.monitor.frames import NO_VALUE
from interlock.monitor.signed import DualKey, DualPublic, verify_dual

__all__ = ["EdgeDetector", "EdgeSummary", "export_bundle"]

CONTEXT = "edge-bundle-v1"
OPSET = 17
AHEAD_S = 300
LEAST_ROWS, LEAST_KNOWN = 256, 0.5


def _extra(error: ImportError) -> SetupError:
    return SetupError(
        "the edge split needs onnx and onnxruntime",
        code="monitor-extra",
        got=str(error),
        expected="the extra `monitor-edge`",
        fix="pip install 'interlock[monitor-edge]'",
    )


def export_bundle(
    folder: Path,
    rows: npt.NDArray[np.float64],
    key: DualKey,
    *,
    version: int,
    created_s: int,
    max_age_s: int = 30 * 86_400,
    rank: int = 3,
) -> None:
    """Learn a PCA-residual detector from rows in control and write `detector.onnx` with its card.

    Args:
        folder: where the bundle goes.
        rows: in control, one column a channel.
        key: signs the card.
        version: rises with each release.
        created_s: when, in seconds since the epoch.
        max_age_s: after this it does not load.
        rank: components that are ordinary.

    Raises:
        SetupError: onnx is not installed.
        InputError: too few samples.
    """
    try:
        import onnx
        from onnx import TensorProto, helper, numpy_helper
    except ImportError as error:
        raise _extra(error) from error
    known = np.abs(rows) < NO_VALUE
    if len(rows) < LEAST_ROWS or not (known.mean(axis=0) > LEAST_KNOWN).all():
        raise InputError(
            "an edge bundle needs more samples to learn from",
            code="monitor-fit",
            got=f"{len(rows)} rows; known in each channel: {known.sum(axis=0).tolist()}"[:200],
            expected=f"at least {LEAST_ROWS} rows, samples in more than {LEAST_KNOWN:g} of them",
            fix="give a longer file; leave dead channels out of it",
        )
    rows = np.where(known, rows, np.nan)
    # Robust: one wild sample must not make spread or limit so large that nothing shows.
    centre = np.nanmedian(rows, axis=0)
    spread = 1.4826 * np.nanmedian(np.abs(rows - centre), axis=0)
    spread = np.where(spread > 0, spread, np.nanstd(rows, axis=0) + 1e-12)
    z = np.clip(np.nan_to_num((rows - centre) / spread), -8, 8)
    _, vectors = np.linalg.eigh(np.atleast_2d(np.cov(z, rowvar=False)))
    lead = vectors[:, ::-1][:, : min(rank, rows.shape[1] - 1)]
    rest = np.eye(rows.shape[1]) - lead @ lead.T
    score = ((z @ rest) ** 2).sum(axis=1)
    constants = {"scale": 1.0 / spread, "rest": rest}
    tensors = [numpy_helper.from_array(v.astype(np.float32), n) for n, v in constants.items()]
    # Taken away in float64: in float32 the steps of 5 GHz are 512 Hz.
    tensors.append(numpy_helper.from_array(centre.astype(np.float64), "centre"))
    tensors.append(numpy_helper.from_array(np.array([1], np.int64), "axes"))
    graph = helper.make_graph(
        [
            helper.make_node("Sub", ["rows", "centre"], ["exact"]),
            helper.make_node("Cast", ["exact"], ["moved"], to=TensorProto.FLOAT),
            helper.make_node("Mul", ["moved", "scale"], ["z"]),
            helper.make_node("MatMul", ["z", "rest"], ["residual"]),
            helper.make_node("Mul", ["residual", "residual"], ["squared"]),
            helper.make_node("ReduceSum", ["squared", "axes"], ["score"], keepdims=0),
        ],
        "pca-residual",
        [helper.make_tensor_value_info("rows", TensorProto.DOUBLE, [None, rows.shape[1]])],
        [helper.make_tensor_value_info("score", TensorProto.FLOAT, [None])],
        tensors,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)])
    model.ir_version = 8
    onnx.checker.check_model(model)
    raw: bytes = model.SerializeToString()
    body: dict[str, Any] = {
        "sha256": hashlib.sha256(raw).hexdigest(),
        "version": version,
        "created_s": created_s,
        "max_age_s": max_age_s,
        "channels": int(rows.shape[1]),
        "limit": f"{float(np.quantile(score, 0.9999)):.9g}",
    }
    document = {"card": body, "signatures": key.sign(CONTEXT, rfc8785.dumps(body))}
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    write_private(folder / "detector.onnx", raw)
    write_private(folder / "card.json", json.dumps(document).encode())


@dataclass(frozen=True, slots=True, kw_only=True)
class EdgeSummary:
    """All that leaves the edge for a block: no sample, no channel."""

    rows: int
    over: int
    peak: float


class EdgeDetector:
    """A verified bundle, ready to score blocks.

    Args:
        folder: of the bundle.
        public: its signer's keys.
        now_s: seconds since the epoch.
        least_version: an older one, although signed, does not load.

    Raises:
        IntegrityError: the bundle is not what its signer made.
        SetupError: onnxruntime is not installed.
    """

    def __init__(
        self, folder: Path, public: DualPublic, *, now_s: int, least_version: int = 1
    ) -> None:
        raw, text = read_private(folder / "detector.onnx"), read_private(folder / "card.json")
        try:
            document = json.loads(text or b"")
            body, signatures = document["card"], document["signatures"]
            payload = rfc8785.dumps(body)
        except (ValueError, KeyError, TypeError, rfc8785.CanonicalizationError) as error:
            raise self._wrong("a missing or damaged card") from error
        verify_dual(public, signatures, CONTEXT, payload)
        if raw is None or hashlib.sha256(raw).hexdigest() != body["sha256"]:
            raise self._wrong("a model that differs from the signed hash")
        if not {"version", "created_s", "max_age_s"} <= body.keys():
            raise self._wrong("a card without version or age")
        if body["version"] < least_version:
            raise self._wrong(f"version {body['version']}, and {least_version} is out")
        if not body["created_s"] - AHEAD_S <= now_s <= body["created_s"] + body["max_age_s"]:
            raise self._wrong("a stale card, or one from the future")
        self.version = int(body["version"])
        try:
            import onnxruntime
        except ImportError as error:
            raise _extra(error) from error
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        self._session = onnxruntime.InferenceSession(
            raw, options, providers=["CPUExecutionProvider"]
        )
        if self._session.get_inputs()[0].type != "tensor(double)":
            raise self._wrong("a model of another kind: it does not take float64")
        self._limit, self._channels = float(body["limit"]), int(body["channels"])

    @staticmethod
    def _wrong(why: str) -> IntegrityError:
        return IntegrityError(
            "an edge bundle does not load",
            code="monitor-edge-bundle",
            got=why,
            expected="detector.onnx and card.json as their signer made them, within their age",
            fix="copy the bundle again from its release",
        )

    def score(self, rows: npt.NDArray[np.float64]) -> EdgeSummary:
        """Score a block and return its summary; a sample that is not finite counts as over."""
        if rows.ndim != 2 or rows.shape[1] != self._channels:
            raise InputError(
                "rows do not fit the bundle",
                code="monitor-rows",
                got=str(rows.shape),
                expected=f"(n, {self._channels})",
                fix="score the stream it was learnt on",
            )
        (score,) = self._session.run(None, {"rows": np.ascontiguousarray(rows, np.float64)})
        bad = ~np.isfinite(score)
        return EdgeSummary(
            rows=len(rows),
            over=int(((score > self._limit) | bad).sum()),
            peak=float(np.max(np.where(bad, np.float32(3e38), score), initial=0.0)),
        )
