"""Deliberate defects: small changes to the production code, each of which the tests must catch. See docs/design/defects.md."""
