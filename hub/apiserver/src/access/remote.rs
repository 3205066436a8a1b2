//! Somebody else who is asked who callers are, or what they may do: a webhook, over which this crate knows nothing but
//! question and answer.
//!
//! Guarantees:
//! - so many questions are asked at a time and no more, and none is waited for longer than it may take
//!   (`who_does_not_answer_is_given_up_in_time`);
//! - who keeps somebody waiting in vain is left alone for a while by those of the same line, also by those who stand in it
//!   already (`who_stood_in_line_does_not_ask_who_hangs`), and then asked by one, however long that waits
//!   (`who_hangs_is_left_alone_and_asked_again_by_one`,
//!   `what_one_line_waited_for_in_vain_another_asks_and_an_answer_is_for_both`); who goes away without an answer was not
//!   that one (`who_goes_away_leaves_the_one_try_to_the_next`).

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use parking_lot::Mutex;
use serde_json::Value;
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout};

use super::question_figures::{Outcome, QuestionFigures};

/// Questions at a time, each on a connection of its own.
pub(crate) const QUESTIONS_MAX: usize = 32;
/// How long a question waits for its turn.
pub(crate) const TURN_TIMEOUT: Duration = Duration::from_secs(10);
/// How long an answer is waited for where nobody says so, as at kube-apiserver.
pub(crate) const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);
/// Who takes so long to fail holds somebody up; who fails sooner does not.
const SLOW_FAILURE_AFTER: Duration = Duration::from_secs(3);
/// How long nobody asks one that has just held somebody up in vain.
const FAILED_REMOTE_PAUSE: Duration = Duration::from_secs(10);

/// Answers reviews, in JSON.
#[async_trait]
pub trait Remote: Send + Sync {
    /// The review with its status.
    ///
    /// # Errors
    /// When there is no answer, in words for the log.
    async fn ask(&self, review: &Value) -> Result<Value, String>;
}

/// Why there is no answer. What has not been said is neither yes nor no: to ask again may help.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum NoAnswer {
    /// As much is asked as may be.
    #[error("too many questions are asked")]
    Crowded,
    /// In words for the log.
    #[error("{0}")]
    Failed(String),
}

/// Somebody who is asked so many questions at a time, and no more.
pub(crate) struct InTurn {
    turns: Semaphore,
    /// Of this line alone: what strangers wait for in vain keeps nobody else from asking.
    pause: Mutex<Option<Pause>>,
    one: Arc<One>,
}

/// Whoever is asked, by however many lines.
struct One {
    remote: Arc<dyn Remote>,
    limit: Duration,
    /// How often it has answered, whichever line.
    answers: AtomicU64,
    figures: Arc<QuestionFigures>,
}

/// It was found to hang, or is asked whether it does yet.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Pause {
    /// Until then nobody asks it; without an end, as long as one finds out.
    until: Option<Instant>,
    /// How many answers there were by then: one more ends it.
    answers: u64,
}

/// The one who finds out whether it hangs yet. Who goes away before they know leaves that to the next.
struct Trial<'a> {
    line: &'a InTurn,
    before: Pause,
    own: Pause,
}

impl Drop for Trial<'_> {
    fn drop(&mut self) {
        let mut pause = self.line.pause.lock();
        if *pause == Some(self.own) {
            *pause = Some(self.before);
        }
    }
}

impl InTurn {
    /// So many questions at a time, each of which is waited for so long.
    pub(crate) fn new(remote: Arc<dyn Remote>, most: usize, limit: Duration) -> Self {
        let (answers, figures) = (AtomicU64::default(), Arc::default());
        let one = Arc::new(One { remote, limit, answers, figures });
        Self { turns: Semaphore::new(most), pause: Mutex::default(), one }
    }

    /// Another line to the same one, with turns of its own.
    pub(crate) fn beside(&self, most: usize) -> Self {
        Self { turns: Semaphore::new(most), pause: Mutex::default(), one: self.one.clone() }
    }

    /// What has become of the questions.
    pub(crate) fn figures(&self) -> &Arc<QuestionFigures> {
        &self.one.figures
    }

    /// What is answered when it is this question's turn.
    ///
    /// # Errors
    /// When there is no answer, or too much is asked.
    pub(crate) async fn ask(&self, review: &Value) -> Result<Value, NoAnswer> {
        self.check()?;
        let turn = timeout(TURN_TIMEOUT, self.turns.acquire()).await;
        let _turn = turn.map_err(|_| NoAnswer::Crowded)?;
        // Those before may just have found out that it hangs.
        let _trial = self.trial()?;
        let One { remote, limit, answers, figures } = &*self.one;
        let began = Instant::now();
        let answer = timeout(*limit, remote.ask(review)).await;
        let took = began.elapsed();
        let (outcome, answer) = match answer {
            Ok(Ok(answer)) => {
                answers.fetch_add(1, Ordering::Relaxed);
                (Outcome::Success, Ok(answer))
            }
            Ok(Err(why)) => (Outcome::Error, Err(why)),
            Err(_) => {
                let why = format!("no answer within {} s", limit.as_secs_f64());
                (Outcome::Timeout, Err(why))
            }
        };
        figures.count(outcome, took);
        let hangs = answer.is_err() && SLOW_FAILURE_AFTER.min(*limit) <= took;
        *self.pause.lock() =
            hangs.then(|| self.pause_until(Some(Instant::now() + FAILED_REMOTE_PAUSE)));
        answer.map_err(NoAnswer::Failed)
    }

    fn pause_until(&self, until: Option<Instant>) -> Pause {
        Pause { until, answers: self.one.answers.load(Ordering::Relaxed) }
    }

