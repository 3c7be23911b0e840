"""One guarded path between AI code and any quantum backend."""
