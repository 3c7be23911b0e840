"""Telemetry: alarms with a false-alarm guarantee, covert channels, forecasts, safe control.

Nothing heavy is imported here: numba, pyarrow, torch and the rest load with the module that needs
them, and a missing one raises an error that names the extra.
"""

from interlock.monitor.frames import Frame, Origin, StreamKind, StreamSpec

__all__ = ["Frame", "Origin", "StreamKind", "StreamSpec"]
