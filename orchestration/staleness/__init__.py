"""Which assets are stale: what each reads, the digests of that, and the plan of a run that leaves out the others."""
