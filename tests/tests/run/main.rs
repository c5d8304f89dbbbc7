//! Integration tests: one module a subject. How to write one: docs/testing.md.

mod harness;
