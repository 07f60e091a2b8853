"""Devices and processes: meshes, shardings, evaluation over devices."""
