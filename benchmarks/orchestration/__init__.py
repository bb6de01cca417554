"""What starts, partitions, runs and evenings cost: `python -m benchmarks.orchestration`."""
