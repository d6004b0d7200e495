"""Tools for pseudopotentials: where one comes from, bands on dense paths, edges, densities, clusters, ensembles."""
