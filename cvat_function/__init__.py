"""The CVAT functions: an adapter over `edgetam_model`. Nothing here yet."""
