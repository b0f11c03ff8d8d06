"Ways to run the steps: as they are defined, compiled, or in large batches."
