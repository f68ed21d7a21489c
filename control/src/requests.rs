//! What the control socket asks of the control core. A short channel between them: who asks waits for room, the core
//! takes one request a turn and never waits for anybody.

use crate::config::{Config, Report};
use dataplane::event::Ref;
use tokio::sync::{mpsc, oneshot};

/// Requests that may wait.
const WAITING: usize = 4;
/// Most sessions of one request.
pub const MOST_SESSIONS: usize = 1_024;

/// A candidate that was compiled once already, to know that it is right.
#[derive(Debug)]
pub struct Candidate {
    /// Its name.
    pub name: String,
    /// Its text.
    pub text: String,
    /// What it says.
    pub config: Config,
}

/// Why a candidate was not taken up. Nothing changed.
#[derive(Debug, PartialEq, Eq)]
pub enum Refused {
    /// It cannot be compiled.
    Broken(Report),
    /// It changes what needs a restart: one sentence each.
    Restart(Vec<String>),
    /// The audit log that it names cannot be opened.
    Audit(String),
}

/// What is asked. Who asked may be gone when the answer comes.
#[derive(Debug)]
pub enum Request {
    /// Close these sessions.
    Clear(Clear),
    /// Put this policy in force; the answer is its generation.
    Commit(Box<Candidate>, oneshot::Sender<Result<u32, Refused>>),
}

/// Sessions to close.
#[derive(Debug)]
pub struct Clear {
    sessions: std::vec::IntoIter<Ref>,
    asked: u64,
    done: oneshot::Sender<u64>,
}

impl Clear {
    /// The first session that is left; it stays the first until [`Self::asked`] or [`Self::skip`].
    #[must_use]
    pub fn first(&self) -> Option<Ref> {
        self.sessions.as_slice().first().copied()
    }

    /// Its owner was asked.
    pub fn asked(&mut self) {
        self.asked += 1;
        self.skip();
    }

    /// It has ended by itself.
    pub fn skip(&mut self) {
        self.sessions.next();
    }

    /// All of them were asked for: says how many there were.
    pub fn finish(self) {
        let _ = self.done.send(self.asked); // nobody waits any more
    }
}

/// The asking end. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Requests(mpsc::Sender<Request>);

/// The core's end.
#[derive(Debug)]
pub struct Inbox(mpsc::Receiver<Request>);

/// Nobody answers: the gateway is ending.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the gateway is stopping")]
pub struct Stopping;

/// The two ends of a channel.
#[must_use]
pub fn channel() -> (Requests, Inbox) {
    let (sender, receiver) = mpsc::channel(WAITING);
    (Requests(sender), Inbox(receiver))
}

impl Inbox {
    /// The next request, if there is one. Never waits.
    pub fn take(&mut self) -> Option<Request> {
        self.0.try_recv().ok()
    }
}

impl Requests {
    /// Asks to close these sessions (at most [`MOST_SESSIONS`]; what is beyond is left alone). Answers how many owners
    /// were asked.
    ///
    /// # Errors
    /// The core has ended.
    pub async fn clear(&self, mut sessions: Vec<Ref>) -> Result<u64, Stopping> {
        sessions.truncate(MOST_SESSIONS);
        let (done, answer) = oneshot::channel();
        let clear = Clear { sessions: sessions.into_iter(), asked: 0, done };
        self.0.send(Request::Clear(clear)).await.map_err(|_| Stopping)?;
        answer.await.map_err(|_| Stopping)
    }

    /// Asks to put a candidate in force. Answers its generation, or why not.
    ///
    /// # Errors
    /// The core has ended.
    pub async fn commit(&self, candidate: Candidate) -> Result<Result<u32, Refused>, Stopping> {
        let (done, answer) = oneshot::channel();
        self.0.send(Request::Commit(Box::new(candidate), done)).await.map_err(|_| Stopping)?;
        answer.await.map_err(|_| Stopping)
    }
}
