//! The command line.
use crate::support::*;

#[test]
fn the_line_on_stderr_names_the_port_that_it_got() {
    let host = TestHost::serve(HELLO, "");
    assert_ne!(host.address.port(), 0);
    assert_eq!(host.get("/").text(), "Hello from WebAssembly!\n");
}
