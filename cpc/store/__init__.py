"""Everything that must survive: the database (SQLite or PostgreSQL) and the file store. The only SQL in the house."""
