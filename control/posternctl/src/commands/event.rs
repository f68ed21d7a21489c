//! `event follow`.

use crate::client::Client;
use crate::{Error, Outcome};
use std::io::Write;

/// Prints records as they come, one JSON object a line, until the daemon stops or nobody reads. What was lost is told
/// on `err`.
pub(crate) async fn follow(
    client: &mut Client,
    out: &mut dyn Write,
    err: &mut dyn Write,
) -> Result<Outcome, Error> {
    let mut chunks = client.events().await?;
    while let Some(chunk) = chunks.next().await? {
        if chunk.lost > 0 {
            writeln!(err, "posternctl: {} records were lost here: this end is too slow", chunk.lost)?;
        }
        for record in &chunk.records {
            writeln!(out, "{record}")?;
        }
        out.flush()?;
    }
    Ok(Outcome::Done)
}
