"""Programs that measure and write their numbers into results/."""
