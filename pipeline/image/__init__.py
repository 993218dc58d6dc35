"""Reading images, detecting regions, cutting crops."""
