"""TensorRT engines of the exported graphs: what is checked before, built on a GPU host, and kept.

audit.py         names every node of a graph that TensorRT's parser would refuse
operators.json   which ONNX operators the parser takes, with its source
prepare.py       rewrites what can be said in a way that the parser takes
profiles.py      the shapes that an engine is built for
build.py         builds an engine and runs it (needs TensorRT and a GPU)
kept_engine.py   the engine in a folder, built if it is not the right one
"""
