//! One step of a drill, as a human does it with public tools.
