"""What one more policy costs a server in memory."""
