"""The database's history: one revision for each change of shape. See `cpc.store.migrate`."""
