"""Prefix trees, written out."""

import numpy as np

from rag_core.prefix_tree import prefix_trees


def test_targets_share_the_nodes_of_their_prefixes() -> None:
    """Prompt 2 0; under document 0 the targets 5 6 7 and 5 8, under document 1 the target 9."""
    trees = prefix_trees((2, 0), [0, 0, 1], [(5, 6, 7), (5, 8), (9,)])
    np.testing.assert_array_equal(trees.tokens, [[2, 0, 5, 6], [2, 0, 2, 2]])
    np.testing.assert_array_equal(trees.positions[0], [0, 1, 2, 3])
    assert [reader.tolist() for reader in trees.readers] == [[1, 2, 3], [1, 2], [1]]
    np.testing.assert_array_equal(trees.visible[0], np.tri(4, dtype=bool))
    np.testing.assert_array_equal(trees.visible[1, :2, :2], np.tri(2, dtype=bool))


def test_branches_do_not_see_each_other_and_stand_at_the_same_position() -> None:
    trees = prefix_trees((2,), [0, 0], [(5, 6, 1), (7, 8, 1)])
    np.testing.assert_array_equal(trees.tokens, [[2, 5, 6, 7, 8]])
    np.testing.assert_array_equal(trees.positions, [[0, 1, 2, 1, 2]])
    expected = [[1, 0, 0, 0, 0], [1, 1, 0, 0, 0], [1, 1, 1, 0, 0], [1, 0, 0, 1, 0], [1, 0, 0, 1, 1]]
    np.testing.assert_array_equal(trees.visible[0], np.array(expected, dtype=bool))


def test_padding_sees_only_itself() -> None:
    trees = prefix_trees((2,), [0, 1], [(5, 6, 7), (8,)])
    np.testing.assert_array_equal(trees.visible[1], np.eye(3, dtype=bool))
