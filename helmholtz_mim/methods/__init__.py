"What a step of learning is: wake-sleep, reweighted or not."
