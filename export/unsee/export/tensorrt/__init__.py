"""TensorRT engines of the exported graphs: what is checked before, built on a GPU host, and kept.

    operators.json   which ONNX operators TensorRT's parser takes, with its source
    operators.py     reads that table
    audit.py         names every node of a graph that the parser would refuse
    prepare.py       rewrites what can be said in a way that the parser takes
    profiles.py      the shapes that an engine is built for
    config.py        the Triton configuration of an engine
    engine_key.py    what an engine was built from and for; anything else is built again
    engine_parity.py an engine against its PyTorch model in float32
    build.py         builds an engine (needs TensorRT)
    runner.py        runs an engine on PyTorch tensors (needs TensorRT and a GPU)
    kept_engine.py   the engine in a folder, built if it is not the right one

Only `build` and `runner` touch the library, and only inside functions.
"""
