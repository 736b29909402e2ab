"""Drawing: graphs and programs as dot text, SVG, PNG and PDF.

Importing it gives `Graph` and `Program` their methods `dot`, `draw` and the picture in
notebooks.
"""

from graphc.ir.graph import Graph
from graphc.ir.program import Program
from graphc.viz.dot import graph_dot as graph_dot
from graphc.viz.program_dot import program_dot as program_dot
from graphc.viz.render import draw as draw
from graphc.viz.render import render as render
from graphc.viz.render import svg as svg

Graph._dot = staticmethod(graph_dot)
Graph._draw = staticmethod(draw)
Graph._svg = staticmethod(svg)

Program._dot = staticmethod(program_dot)
Program._draw = staticmethod(draw)
Program._svg = staticmethod(svg)
