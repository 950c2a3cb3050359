"""Model bundles: their format, where they lie, how they are opened, written and checked."""
