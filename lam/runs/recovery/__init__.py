"""What survives a kill: checkpoints that are whole or not there, and runs that are asked to end."""
