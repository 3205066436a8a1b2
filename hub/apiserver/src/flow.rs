//! The room that every request passes: how many are under way at a time, of whom.
//!
//! ```text
//! a stranger's ─▶ strangers ─┐
//! GET, HEAD ────▶ reads ─────┤
//! watch, log ───▶ lasting ───┼─▶ answered ─▶ all of it is out, or the watch has ended: the passage is free
//! all else ─────▶ writes ────┘       └─ a large answer ─▶ room by the byte (heavy)
//! ```
//!
//! Each kind has a [pool](fair_pool) of its own, so that none of them takes another's, and in a pool users share. More
//! kinds, as upstream's priority levels, are more pools; other flows than users' are other names in them. Health is
//! asked without a passage: to restart a hub that is busy makes nothing better.
//!
//! Guarantees:
//! - requests under way are bounded, by kind and by user; who finds no passage waits for a while, among few, and is
//!   then told to ask again (`who_asks_for_more_than_a_share_is_told_to_come_back`,
//!   `requests_beyond_the_bound_come_back_later`);
//! - what lasts takes no passage of what does not, and is bounded itself
//!   (`what_lasts_takes_no_passage_of_what_does_not`).

mod fair_pool;
pub(crate) mod large_answers;
mod refusal;
pub(crate) mod workers;

use std::sync::Arc;
use std::time::Duration;

use freewheel_hub_schema::error::ApiError;
use http::Method;

use crate::authn::User;
use fair_pool::FairPool;
pub(crate) use fair_pool::PoolShare as Passage;
use large_answers::LargeAnswers;
use refusal::too_many;
use workers::Workers;

/// How many requests are under way at a time. A user who is alone gets three quarters.
#[derive(Clone, Debug)]
pub struct Bounds {
    /// Those that read.
    pub reads: usize,
    /// Those that write.
    pub writes: usize,
    /// Watches, logs and sessions.
    pub lasting: usize,
    /// Those of strangers.
    pub strangers: usize,
}

impl Default for Bounds {
    /// A request takes some 10 KiB beside what is on an account, so that all of them take less than the answers may.
    /// kube-apiserver's 400 and 200 are for threads that work; here most of those under way wait for a slow client.
    fn default() -> Self {
        Self { reads: 4_096, writes: 4_096, lasting: 16_384, strangers: 2_048 }
    }
}

/// What a request is, as far as others are concerned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Flow {
    Read,
    Write,
    /// It goes on until somebody ends it.
    Lasting,
}

impl Flow {
    /// Before more is known than its method.
    pub(crate) fn of(method: &Method) -> Self {
        if matches!(*method, Method::GET | Method::HEAD) { Self::Read } else { Self::Write }
    }
}

/// Whether what is asked for goes on until somebody ends it.
pub(crate) fn lasts(verb: &str, subresource: &str) -> bool {
    verb == "watch" || matches!(subresource, "log" | "proxy" | "portforward" | "exec" | "attach")
}

/// The room.
pub(crate) struct Flows {
    reads: Arc<FairPool>,
    writes: Arc<FairPool>,
    lasting: Arc<FairPool>,
    strangers: Arc<FairPool>,
    /// For large answers, by the byte.
    pub(crate) large_answers: LargeAnswers,
    /// For what takes milliseconds.
    pub(crate) workers: Workers,
}

impl Flows {
    /// With these bounds, and this patience for who reads nothing of a large answer.
    pub(crate) fn new(bounds: &Bounds, patience: Duration) -> Self {
        let [reads, writes, lasting, strangers] =
            [bounds.reads, bounds.writes, bounds.lasting, bounds.strangers]
                // Three of four are a share.
                .map(|number| FairPool::new(number.max(4)));
        let (large_answers, workers) = (LargeAnswers::new(patience), Workers::default());
        Self { reads, writes, lasting, strangers, large_answers, workers }
    }

    /// Waits for a passage.
    ///
    /// # Errors
    /// 429 when there is none for this user.
    pub(crate) async fn pass(&self, user: &User, flow: Flow) -> Result<Passage, ApiError> {
        let pool = match flow {
            _ if user.is_stranger() => &self.strangers,
            Flow::Read => &self.reads,
            Flow::Write => &self.writes,
            Flow::Lasting => &self.lasting,
        };
        pool.part(&user.name, 1).await.map_err(too_many)
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt as _;

    use super::*;
    use crate::authn::AUTHENTICATED;

    fn room() -> Flows {
        let bounds = Bounds { reads: 4, writes: 4, lasting: 4, strangers: 4 };
        Flows::new(&bounds, Duration::from_secs(30))
    }

    fn user(name: &str) -> User {
        let groups = vec![AUTHENTICATED.to_owned()];
        User { name: name.to_owned(), groups, ..User::default() }
    }

    fn pass(room: &Flows, user: &User, flow: Flow) -> Option<Passage> {
        room.pass(user, flow).now_or_never()?.ok()
    }

    #[tokio::test(start_paused = true)]
    async fn who_asks_for_more_than_a_share_is_told_to_come_back() {
        let (room, ann, bob) = (room(), user("ann"), user("bob"));
        let taken: Vec<_> = (0..3).map(|_| pass(&room, &ann, Flow::Write).unwrap()).collect();
        let refused = room.pass(&ann, Flow::Write).await.err().unwrap();
        assert_eq!((refused.code, refused.reason), (429, "TooManyRequests"));
        assert_eq!(refused.to_status()["details"]["retryAfterSeconds"], 1);
        let others = pass(&room, &bob, Flow::Write);
        assert!(others.is_some() && pass(&room, &bob, Flow::Write).is_none());
        drop(taken);
        assert!(pass(&room, &ann, Flow::Write).is_some());
    }

    #[tokio::test]
    async fn what_lasts_takes_no_passage_of_what_does_not() {
        let (room, ann, stranger) = (room(), user("ann"), User::anonymous());
        let all = |flow, user| {
            let mut taken = Vec::new();
            while let Some(passage) = pass(&room, user, flow) {
                taken.push(passage);
            }
            taken
        };
        let lasting = all(Flow::Lasting, &ann);
        let strangers = all(Flow::Read, &stranger);
        assert_eq!((lasting.len(), strangers.len()), (3, 3));
        assert_eq!((all(Flow::Read, &ann).len(), all(Flow::Write, &ann).len()), (3, 3));
        assert!(lasts("watch", "") && lasts("get", "log") && !lasts("list", ""));
    }
}
