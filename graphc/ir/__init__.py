"""The intermediate representation: types, nodes, graphs, programs, their texts."""
