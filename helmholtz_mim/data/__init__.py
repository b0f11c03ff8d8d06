"Data sets: small worlds that can be enumerated, images, and real rhythms."
