"""Is the circuit well-formed, within limits, and what was reviewed?"""
