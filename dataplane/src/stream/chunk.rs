//! The memory of a worker's streams: one slab of equal chunks, and queues of bytes that are chained from them.
//!
//! Nothing grows: the slab is reserved when the worker starts, and a queue that finds it empty says so. A queue that is
//! dropped without [`Queue::clear`] would keep its chunks, hence whoever owns one clears it.

/// Bytes that one chunk holds.
pub const CHUNK: usize = 248;

/// The end of a chain.
const NONE: u32 = u32::MAX;

#[derive(Clone)]
struct Chunk {
    next: u32,
    start: u16,
    end: u16,
    data: [u8; CHUNK],
}

const _: () = assert!(size_of::<Chunk>() == 256);

/// The slab of one worker.
pub struct Pool {
    chunks: Box<[Chunk]>,
    free: u32,
    left: u32,
    /// Chunks that [`Queue::push_new`] leaves.
    kept_back: usize,
}

impl Pool {
    /// Room for `chunks` chunks of [`CHUNK`] bytes.
    #[must_use]
    pub fn new(chunks: u32) -> Self {
        let chunks = chunks.min(NONE - 1);
        let next = |i: u32| if i + 1 < chunks { i + 1 } else { NONE };
        Self {
            chunks: (0..chunks)
                .map(|i| Chunk { next: next(i), start: 0, end: 0, data: [0; CHUNK] })
                .collect(),
            free: if chunks == 0 { NONE } else { 0 },
            left: chunks,
            kept_back: 0,
        }
    }

    /// Chunks that nobody holds.
    #[must_use]
    pub const fn left(&self) -> usize {
        self.left as usize
    }

    /// All chunks.
    #[must_use]
    pub const fn capacity(&self) -> usize {
        self.chunks.len()
    }

    /// So many chunks are not for what comes: what is decided, or repeated, needs some too.
    pub const fn keep_back(&mut self, chunks: usize) {
        self.kept_back = chunks;
    }

    fn take(&mut self) -> Option<u32> {
        let index = self.free;
        let chunk = self.chunks.get_mut(index as usize)?;
        self.free = chunk.next;
        self.left -= 1;
        (chunk.next, chunk.start, chunk.end) = (NONE, 0, 0);
        Some(index)
    }

    /// Gives a chunk back; answers the one that followed it.
    fn give(&mut self, index: u32) -> u32 {
        let Some(chunk) = self.chunks.get_mut(index as usize) else { return NONE };
        let next = chunk.next;
        chunk.next = self.free;
        self.free = index;
        self.left += 1;
        next
    }
}

/// Bytes in a row.
#[derive(Debug)]
pub struct Queue {
    head: u32,
    tail: u32,
    len: u32,
    chunks: u32,
}

impl Default for Queue {
    fn default() -> Self {
        Self { head: NONE, tail: NONE, len: 0, chunks: 0 }
    }
}

