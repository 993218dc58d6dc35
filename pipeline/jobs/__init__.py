"""The Beam jobs, one file each: the only place that imports apache_beam."""
