"""Credentials written into a provider's constructor."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from typing import ClassVar

from interlock.scan.code.base import Hit, Module
from interlock.scan.finding import Severity
from interlock.scan.secrets.placeholder import is_placeholder

__all__ = ["TokenInCode"]

_CALLS = {
    "QiskitRuntimeService", "save_account", "enable_account", "IBMProvider", "IonQProvider",
    "IonQService", "DWaveSampler", "LeapHybridSampler", "IQMProvider", "RemoteProcessor",
    "AQTProvider", "OQCClient", "AzureQuantumProvider", "Workspace", "from_connection_string",
    "PasqalCloud", "QuantumInspireAPI", "Session", "InferenceClient", "OpenAI", "Anthropic",
    "Superstaq", "BlueQubit", "device", "save_token", "login", "set_token",
    "login_with_credentials", "login_no_interaction", "authenticate",
}  # fmt: skip
_NAMES = {
    "token", "api_key", "apikey", "api_token", "auth_token", "password", "aws_secret_access_key",
    "client_secret", "access_token", "secret", "key", "user_password", "passwd", "pwd",
}  # fmt: skip
_FIRST = {
    "enable_account", "IonQProvider", "IBMProvider", "from_connection_string", "AQTProvider",
    "save_token", "set_token",
}  # fmt: skip
#: Take the user, then the password.
_SECOND = {"login_with_credentials", "login_no_interaction"}


class TokenInCode:
    """`QiskitRuntimeService(token="...")` with the text written out."""

    id: ClassVar[str] = "token-in-code"
    title: ClassVar[str] = "Credential written into the code"
    severity: ClassVar[Severity] = Severity.HIGH
    confidence: ClassVar[str] = "high"
    why: ClassVar[str] = "the file is copied, shared and kept for ever in version control"
    fix: ClassVar[str] = (
        "read it from the environment or a vault, or save the account once outside code"
    )

    def check(self, module: Module) -> Iterator[Hit]:
        """Yield the calls."""
        for call in module.calls:
            name = module.name(call.func).rpartition(".")[2]
            if not name and isinstance(call.func, ast.Attribute):
                name = call.func.attr
            if name not in _CALLS:
                continue
            given = [(k.arg, k.value) for k in call.keywords if k.arg in _NAMES]
            if name in _FIRST and call.args:
                given.append(("the first argument", call.args[0]))
            if name in _SECOND and len(call.args) > 1:
                given.append(("the second argument", call.args[1]))
            for argument, value in given:
                text = module.text_of(value)
                plain = text and len(text) >= 8 and " " not in text
                if text and plain and not is_placeholder(text.encode(errors="surrogatepass")):
                    yield module.hit(value, f"{argument} of {name} is written out")
