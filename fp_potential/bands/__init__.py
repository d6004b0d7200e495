"""Semi-empirical pseudopotentials fitted to band structures: crystals, plane waves, potentials, bands."""

from .basis import PlaneWaves
from .crystal import Crystal
from .eigenvalues import Eigenstates, band_energies, solve
from .hamiltonian import Hamiltonian
from .local_forms import LocalForm, NeuralForm, TabulatedForm, ZeroForm, ZungerForm
from .parameters import Terms
from .pseudopotential import Pseudopotential
from .published_forms import by_published_name, load_published, published_state
from .units import HARTREE

__all__ = [
    "HARTREE",
    "Crystal",
    "Eigenstates",
    "Hamiltonian",
    "LocalForm",
    "NeuralForm",
    "PlaneWaves",
    "Pseudopotential",
    "TabulatedForm",
    "Terms",
    "ZeroForm",
    "ZungerForm",
    "band_energies",
    "by_published_name",
    "load_published",
    "published_state",
    "solve",
]
