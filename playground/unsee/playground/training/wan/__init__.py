"""Training the second base, of Wan's classes: autoencoder, stills, clips."""
