"""Floor 1: where truth is kept. Imports core; holds no policy: every decision arrives made."""
