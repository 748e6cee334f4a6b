"""What should happen to jobs, attempts and leases. Pure: facts and the time come in, decisions go out."""
