"""What the notebooks import: one noun per module, read left to right from `launch` to `report`."""
