//! The ABI between netwatch's kernel and user space, and the code that both run: the packet parser
//! and the accounting rules. It reads no clock, socket or map. One source compiles into the
//! classifier and into host tests, fuzzers and replay, so both give the same counters to the bit.
#![no_std]

pub mod access;
pub mod account;
pub mod address;
pub mod capture;
pub mod config;
pub mod flow;
pub mod fragment;
pub mod front;
pub mod handshake;
pub mod hash;
pub mod observation;
pub mod parse;
pub mod process;
pub mod remainder;
pub mod round_trip;
pub mod sample;
pub mod stage;
pub mod stat;
pub mod table;
pub mod tcp;

#[cfg(feature = "user")]
mod pod;
