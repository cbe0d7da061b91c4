"""Arrays and trees of them: what every other folder stands on. Must not know what a difference is."""
