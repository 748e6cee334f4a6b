"""The executables that come with Copernicus: classes, and TOML files in this directory."""
