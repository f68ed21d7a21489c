//! Lists of any length in little memory: an arena is scanned a slice at a time, and what is found goes to the client
//! in chunks over a short channel. A slow client slows the scan; one that hangs up ends it.

use std::ops::Range;
use tokio::sync::{OwnedSemaphorePermit, mpsc, watch};
use tonic::Status;

/// Indexes that are looked at before other tasks get their turn.
pub(super) const SLICE: u32 = 1024;
/// Rows of a chunk.
const CHUNK: usize = 128;
/// Chunks between the scan and the client.
pub(super) const CHANNEL: usize = 2;

/// What a stream of chunks `C` is read from.
pub(super) type Chunks<C> = mpsc::Receiver<Result<C, Status>>;

/// What a stream lives on: its place among the streams, and the news that the server stops.
pub(super) struct Life {
    pub(super) _place: OwnedSemaphorePermit,
    pub(super) closing: watch::Receiver<bool>,
}

/// Scans the indexes of `range` with `row`, and sends at most `limit` rows (0: all) in chunks made by `chunk`.
pub(super) fn list<T, C>(
    range: Range<u32>,
    limit: u64,
    row: impl Fn(u32) -> Option<T> + Send + 'static,
    chunk: impl Fn(Vec<T>) -> C + Send + 'static,
    mut life: Life,
) -> Chunks<C>
where
    T: Send + 'static,
    C: Send + 'static,
{
    let (sender, receiver) = mpsc::channel(CHANNEL);
    tokio::spawn(async move {
        scan(range, limit, row, chunk, &mut life, &sender).await;
    });
    receiver
}

async fn scan<T, C>(
    range: Range<u32>,
    limit: u64,
    row: impl Fn(u32) -> Option<T>,
    chunk: impl Fn(Vec<T>) -> C,
    life: &mut Life,
    sender: &mpsc::Sender<Result<C, Status>>,
) {
    let mut left = if limit == 0 { u64::MAX } else { limit };
    let mut rows = Vec::with_capacity(CHUNK);
    for index in range {
        if index % SLICE == 0 {
            tokio::task::yield_now().await;
            if sender.is_closed() {
                return;
            }
            // A rare match need not wait for others like it.
            if !rows.is_empty() && sender.capacity() == CHANNEL {
                let some = std::mem::replace(&mut rows, Vec::with_capacity(CHUNK));
                if !life.send(chunk(some), sender).await {
                    return;
                }
            }
        }
        let Some(found) = row(index) else { continue };
        rows.push(found);
        left -= 1;
        if rows.len() == CHUNK || left == 0 {
            let full = std::mem::replace(&mut rows, Vec::with_capacity(CHUNK));
            if !life.send(chunk(full), sender).await {
                return;
            }
        }
        if left == 0 {
            return;
        }
    }
    if !rows.is_empty() {
        life.send(chunk(rows), sender).await;
    }
}

impl Life {
    /// Sends a chunk when the client has room for it. False if the client is gone, or the server stops meanwhile: a
    /// client that never reads must not keep it.
    pub(super) async fn send<C>(&mut self, chunk: C, sender: &mpsc::Sender<Result<C, Status>>) -> bool {
        tokio::select! {
            sent = sender.send(Ok(chunk)) => sent.is_ok(),
            () = self.ended() => {
                let _ = sender.try_send(Err(stopping()));
                false
            }
        }
    }

    /// Waits until the server stops.
    pub(super) async fn ended(&mut self) {
        let _ = self.closing.wait_for(|closing| *closing).await; // the sender is gone: stop as well
    }
}

/// What a stream ends with that the server's end cuts short.
pub(super) fn stopping() -> Status {
    Status::unavailable("posternd is stopping")
}
