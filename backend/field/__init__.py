"""The field kit: annotate where there is no network. `pack`, a local page, `merge`."""
