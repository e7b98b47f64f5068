//! Claims about connections, held against raw sockets: what a client sees, byte by byte.

mod accept;
mod batch;
mod fuzz;
mod h1;
mod h2;
mod h2_client;
mod h2_wrong;
mod leaving;
mod support;
mod upload;