impl Queue {
    /// Bytes in it.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.len as usize
    }

    /// Nothing is in it.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Chunks that it takes.
    #[must_use]
    pub const fn chunks(&self) -> u32 {
        self.chunks
    }

    /// Bytes that its last chunk has room for.
    fn room(&self, pool: &Pool) -> usize {
        pool.chunks.get(self.tail as usize).map_or(0, |c| CHUNK - usize::from(c.end))
    }

    /// Adds bytes that have just come, as [`Self::push`] does, of what the slab does not keep back.
    #[must_use]
    pub fn push_new(&mut self, pool: &mut Pool, bytes: &[u8]) -> bool {
        let fresh = bytes.len().saturating_sub(self.room(pool)).div_ceil(CHUNK);
        let fits = fresh == 0 || fresh.saturating_add(pool.kept_back) <= pool.left();
        fits && self.push(pool, bytes)
    }

    /// Adds bytes at the end. False, and nothing changed, if the slab has no room.
    #[must_use]
    pub fn push(&mut self, pool: &mut Pool, mut bytes: &[u8]) -> bool {
        if bytes.len().saturating_sub(self.room(pool)).div_ceil(CHUNK) > pool.left() {
            return false;
        }
        // Each turn fills a chunk or ends.
        while !bytes.is_empty() {
            let full = pool.chunks.get(self.tail as usize).is_none_or(|c| usize::from(c.end) == CHUNK);
            if full {
                let Some(fresh) = pool.take() else { return false };
                match pool.chunks.get_mut(self.tail as usize) {
                    Some(last) => last.next = fresh,
                    None => self.head = fresh,
                }
                self.tail = fresh;
                self.chunks += 1;
            }
            let Some(chunk) = pool.chunks.get_mut(self.tail as usize) else { return false };
            let room = chunk.data.get_mut(usize::from(chunk.end)..).unwrap_or_default();
            let (now, later) = bytes.split_at(bytes.len().min(room.len()));
            if let Some(place) = room.get_mut(..now.len()) {
                place.copy_from_slice(now);
            }
            #[expect(clippy::cast_possible_truncation, reason = "at most one chunk")]
            {
                chunk.end += now.len() as u16;
                self.len += now.len() as u32;
            }
            bytes = later;
        }
        true
    }

    /// Takes bytes off the front: `n`, or all that there are.
    pub fn drop_front(&mut self, pool: &mut Pool, n: usize) {
        let mut left = n.min(self.len());
        while left > 0 {
            let Some(chunk) = pool.chunks.get_mut(self.head as usize) else { break };
            let here = usize::from(chunk.end - chunk.start).min(left);
            #[expect(clippy::cast_possible_truncation, reason = "at most one chunk")]
            {
                chunk.start += here as u16;
                self.len -= here as u32;
            }
            left -= here;
            if chunk.start == chunk.end {
                self.head = pool.give(self.head);
                self.chunks -= 1;
            }
        }
        if self.len == 0 {
            self.clear(pool);
        }
    }

    /// Copies bytes from `at` on into `out`. Answers how many there were.
    pub fn copy(&self, pool: &Pool, at: usize, out: &mut [u8]) -> usize {
        let (mut skip, mut done, mut index) = (at, 0, self.head);
        while let Some(chunk) = pool.chunks.get(index as usize)
            && done < out.len()
        {
            let bytes = chunk.data.get(usize::from(chunk.start)..usize::from(chunk.end)).unwrap_or_default();
            let rest = bytes.get(skip.min(bytes.len())..).unwrap_or_default();
            skip = skip.saturating_sub(bytes.len());
            let n = rest.len().min(out.len() - done);
            if let (Some(to), Some(from)) = (out.get_mut(done..done + n), rest.get(..n)) {
                to.copy_from_slice(from);
            }
            done += n;
            index = chunk.next;
        }
        done
    }

    /// Whether `bytes` stand at `at`, as far as the queue reaches.
    #[must_use]
    pub fn agrees(&self, pool: &Pool, at: usize, mut bytes: &[u8]) -> bool {
        let (mut skip, mut index) = (at, self.head);
        while let Some(chunk) = pool.chunks.get(index as usize)
            && !bytes.is_empty()
        {
            let here = chunk.data.get(usize::from(chunk.start)..usize::from(chunk.end)).unwrap_or_default();
            let rest = here.get(skip.min(here.len())..).unwrap_or_default();
            skip = skip.saturating_sub(here.len());
            let (now, later) = bytes.split_at(rest.len().min(bytes.len()));
            if !rest.starts_with(now) {
                return false;
            }
            bytes = later;
            index = chunk.next;
        }
        true
    }

    /// Puts all of `other` behind what is here. Few bytes go where there is room for them: who sends one by one, out of their
    /// order, must not have a chunk for each.
    pub fn append(&mut self, pool: &mut Pool, other: &mut Self) {
        let mut other = core::mem::take(other);
        if !self.is_empty() && other.len() <= self.room(pool) {
            let mut bytes = [0; CHUNK];
            let len = other.copy(pool, 0, &mut bytes);
            other.clear(pool);
            // There is room.
            let _ = self.push(pool, bytes.get(..len).unwrap_or_default());
            return;
        }
        match pool.chunks.get_mut(self.tail as usize) {
            None => *self = other,
            Some(_) if other.is_empty() => {}
            Some(last) => {
                last.next = other.head;
                self.tail = other.tail;
                self.len += other.len;
                self.chunks += other.chunks;
            }
        }
    }

    /// Gives everything back.
    pub fn clear(&mut self, pool: &mut Pool) {
        let mut index = self.head;
        while index != NONE {
            index = pool.give(index);
        }
        *self = Self::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn all(q: &Queue, pool: &Pool) -> Vec<u8> {
        let mut out = vec![0; q.len()];
        assert_eq!(q.copy(pool, 0, &mut out), q.len());
        out
    }

    #[test]
    fn a_queue_that_does_not_fit_stays_as_it_was_and_the_slab_comes_back_whole() {
        let mut pool = Pool::new(3);
        let (mut a, mut b) = (Queue::default(), Queue::default());
        assert!(a.push(&mut pool, &[1; CHUNK + 1]));
        assert!(!b.push(&mut pool, &[2; CHUNK + 1]), "one chunk is left");
        assert_eq!((b.len(), pool.left()), (0, 1));
        assert!(a.push(&mut pool, &[3; CHUNK - 1]), "the last chunk of the queue has room of its own");
        assert_eq!(pool.left(), 1);
        a.drop_front(&mut pool, CHUNK);
        assert_eq!((a.len(), pool.left()), (CHUNK, 2));
        a.clear(&mut pool);
        assert_eq!((a.len(), pool.left()), (0, 3));
    }

    #[test]
    fn what_comes_leaves_what_is_kept_back() {
        let mut pool = Pool::new(4);
        pool.keep_back(2);
        let mut queue = Queue::default();
        assert!(queue.push_new(&mut pool, &[1; 2 * CHUNK - 1]));
        assert!(!queue.push_new(&mut pool, b"two"), "a third chunk");
        assert!(queue.push_new(&mut pool, b"1"), "its own chunk has room");
        assert!(queue.push(&mut pool, &[3; 2 * CHUNK]), "for what is decided");
        assert_eq!((queue.chunks(), pool.left()), (4, 0));
        queue.clear(&mut pool);
        pool.keep_back(usize::MAX);
        assert!(!queue.push_new(&mut pool, b"1"), "nothing at all");
    }

    #[test]
    fn bytes_that_come_one_by_one_share_their_chunks() {
        let mut pool = Pool::new(2);
        let mut queue = Queue::default();
        for n in 0..CHUNK {
            let mut one = Queue::default();
            assert!(one.push(&mut pool, &[n as u8]));
            queue.append(&mut pool, &mut one);
        }
        assert_eq!((queue.chunks(), pool.left()), (1, 1));
        assert_eq!(all(&queue, &pool), (0..CHUNK).map(|n| n as u8).collect::<Vec<_>>());
    }

    #[derive(Clone, Debug)]
    enum Op {
        Push(Vec<u8>),
        Drop(usize),
        Append(Vec<u8>),
    }

    fn op() -> impl Strategy<Value = Op> {
        let bytes = || proptest::collection::vec(any::<u8>(), 0..600);
        prop_oneof![
            bytes().prop_map(Op::Push),
            (0usize..700).prop_map(Op::Drop),
            bytes().prop_map(Op::Append),
        ]
    }

    proptest! {
        /// A queue is a `VecDeque`, whatever is done to it.
        #[test]
        fn it_keeps_bytes_in_order(ops in proptest::collection::vec(op(), 0..40), at in 0usize..100) {
            let mut pool = Pool::new(200);
            let mut queue = Queue::default();
            let mut model = Vec::new();
            for op in ops {
                match op {
                    Op::Push(bytes) => {
                        if queue.push(&mut pool, &bytes) { model.extend(bytes); }
                    }
                    Op::Drop(n) => {
                        queue.drop_front(&mut pool, n);
                        model.drain(..n.min(model.len()));
                    }
                    Op::Append(bytes) => {
                        let mut other = Queue::default();
                        if other.push(&mut pool, &bytes) { model.extend(bytes); }
                        queue.append(&mut pool, &mut other);
                    }
                }
                prop_assert_eq!(all(&queue, &pool), model.clone());
                prop_assert_eq!(queue.chunks() as usize, pool.capacity() - pool.left());
                let mut some = [0; 50];
                let n = queue.copy(&pool, at, &mut some);
                prop_assert_eq!(&some[..n], &model[at.min(model.len())..(at + 50).min(model.len())]);
                prop_assert!(queue.agrees(&pool, at, &some[..n]));
                if n > 0 {
                    some[n - 1] ^= 1;
                    prop_assert!(!queue.agrees(&pool, at, &some[..n]));
                }
            }
            queue.clear(&mut pool);
            prop_assert_eq!(pool.left(), pool.capacity());
        }
    }
}
