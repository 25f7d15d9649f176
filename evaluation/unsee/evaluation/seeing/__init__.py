"""What the frames show: generation under one seed, recognisers, observations and their measures."""
