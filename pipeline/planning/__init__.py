"""What a run will take, from a short probe of the real inputs."""
