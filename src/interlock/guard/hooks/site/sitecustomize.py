# ruff: noqa: D100
# Put first on the path by `interlock run`; Python imports it at start-up. It guards the SDKs as
# they are imported, then lets the sitecustomize it hides, if there is one, do its own work.
import os
import sys


def _next_sitecustomize(here: str) -> None:
    import importlib.machinery
    import importlib.util

    paths = [p for p in sys.path if os.path.abspath(p or ".") != here]  # noqa: PTH100
    spec = importlib.machinery.PathFinder.find_spec("sitecustomize", paths)
    if spec is not None and spec.loader is not None:
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)


def _start() -> None:
    here = os.path.dirname(os.path.abspath(__file__))  # noqa: PTH100, PTH120
    if os.environ.get("INTERLOCK_RUN"):
        from interlock.guard.hooks import autoguard

        autoguard.install()
    _next_sitecustomize(here)


_start()
