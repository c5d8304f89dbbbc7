//! x
#![allow(dead_code, missing_docs)]
mod object;
mod sys;

pub fn tmp() {
    use std::time::Instant;
    use std::os::fd::AsFd;
    for _ in 0..3 {
    let t = Instant::now();
    let l = object::Loaded::new(object::OBJECT, &Default::default(), &[]).unwrap();
    println!("load {:?}", t.elapsed());
    for p in ["link_egress","link_ingress","loopback","account","sample"] { println!("{p} {}", sys::verified_instructions(l.program(p).as_fd()).unwrap()); }
    }
}
pub fn tmplog(name: &str) -> String { object::Loaded::verifier_log(object::OBJECT, name) }
