"""A tamper-evident, append-only record: durable entries, signed heads, proofs, erasure."""

from interlock.ledger.audit import audit
from interlock.ledger.entry import Entry
from interlock.ledger.existing import existing
from interlock.ledger.ledger import Ledger
from interlock.ledger.proof import Proof
from interlock.ledger.reader import Reader
from interlock.ledger.records import Records
from interlock.ledger.report import Fault, Report
from interlock.ledger.sequencer import Pending

__all__ = [
    "Entry",
    "Fault",
    "Ledger",
    "Pending",
    "Proof",
    "Reader",
    "Records",
    "Report",
    "audit",
    "existing",
]
