"""`/v1/videos`: clips as jobs, in the form of OpenAI's Videos API."""
