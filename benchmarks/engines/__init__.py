"""How fast the graphs run and how exact they are: engines, sizes, acceleration, TensorRT."""
