"""Pictures of networks: `chart` says what is drawn, `layout` where, `svg`, `png` and `dot` write it."""
