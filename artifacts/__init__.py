"""What lies on disk between the stages: the file door, schemas, manifests, rejects and the sample format."""
