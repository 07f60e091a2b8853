"""Devices and processes: mesh axes, placing arrays, evaluation over devices."""
