"""Samples and batches."""

import itertools

import pytest
import torch
from fp_potential.train.data.read import read_frames
from fp_potential.train.potential.config import Keys
from fp_potential.train.potential.samples import batch_samples, batches, make_samples, sizes

from structures import ELEMENTS
from training_data import KEYS, write_frames


@pytest.fixture(scope="module")
def read(tmp_path_factory):
    path = write_frames(tmp_path_factory.mktemp("data") / "a.xyz")
    return read_frames([str(path)], Keys(**KEYS))


@pytest.fixture(scope="module")
def samples(read):
    return make_samples(read, ELEMENTS, 4.0, torch.float64)


@pytest.mark.parametrize("group", [False, True])
@pytest.mark.parametrize("size", [1, 3, 11, 20])
def test_batches_hold_every_frame_once_in_a_repeatable_order(samples, group, size):
    orders = [[batch.indices for batch in batches(samples, size, seed, group_by_size=group)] for seed in (1, 1, 2)]
    assert orders[0] == orders[1] and (orders[0] != orders[2] or (group and size > 1) or size > 10)
    assert sorted(index for chunk in orders[0] for index in chunk) == list(range(11))
    assert sorted(map(len, orders[0]), reverse=True)[:-1] == [size] * (-(-11 // size) - 1)
    assert [batch.indices for batch in batches(samples, size)] == [
        list(range(begin, min(begin + size, 11))) for begin in range(0, 11, size)
    ]


def test_grouped_batches_hold_neighbour_lists_of_similar_length(samples):
    """Within a window, no list of one batch is between those of another."""
    longest = sizes(samples).longest
    spans = sorted(
        (min(longest[batch.indices]), max(longest[batch.indices])) for batch in batches(samples, 3, 5, None, True)
    )
    assert all(one[1] <= other[0] for one, other in itertools.pairwise(spans))


def test_sizes(samples):
    found = sizes(samples)
    for number, sample in enumerate(samples):
        lengths = torch.bincount(sample.graph.edge_index[0], minlength=sample.graph.batch.shape[0])
        assert found.atoms[number] == len(sample.graph.species) == len(lengths)
        assert found.edges[number] == lengths.sum() and found.longest[number] == lengths.max()
    assert all(len(column) == 0 for column in sizes([]))


def test_batch_is_the_concatenation_of_its_frames(read):
    samples = make_samples(read, ELEMENTS, 4.0, torch.float32)
    batch = batch_samples(samples, [9, 1])
    assert batch.num_atoms.tolist() == [20.0, 6.0] and batch.graph.positions.dtype == torch.float32
    assert batch.labels.energy.dtype == torch.float64
    assert torch.equal(batch.labels.forces[20:], samples[1].labels.forces)
