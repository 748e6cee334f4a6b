"""The schedulers that come with Copernicus."""
