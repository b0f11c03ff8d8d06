"What a machine knows and does: exactly, by sampling, in nats and in pictures."
