//! What netwatch's kernel and user space share, and nothing else: plain data and the packet parser.
#![no_std]
