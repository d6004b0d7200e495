"""``fixedpoint report``: one HTML page of a run, that opens without a network.

`build.write_report` reads the run folder (`history`), runs the model on its data (`results`), draws (`curves`,
`parity`, `convergence`) and writes the page (`page`) with the structures for its viewer (`viewer`).
"""
