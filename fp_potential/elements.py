"""What is known of elements by their symbols and numbers."""

from collections.abc import Sequence

import torch
from ase.data import atomic_numbers, chemical_symbols, covalent_radii
from torch import Tensor


def bond_lengths(elements: Sequence[int]) -> Tensor:
    """Sums of covalent radii ``(Z, Z)``, Å, of atomic numbers.

    Source: Cordero et al., Dalton Trans. 2832 (2008), doi:10.1039/b801115j, as in ASE.
    """
    radii = torch.tensor([covalent_radii[z] for z in elements], dtype=torch.float64)
    return radii.unsqueeze(0) + radii.unsqueeze(1)


def named_elements(symbols: Sequence[str], elements: Sequence[int], option: str) -> list[int]:
    """Atomic numbers of ``symbols``, each of which is among ``elements``.

    Raises:
        ValueError: one is not; the message names ``option``.
    """
    numbers = [atomic_numbers.get(symbol, 0) for symbol in symbols]
    missing = [symbol for symbol, z in zip(symbols, numbers, strict=True) if z not in elements]
    if missing:
        present = ", ".join(chemical_symbols[z] for z in elements)
        raise ValueError(
            f"`{option}` names {', '.join(missing)}; expected symbols of elements of the training set ({present})"
        )
    return numbers
