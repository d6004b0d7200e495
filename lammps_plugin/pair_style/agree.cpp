#include "pair_style/agree.h"

#include "comm.h"
#include "error.h"
#include "lammps.h"

#include <vector>

std::string fixedpoint::broadcast(LAMMPS_NS::LAMMPS *lmp, const std::string &text, int from)
{
  int length = static_cast<int>(text.size());
  MPI_Bcast(&length, 1, MPI_INT, from, lmp->world);
  std::vector<char> letters(text.begin(), text.end());
  letters.resize(length);
  MPI_Bcast(letters.data(), length, MPI_CHAR, from, lmp->world);
  return {letters.begin(), letters.end()};
}

void fixedpoint::agree(LAMMPS_NS::LAMMPS *lmp, const std::string &message)
{
  const int n = lmp->comm->nprocs;
  int mine = message.empty() ? n : lmp->comm->me;
  int first = mine;
  MPI_Allreduce(&mine, &first, 1, MPI_INT, MPI_MIN, lmp->world);
  if (first == n) return;
  lmp->error->all(FLERR, "pair fixedpoint: " + broadcast(lmp, message, first));
}
