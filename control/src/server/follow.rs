//! Audit records for a client, as they are written. What it cannot take in time is lost to it: the writer never waits,
//! and here only two messages do.

use super::scan::{CHANNEL, Chunks, Life, stopping};
use crate::audit::Follower;
use control_api::v1::FollowEventsResponse;
use tokio::sync::mpsc;

/// Sends what `follower` gets until the client hangs up or the server stops.
pub(super) fn follow(mut follower: Follower, mut life: Life) -> Chunks<FollowEventsResponse> {
    let (sender, receiver) = mpsc::channel(CHANNEL);
    tokio::spawn(async move {
        loop {
            let followed = tokio::select! {
                followed = follower.next() => followed,
                () = sender.closed() => return,
                () = life.ended() => None,
            };
            let Some(followed) = followed else {
                let _ = sender.try_send(Err(stopping()));
                return;
            };
            let records = followed.records.iter().map(ToString::to_string).collect();
            if !life.send(FollowEventsResponse { lost: followed.lost, records }, &sender).await {
                return;
            }
        }
    });
    receiver
}
