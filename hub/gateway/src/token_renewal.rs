//! Sees to it that a session looks at tokens of its pods before they end.

use std::convert::Infallible;
use std::time::Duration;

use freewheel_hub_plan::{Changes, SpokePlan};
use tokio::select;
use tokio::time::sleep;
use tracing::debug;

use crate::live_session::Session;
use crate::pod_tokens::{LIFE_MAX, TokenCache};
use crate::sync_signal::SyncSignal;

impl Session<'_> {
    fn tokens(&self) -> (&TokenCache, &str, i64) {
        (&self.inner.tokens, &self.identity.uid, self.inner.objects.clock().unix_seconds())
    }

    /// After a look: drops what was for pods that are gone.
    pub(crate) fn tidy_tokens(&self, plan: &SpokePlan) {
        let (cache, spoke, _) = self.tokens();
        cache.retain(spoke, plan.tokens());
        if !plan.tokens().is_empty() {
            self.tokens_looked_at.notify_one();
        }
    }

    /// Has the next look ask for what is due.
    pub(crate) async fn keep_tokens(&self, signal: &SyncSignal) -> Infallible {
        loop {
            let (cache, spoke, now) = self.tokens();
            let (due, stuck) = cache.take_due(spoke, now);
            for cluster in &stuck {
                let Some(signer) = cache.signer() else { continue };
                if let Err(error) = signer.prepare(cluster).await {
                    debug!(%cluster, %error, "there is no key for tokens");
                }
            }
            if !due.is_empty() {
                signal.note(Changes { config: due.into_iter().collect(), ..Changes::default() });
                signal.raise();
            }
            let wait = cache.next_due(spoke).map(|due| due.saturating_sub(now).max(1));
            let wait = wait.map_or(LIFE_MAX, i64::unsigned_abs);
            select! {
                () = self.tokens_looked_at.notified() => {}
                () = sleep(Duration::from_secs(wait)) => {}
            }
        }
    }
}
