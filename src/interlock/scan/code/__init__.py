"""Rules over Python and OpenQASM text."""
