"""Which structures share a batch."""

import pytest
import torch
from fp_potential.train.trainer.batching import WINDOW, deal, plan


def sizes(number, seed=0):
    return torch.randint(3, 40, (number,), generator=torch.Generator().manual_seed(seed)).tolist()


@pytest.mark.parametrize("max_atoms", [None, 50])
@pytest.mark.parametrize("grouped", [False, True])
@pytest.mark.parametrize("seed", [None, 1])
def test_every_structure_is_in_one_batch(max_atoms, grouped, seed):
    atoms = sizes(333)
    chunks = plan(atoms, 8, seed, max_atoms, atoms if grouped else None)
    assert sorted(index for chunk in chunks for index in chunk) == list(range(333))
    if max_atoms is None:
        assert sorted(map(len, chunks)) == [333 % 8] + [8] * (333 // 8)
    else:
        assert all(sum(atoms[index] for index in chunk) <= max_atoms for chunk in chunks)


def test_batches_by_atoms_are_filled():
    assert plan([4, 4, 4, 9, 2, 3, 20, 1], 99, max_atoms=10) == [[0, 1], [2], [3], [4, 5], [6], [7]]
    atoms = sizes(200)
    chunks = plan(atoms, 1, 3, 100)
    filled = [sum(atoms[index] for index in chunk) for chunk in chunks]
    following = [atoms[chunk[0]] for chunk in chunks[1:]]
    assert all(full + extra > 100 for full, extra in zip(filled, following, strict=False))


def test_order_depends_on_the_seed_alone():
    atoms = sizes(50)
    assert plan(atoms, 4, 7, 60) == plan(atoms, 4, 7, 60) != plan(atoms, 4, 8, 60)
    assert plan(atoms, 4, 7, 60, atoms) == plan(atoms, 4, 7, 60, atoms) != plan(atoms, 4, 8, 60, atoms)
    assert [index for chunk in plan(atoms, 4) for index in chunk] == list(range(50))


@pytest.mark.parametrize("max_atoms", [None, 80])
def test_grouped_batches_hold_similar_structures(max_atoms):
    atoms = sizes(WINDOW * 8)

    def spread(chunks):
        widths = [max(atoms[i] for i in chunk) - min(atoms[i] for i in chunk) for chunk in chunks]
        return sum(widths) / len(widths)

    assert spread(plan(atoms, 8, 1, max_atoms, atoms)) < 0.3 * spread(plan(atoms, 8, 1, max_atoms))


def test_parts_cost_about_the_same():
    costs = sizes(30)
    dealt = deal(list(range(100, 130)), costs, 4)
    assert sorted(index for part in dealt for index in part) == list(range(100, 130))
    totals = [sum(costs[index - 100] for index in part) for part in dealt]
    assert max(totals) - min(totals) <= max(costs)
    assert deal([5, 6], [0, 0], 4) == [[5], [6]]
