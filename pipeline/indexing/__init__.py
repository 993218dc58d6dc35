"""From regions to the patches of a bank: which regions are candidates, which of them are kept. No Beam."""
