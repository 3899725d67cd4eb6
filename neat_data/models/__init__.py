"""Everything that needs torch: devices, chat templates to token ids, token trees, reward models."""
