"""The Label Studio ML backend: an adapter over `edgetam_model`. Nothing here yet."""
