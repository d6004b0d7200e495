#include "pair_style/agree.h"

#include "comm.h"
#include "error.h"
#include "lammps.h"

#include <vector>

void fixedpoint::agree(LAMMPS_NS::LAMMPS *lmp, const std::string &message)
{
  const int n = lmp->comm->nprocs;
  int mine = message.empty() ? n : lmp->comm->me;
  int first = mine;
  MPI_Allreduce(&mine, &first, 1, MPI_INT, MPI_MIN, lmp->world);
  if (first == n) return;
  int length = static_cast<int>(message.size());
  MPI_Bcast(&length, 1, MPI_INT, first, lmp->world);
  std::vector<char> text(message.begin(), message.end());
  text.resize(length);
  MPI_Bcast(text.data(), length, MPI_CHAR, first, lmp->world);
  lmp->error->all(FLERR, "pair fixedpoint: " + std::string(text.begin(), text.end()));
}
