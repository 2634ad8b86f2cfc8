//! The runbook of a policy: what a human does with public tools.
