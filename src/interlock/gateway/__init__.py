"""The gateway: holds the provider credentials and takes everybody's jobs along the guarded path."""
