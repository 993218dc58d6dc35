"""What is on disk between the stages: access to files, schemas, manifests, rejects and the format of samples."""
