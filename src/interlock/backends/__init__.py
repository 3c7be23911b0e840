"""Devices and simulators: twins of real devices, confined execution."""
