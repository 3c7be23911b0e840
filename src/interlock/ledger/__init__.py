"""The tamper-evident record of every job."""
