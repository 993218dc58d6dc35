"""Starting a project: looking for captions and photos, and the first config."""
