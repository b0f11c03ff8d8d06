"What the command line does: train, ask, and make the book."
