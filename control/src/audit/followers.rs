//! Those who read the records as they are written: a ring that the writer overwrites. The writer never waits, and pays
//! nothing while nobody reads; who reads too slowly loses the oldest records, and is told how many.

use std::sync::Arc;
use tokio::sync::broadcast;
use tokio::sync::broadcast::error::{RecvError, TryRecvError};

/// Records that the ring holds.
pub const RING: usize = 4_096;
/// Most records of one [`Follower::next`].
pub const BATCH: usize = 64;

/// The writing end. Cheap to clone: an audit log that replaces another takes its followers over.
#[derive(Clone, Debug)]
pub struct Followers(broadcast::Sender<Arc<str>>);

/// One reader.
#[derive(Debug)]
pub struct Follower {
    ring: broadcast::Receiver<Arc<str>>,
    /// Lost, and not told yet.
    owed: u64,
}

/// What a reader gets.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Followed {
    /// Records lost before these.
    pub lost: u64,
    /// Records, the oldest first; may be empty when some were lost.
    pub records: Vec<Arc<str>>,
}

impl Default for Followers {
    fn default() -> Self {
        Self(broadcast::Sender::new(RING))
    }
}

impl Followers {
    /// A reader of all that is written from now on.
    #[must_use]
    pub fn follow(&self) -> Follower {
        Follower { ring: self.0.subscribe(), owed: 0 }
    }

    /// Whether anybody reads.
    #[must_use]
    pub fn any(&self) -> bool {
        self.0.receiver_count() > 0
    }

    /// Gives a record to all readers.
    pub fn tell(&self, record: &str) {
        let _ = self.0.send(Arc::from(record)); // nobody reads: nothing is lost
    }
}

impl Follower {
    /// The next records, as soon as there is one. None after the writer's end.
    pub async fn next(&mut self) -> Option<Followed> {
        let mut followed = Followed { lost: std::mem::take(&mut self.owed), records: Vec::new() };
        while followed.records.is_empty() {
            match self.ring.recv().await {
                Ok(record) => followed.records.push(record),
                Err(RecvError::Lagged(lost)) => followed.lost += lost,
                Err(RecvError::Closed) => return None,
            }
        }
        while followed.records.len() < BATCH {
            match self.ring.try_recv() {
                Ok(record) => followed.records.push(record),
                Err(TryRecvError::Lagged(lost)) => {
                    self.owed = lost; // they stand after these records: told with the next ones
                    break;
                }
                Err(TryRecvError::Empty | TryRecvError::Closed) => break,
            }
        }
        Some(followed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::pin::pin;
    use std::task::{Context, Poll, Waker};

    /// What is there already.
    fn next(follower: &mut Follower) -> Option<Followed> {
        match pin!(follower.next()).poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(followed) => followed,
            Poll::Pending => None,
        }
    }

    #[test]
    fn everybody_gets_everything_from_the_moment_they_follow() {
        let followers = Followers::default();
        assert!(!followers.any());
        followers.tell("before");
        let mut a = followers.follow();
        followers.tell("1");
        let mut b = followers.follow();
        followers.clone().tell("2");
        assert_eq!(next(&mut a).unwrap().records, ["1".into(), "2".into()] as [Arc<str>; 2]);
        assert_eq!(next(&mut b).unwrap().records, ["2".into()] as [Arc<str>; 1]);
        assert_eq!(next(&mut a), None);
        drop((a, b));
        assert!(!followers.any());
    }

    #[test]
    fn who_is_slow_loses_the_oldest_and_is_told_how_many() {
        let followers = Followers::default();
        let mut slow = followers.follow();
        let all = RING + 1_000;
        for n in 0..all {
            followers.tell(&n.to_string());
        }
        let (mut lost, mut got) = (0, Vec::new());
        while let Some(followed) = next(&mut slow) {
            assert!(followed.records.len() <= BATCH);
            if got.is_empty() {
                assert_eq!(followed.lost, 1_000);
            }
            lost += followed.lost;
            got.extend(followed.records);
        }
        assert_eq!((lost, got.len()), (1_000, RING));
        assert_eq!((&*got[0], &*got[RING - 1]), ("1000", &*(all - 1).to_string()));
    }

    #[test]
    fn a_loss_stands_where_it_happened() {
        let followers = Followers::default();
        let mut slow = followers.follow();
        followers.tell("first");
        assert_eq!(next(&mut slow).unwrap(), Followed { lost: 0, records: vec!["first".into()] });
        (0..=RING).for_each(|n| followers.tell(&n.to_string()));
        let followed = next(&mut slow).unwrap();
        assert_eq!((followed.lost, &*followed.records[0]), (1, "1"));
    }
}
