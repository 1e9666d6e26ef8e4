"""Many videos: manifest, work units, tokens, shards, resume; engines that spread the work."""
