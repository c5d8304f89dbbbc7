//! Tests with the real kernel.
