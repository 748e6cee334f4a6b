"""Other servers: trust, links, lending of workers, relaying of messages and files."""
