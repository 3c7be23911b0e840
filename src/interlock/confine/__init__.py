"""Confinement of a child process by the operating system, with the level reached.

Code that reads hostile bytes or runs a stranger's circuit does it in a child that can be killed
and that holds nothing worth stealing: no environment, no inherited descriptors, no files, no
network, no new processes. The level reached is measured in the child, not assumed.
"""

from interlock.confine.levels import Level, Limits, Probe
from interlock.confine.sandbox import confine, probe
from interlock.confine.server import Completed, ForkServer, run_confined

__all__ = [
    "Completed",
    "ForkServer",
    "Level",
    "Limits",
    "Probe",
    "confine",
    "probe",
    "run_confined",
]
