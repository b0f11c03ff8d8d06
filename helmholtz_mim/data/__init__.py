"Data sets: small worlds that can be enumerated, and images."
