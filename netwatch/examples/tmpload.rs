fn main() {
    if let Some(n) = std::env::args().nth(1) {
        println!("{}", netwatch::probe::tmplog(&n));
        return;
    }
    netwatch::probe::tmp();
}
