"""Model files, admitted by format and structure."""
