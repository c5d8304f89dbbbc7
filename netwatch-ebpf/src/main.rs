//! netwatch's kernel half.
#![no_std]
#![no_main]
