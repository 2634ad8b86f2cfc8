//! Whether a restored database is the one that was backed up: comparisons of fingerprints.
