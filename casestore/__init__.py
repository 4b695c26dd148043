"""The project: settings, and what every app stands on. Importing it imports nothing else."""
