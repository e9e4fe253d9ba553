"""Multiplies a matrix of ones by itself on a Dask cluster and prints the sum of the product as JSON.

Every element of the product of two n x n matrices of ones is n, so the sum is n cubed, exactly.
Arguments: address of the scheduler, n.
"""

import json
import sys
import time

import dask.array as da
from distributed import Client, wait

address, size = sys.argv[1], int(sys.argv[2])
with Client(address, timeout=30) as client:
    start = time.monotonic()
    ones = da.ones((size, size), chunks=size // 4)
    product = client.persist(ones @ ones)
    wait(product)
    holders = {worker for workers in client.who_has(product).values() for worker in workers}
    total = client.compute(product.sum()).result()
    seconds = time.monotonic() - start
print(json.dumps({"total": float(total), "workers": len(holders), "seconds": seconds}))
