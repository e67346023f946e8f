"""The model as static parts with named inputs, which runtimes and exports share. `specs` is free of torch."""
