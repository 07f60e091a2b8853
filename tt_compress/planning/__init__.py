"""Sizes, device plans and what compiled programs exchange."""
