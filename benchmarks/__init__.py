"""Benchmarks: graphc beside its peers, in turns within one run.

workloads    what is measured: each row's name, floor, data, flops and bytes
networks     the layers that training steps are described with, and their weights
arithmetic   formulas over a module of functions, for peers without a ready form
peers/       one file a framework: from a description to a step that runs
worker       a process for each peer: builds, checks, times
agreement    all peers compute the same, or the run stops
timing       rounds in turns; compile times in fresh processes
machine      the limits: multiply-adds and memory
table        what is printed
"""
