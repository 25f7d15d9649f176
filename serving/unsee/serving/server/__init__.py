"""The `tritonserver` process: installation, interpreter, backends folder, ports, start and end."""
