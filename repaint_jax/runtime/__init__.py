"""What a long run needs besides mathematics: batches, devices, processes, files."""
