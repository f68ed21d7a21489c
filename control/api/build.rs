//! Compiles the schema without protoc: protox parses it, tonic generates the types, and the descriptors are kept for
//! reflection.

use std::error::Error;
use std::path::PathBuf;
use std::{env, fs};

const SCHEMA: &str = "proto/postern/v1/postern.proto";

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed={SCHEMA}");
    let mut compiler = protox::Compiler::new(["proto"])?;
    compiler.include_source_info(true).include_imports(true).open_file(SCHEMA)?;

    let out = PathBuf::from(env::var("OUT_DIR")?);
    fs::write(out.join("postern.bin"), compiler.encode_file_descriptor_set())?;
    tonic_prost_build::configure().compile_fds(compiler.file_descriptor_set())?;
    Ok(())
}
