//! The bench of these tests, and the tests themselves, a file for each subject.
//!
//! ```text
//!  pgw-PID-c               pgw-PID-g                      pgw-PID-s
//!  client                  posternd                       server
//!  eth0 10.1.0.2/24 ────── pgw0 10.1.0.1 │ pgw1 198.51.100.1 ────── eth0 198.51.100.2/24
//!  default via 10.1.0.1                                   no route back: only NAT makes replies possible
//! ```
//!
//! Where a test needs one, the client has a neighbour, 10.1.0.3, and a switch stands before `pgw0`; or the server has a host behind it.
//!
//! The gateway ends carry no kernel address: nothing but `posternd` answers or forwards there.
//!
//! Without root the tests say so and pass, unless `POSTERN_REQUIRE_NS=1`. Those in `unprivileged` always run.

mod command;
mod gateway;
mod nat;
mod peers;
mod registered;
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
mod hairpin;
mod kernel;
mod lifecycle;
mod limits;
mod links;
mod load;
mod million;
mod modes;
mod ndr;
mod path;
mod pbx;
mod ping;
mod published;
mod registration;
mod reload;
mod replayed;
mod rtsp;
mod sip;
mod sip_modes;
mod stream;
mod tftp;
mod unprivileged;
