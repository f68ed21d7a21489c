//! The bench of these tests, and the tests themselves, a file for each subject.
//!
//! ```text
//!  pgw-PID-c               pgw-PID-g                      pgw-PID-s
//!  client                  posternd                       server
//!  eth0 10.1.0.2/24 ────── pgw0 10.1.0.1 │ pgw1 198.51.100.1 ────── eth0 198.51.100.2/24
//!  default via 10.1.0.1                                   no route back: only NAT makes replies possible
//! ```
//!
//! The gateway ends carry no kernel address: nothing but `posternd` answers or forwards there.
//!
//! Without root the tests say so and pass, unless `POSTERN_REQUIRE_NS=1`. Those in `unprivileged` always run.

mod command;
mod gateway;
mod nat;
mod peers;
mod voice;
mod world;

mod alg;
mod baresip;
mod bulk;
mod bytes;
mod control;
mod fragments;
mod ftp;
mod ftps;
mod kernel;
mod lifecycle;
mod limits;
mod links;
mod load;
mod million;
mod modes;
mod ndr;
mod path;
mod ping;
mod registration;
mod reload;
mod rtsp;
mod sip;
mod sip_modes;
mod stream;
mod tftp;
mod unprivileged;