    /// Lets nobody through while it pauses.
    fn check(&self) -> Result<(), NoAnswer> {
        self.ended(&mut self.pause.lock()).map(drop)
    }

    /// The same, and makes the first who comes after a pause the one who finds out.
    fn trial(&self) -> Result<Option<Trial<'_>>, NoAnswer> {
        let mut pause = self.pause.lock();
        let Some(before) = self.ended(&mut pause)? else { return Ok(None) };
        let own = self.pause_until(None);
        *pause = Some(own);
        Ok(Some(Trial { line: self, before, own }))
    }

    /// The pause that has ended by its time, where there was one that no answer has ended.
    fn ended(&self, pause: &mut Option<Pause>) -> Result<Option<Pause>, NoAnswer> {
        let answers = self.one.answers.load(Ordering::Relaxed);
        *pause = pause.filter(|pause| pause.answers == answers);
        let lasts = |pause: Pause| pause.until.is_none_or(|until| Instant::now() < until);
        if pause.is_some_and(lasts) {
            let why = "it has just not answered; it is asked again in some seconds";
            return Err(NoAnswer::Failed(why.to_owned()));
        }
        Ok(*pause)
    }
}

/// Reads documents of issuers of tokens, over HTTPS.
#[async_trait]
pub trait Fetch: Send + Sync {
    /// The document at an address.
    ///
    /// # Errors
    /// When there is none, in words for the log.
    async fn get(&self, url: &str) -> Result<Vec<u8>, String>;
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, AtomicUsize};

    use futures::FutureExt as _;
    use serde_json::json;

    use super::*;

    #[derive(Default)]
    struct Elsewhere {
        hangs: AtomicBool,
        asked: AtomicUsize,
    }

    #[async_trait]
    impl Remote for Elsewhere {
        async fn ask(&self, _: &Value) -> Result<Value, String> {
            self.asked.fetch_add(1, Ordering::SeqCst);
            if self.hangs.load(Ordering::SeqCst) {
                std::future::pending::<()>().await;
            }
            Ok(json!({}))
        }
    }

    fn hanging() -> (Arc<Elsewhere>, InTurn) {
        let remote = Arc::new(Elsewhere::default());
        remote.hangs.store(true, Ordering::SeqCst);
        let line = InTurn::new(remote.clone(), QUESTIONS_MAX, ANSWER_TIMEOUT);
        (remote, line)
    }

    #[tokio::test(start_paused = true)]
    async fn who_does_not_answer_is_given_up_in_time() {
        let (_remote, line) = hanging();
        let began = Instant::now();
        let why = line.ask(&json!({})).await.unwrap_err();
        assert_eq!(began.elapsed(), ANSWER_TIMEOUT);
        assert_eq!(why, NoAnswer::Failed("no answer within 30 s".to_owned()));
    }

    #[tokio::test(start_paused = true)]
    async fn who_hangs_is_left_alone_and_asked_again_by_one() {
        let (remote, line) = hanging();
        assert!(line.ask(&json!({})).await.is_err());
        let began = Instant::now();
        for _ in 0..100 {
            assert!(line.ask(&json!({})).await.is_err());
        }
        assert!(began.elapsed().is_zero(), "nobody waits for it");
        assert_eq!(remote.asked.load(Ordering::SeqCst), 1);
        tokio::time::sleep(FAILED_REMOTE_PAUSE).await;
        let review = json!({});
        // Some of them come while the one waits for longer than it was left alone.
        let all = (0..10_u32).map(|number| {
            let later = tokio::time::sleep(number * ANSWER_TIMEOUT / 10);
            later.then(|()| line.ask(&review))
        });
        let began = Instant::now();
        assert!(futures::future::join_all(all).await.iter().all(Result::is_err));
        assert_eq!((began.elapsed(), remote.asked.load(Ordering::SeqCst)), (ANSWER_TIMEOUT, 2));
        remote.hangs.store(false, Ordering::SeqCst);
        tokio::time::sleep(FAILED_REMOTE_PAUSE).await;
        for _ in 0..3 {
            assert!(line.ask(&json!({})).await.is_ok());
        }
    }

    #[tokio::test(start_paused = true)]
    async fn who_stood_in_line_does_not_ask_who_hangs() {
        let remote = Arc::new(Elsewhere::default());
        remote.hangs.store(true, Ordering::SeqCst);
        let line = InTurn::new(remote.clone(), 1, SLOW_FAILURE_AFTER);
        let (began, review) = (Instant::now(), json!({}));
        let all = (0..3).map(|_| line.ask(&review));
        assert!(futures::future::join_all(all).await.iter().all(Result::is_err));
        assert_eq!((began.elapsed(), remote.asked.load(Ordering::SeqCst)), (SLOW_FAILURE_AFTER, 1));
    }

    #[tokio::test(start_paused = true)]
    async fn who_goes_away_leaves_the_one_try_to_the_next() {
        let (remote, line) = hanging();
        assert!(line.ask(&json!({})).await.is_err());
        tokio::time::sleep(FAILED_REMOTE_PAUSE).await;
        assert!(line.ask(&json!({})).now_or_never().is_none(), "it is asked, and left");
        remote.hangs.store(false, Ordering::SeqCst);
        assert!(line.ask(&json!({})).await.is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn what_one_line_waited_for_in_vain_another_asks_and_an_answer_is_for_both() {
        let (remote, line) = hanging();
        let other = line.beside(1);
        assert!(line.ask(&json!({})).await.is_err());
        remote.hangs.store(false, Ordering::SeqCst);
        assert!(line.ask(&json!({})).await.is_err(), "it pauses");
        assert!(other.ask(&json!({})).await.is_ok());
        assert!(line.ask(&json!({})).await.is_ok());
    }
}
