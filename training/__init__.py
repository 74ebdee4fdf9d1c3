"""The training: corpus, shards, loop and plots."""
