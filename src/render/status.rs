//! Where policies stand, for terminals.
