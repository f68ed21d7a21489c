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

/// Looks at the indexes of `range`, a slice in each turn, for an answer that is no stream.
///
/// # Errors
/// The server stops.
pub(super) async fn each(range: Range<u32>, life: &Life, mut look: impl FnMut(u32)) -> Result<(), Status> {
    for index in range {
        if index % SLICE == 0 {
            tokio::task::yield_now().await;
            if *life.closing.borrow() {
                return Err(stopping());
            }
        }
        look(index);
    }
    Ok(())
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

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;
    use std::pin::pin;
    use std::sync::Arc;
    use std::task::{Context, Poll, Waker};
    use tokio::sync::Semaphore;

    fn life(closing: &watch::Sender<bool>) -> Life {
        let place = Arc::new(Semaphore::new(1)).try_acquire_owned().unwrap();
        Life { _place: place, closing: closing.subscribe() }
    }

    /// Takes turns until the future is ready; `looked` is what they may look at. Answers the most of one turn, and how many
    /// turns there were.
    fn turns<T>(looked: &Cell<u32>, future: impl Future<Output = T>) -> (T, u32, u32) {
        let (mut future, mut cx) = (pin!(future), Context::from_waker(Waker::noop()));
        let (mut most, mut turns) = (0, 0);
        loop {
            let before = looked.get();
            let polled = future.as_mut().poll(&mut cx);
            most = most.max(looked.get() - before);
            turns += 1;
            if let Poll::Ready(answer) = polled {
                return (answer, most, turns);
            }
        }
    }

    #[test]
    fn no_turn_looks_at_more_than_a_slice() {
        let (sender, looked) = (watch::Sender::new(false), Cell::new(0));
        // Neither end is that of a slice.
        let (life, range) = (life(&sender), 7..100 * SLICE + 9);
        let (all, most, taken) = turns(&looked, each(range, &life, |_| looked.set(looked.get() + 1)));
        assert!(all.is_ok());
        assert_eq!((looked.get(), most, taken), (100 * SLICE + 2, SLICE, 101));
    }

    #[test]
    fn no_turn_of_a_list_looks_at_more_than_a_slice() {
        let (closing, looked) = (watch::Sender::new(false), Cell::new(0));
        let (sender, _receiver) = mpsc::channel(1_000);
        let mut life = life(&closing);
        let row = |index| {
            looked.set(looked.get() + 1);
            (index % 5_000 == 0).then_some(index)
        };
        let ((), most, _) =
            turns(&looked, scan(0..100 * SLICE, 0, row, |rows: Vec<u32>| rows, &mut life, &sender));
        assert_eq!((looked.get(), most), (100 * SLICE, SLICE));
    }

    #[test]
    fn the_end_of_the_server_ends_a_look_at_all() {
        let (sender, looked) = (watch::Sender::new(false), Cell::new(0));
        let life = life(&sender);
        let look = |index| {
            looked.set(looked.get() + 1);
            if index == 10 {
                sender.send_replace(true);
            }
        };
        let (ended, _, _) = turns(&looked, each(0..100 * SLICE, &life, look));
        assert_eq!(ended.map_err(|status| status.code()), Err(tonic::Code::Unavailable));
        assert_eq!(looked.get(), SLICE);
    }
}
