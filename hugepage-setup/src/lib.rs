//! Prepares a host for Postern: hugepages, NICs, and what else slows a gateway down.
//!
//! - [`host`]: where the kernel's files are. Every path of this crate begins at one of its roots.
//! - [`facts`]: what the host is like now. Reads, changes nothing.
//! - [`need`]: what the gateway needs of it.
//! - [`config`]: the same of a configuration, which `posternd` reads.
//! - [`plan`]: facts and needs make steps and findings. Pure.
//! - [`action`]: one change, how it is made, asked back and taken back.
//! - [`kernel`]: the only place that changes anything, behind a trait.
//! - [`journal`]: what was changed, written before it is.
//! - [`apply`](mod@apply), [`undo`](mod@undo): a plan carried out, and the journal run backwards.
//! - [`topic`]: the catalogue of all messages.
//! - [`report`]: plans, outcomes and facts as text and as JSON.
//! - [`cli`]: the command line.
#![forbid(unsafe_code)]

pub mod action;
pub mod apply;
pub mod cli;
pub mod config;
pub mod error;
pub mod facts;
pub mod host;
pub mod journal;
pub mod kernel;
pub mod need;
pub mod plan;
pub mod report;
pub mod topic;
pub mod undo;
