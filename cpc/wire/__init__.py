"""What machines say to each other on port 13807: identities, TLS, frames, calls; and the bundles that carry credentials."""
