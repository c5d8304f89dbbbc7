//! What netwatch's kernel and user space share, and nothing else: plain data, the packet parser and the rules of
//! accounting. Not: anything that reads a clock, a socket or a map. One source compiles into the classifier and into
//! host tests, fuzzers and replay, so both give the same counters to the bit.
#![no_std]

pub mod account;
pub mod address;
pub mod config;
pub mod flow;
pub mod fragment;
pub mod front;
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
