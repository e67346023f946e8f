"""The CVAT functions: Nuclio interactor and tracker, and what they share; an adapter over `edgetam_model`."""
