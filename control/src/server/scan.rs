//! Lists of any length in little memory: an arena is scanned a slice at a time, and what is found goes to the client
//! in chunks over a short channel. A slow client slows the scan; one that hangs up ends it.

use tokio::sync::{mpsc, watch};
use tonic::Status;

/// Indexes that are looked at before other tasks get their turn.
const SLICE: u32 = 1024;
/// Rows of a chunk.
const CHUNK: usize = 128;
/// Chunks between the scan and the client.
const CHANNEL: usize = 2;

/// What a stream of chunks `C` is read from.
pub(super) type Chunks<C> = mpsc::Receiver<Result<C, Status>>;

/// Scans indexes 0..`capacity` with `row`, and sends at most `limit` rows (0: all) in chunks made by `chunk`.
/// `closing` turns true when the server stops.
pub(super) fn list<T, C>(
    capacity: u32,
    limit: u64,
    row: impl Fn(u32) -> Option<T> + Send + 'static,
    chunk: impl Fn(Vec<T>) -> C + Send + 'static,
    closing: watch::Receiver<bool>,
) -> Chunks<C>
where
    T: Send + 'static,
    C: Send + 'static,
{
    let (sender, receiver) = mpsc::channel(CHANNEL);
    tokio::spawn(async move {
        scan(capacity, limit, row, chunk, closing, &sender).await;
    });
    receiver
}

async fn scan<T, C>(
    capacity: u32,
    limit: u64,
    row: impl Fn(u32) -> Option<T>,
    chunk: impl Fn(Vec<T>) -> C,
    mut closing: watch::Receiver<bool>,
    sender: &mpsc::Sender<Result<C, Status>>,
) {
    let mut left = if limit == 0 { u64::MAX } else { limit };
    let mut rows = Vec::with_capacity(CHUNK);
    for index in 0..capacity {
        if index % SLICE == 0 {
            tokio::task::yield_now().await;
            if sender.is_closed() {
                return;
            }
        }
        let Some(found) = row(index) else { continue };
        rows.push(found);
        left -= 1;
        if rows.len() == CHUNK || left == 0 {
            let full = std::mem::replace(&mut rows, Vec::with_capacity(CHUNK));
            if !send(chunk(full), sender, &mut closing).await {
                return;
            }
        }
        if left == 0 {
            return;
        }
    }
    if !rows.is_empty() {
        send(chunk(rows), sender, &mut closing).await;
    }
}

/// Sends a chunk when the client has room for it. False if the client is gone, or the server stops meanwhile: a client
/// that never reads must not keep it.
async fn send<C>(
    chunk: C,
    sender: &mpsc::Sender<Result<C, Status>>,
    closing: &mut watch::Receiver<bool>,
) -> bool {
    tokio::select! {
        sent = sender.send(Ok(chunk)) => sent.is_ok(),
        _ = closing.wait_for(|closing| *closing) => {
            let _ = sender.try_send(Err(Status::unavailable("posternd is stopping")));
            false
        }
    }
}
