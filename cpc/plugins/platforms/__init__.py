"""The platforms that come with Copernicus."""
