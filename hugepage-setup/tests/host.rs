//! The tool on hosts that are folders: sysfs, procfs and all, and a kernel that reacts to writes as Linux does.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "host/applying.rs"]
mod applying;
#[path = "host/booted.rs"]
mod booted;
#[path = "host/configured.rs"]
mod configured;
#[path = "host/documented.rs"]
mod documented;
#[path = "host/fake.rs"]
mod fake;
#[path = "host/fixture.rs"]
mod fixture;
#[path = "host/handed_back.rs"]
mod handed_back;
#[path = "host/interrupted.rs"]
mod interrupted;
#[path = "host/nics.rs"]
mod nics;
#[path = "host/program.rs"]
mod program;
#[path = "host/reached.rs"]
mod reached;
#[path = "host/tuning.rs"]
mod tuning;
