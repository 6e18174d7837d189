"""Models on disk and where they come from: store, names, manifests, create, pull."""
