//! What runs as long as the hub does. Half a hub would look alive and do half its work: the first part
//! that ends by itself ends them all.

use std::collections::HashMap;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use freewheel_hub_apiserver::Check;
use tokio::task::{Id, JoinSet};
use tokio_util::sync::CancellationToken;

use super::serve_error::ServeError;

/// Whether something holds by now.
#[derive(Clone, Default)]
pub struct Flag(Arc<AtomicBool>);

impl Flag {
    /// From now on it does, or does not.
    pub fn set(&self, holds: bool) {
        self.0.store(holds, Ordering::Release);
    }

    /// Whether it does.
    pub fn holds(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }

    /// A check of it that says `otherwise` while it does not hold.
    pub fn check(&self, otherwise: &'static str) -> impl Fn() -> Result<(), String> + use<> {
        let flag = self.clone();
        move || if flag.holds() { Ok(()) } else { Err(otherwise.to_owned()) }
    }
}

/// Holds as long as it lives.
struct Holding(Flag);

impl Drop for Holding {
    fn drop(&mut self) {
        self.0.set(false);
    }
}

/// The parts.
#[derive(Default)]
pub struct Tasks {
    running: JoinSet<io::Result<()>>,
    /// So that one that panicked has a name too.
    names: HashMap<Id, &'static str>,
}

impl Tasks {
    /// Starts one.
    pub fn start(
        &mut self,
        name: &'static str,
        part: impl Future<Output = io::Result<()>> + Send + 'static,
    ) {
        let id = self.running.spawn(part).id();
        self.names.insert(id, name);
    }

    /// Starts one that a check asks after: `runs` holds from now to its end.
    pub fn start_checked(
        &mut self,
        name: &'static str,
        runs: &Flag,
        part: impl Future<Output = io::Result<()>> + Send + 'static,
    ) {
        runs.set(true);
        let holding = Holding(runs.clone());
        self.start(name, async move {
            let _holding = holding;
            part.await
        });
    }

    /// The first that ends by itself.
    pub async fn first(&mut self) -> ServeError {
        let (id, why) = match self.running.join_next_with_id().await {
            Some(Ok((id, ended))) => (id, ended.err()),
            Some(Err(died)) => (died.id(), Some(io::Error::other(died))),
            None => return ServeError::Lost("whole", None),
        };
        ServeError::Lost(self.names.get(&id).copied().unwrap_or("unknown part"), why)
    }

    /// Waits for the rest; who has not ended in time ends with the process. Answers whether all did.
    pub async fn rest(&mut self, patience: Duration) -> bool {
        let all = async { while self.running.join_next().await.is_some() {} };
        tokio::time::timeout(patience, all).await.is_ok()
    }
}

/// Tasks as one part: it ends when one of them ends before it should, or when all have.
pub async fn together(mut tasks: JoinSet<()>, stop: CancellationToken) -> io::Result<()> {
    while let Some(ended) = tasks.join_next().await {
        if !stop.is_cancelled() {
            return ended.map_err(io::Error::other);
        }
    }
    Ok(())
}

/// What makes a hub alive and ready, beside its disk.
#[derive(Default)]
pub struct HealthSigns {
    /// The link's endpoint is open and served.
    pub gateway: Flag,
    /// Every controller runs.
    pub controllers: Flag,
    /// What clients look for is written.
    pub bootstrap: Flag,
}

impl HealthSigns {
    /// The checks of `/livez` and `/readyz`.
    pub fn checks(&self, stop: &CancellationToken) -> Vec<Check> {
        let stop = stop.clone();
        let stays = move || {
            if stop.is_cancelled() { Err("the hub is stopping".to_owned()) } else { Ok(()) }
        };
        vec![
            Check::of_liveness(
                "gateway",
                self.gateway.check("the link to the spokes is not served"),
            ),
            Check::of_liveness("controllers", self.controllers.check("not every controller runs")),
            Check::of_readiness("bootstrap", self.bootstrap.check("the hub is still starting")),
            Check::of_readiness("shutdown", stays),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_first_part_that_ends_is_named_with_its_reason() {
        let runs = Flag::default();
        let check = runs.check("gone");
        assert_eq!(check(), Err("gone".to_owned()));
        let mut parts = Tasks::default();
        parts.start("gateway", std::future::pending());
        let (end, ended) = tokio::sync::oneshot::channel::<()>();
        parts.start_checked("API server", &runs, async move {
            let _ = ended.await;
            Err(io::Error::other("out of descriptors"))
        });
        assert_eq!(check(), Ok(()));
        end.send(()).unwrap();
        let ServeError::Lost(name, Some(why)) = parts.first().await else { panic!("no reason") };
        assert_eq!((name, why.to_string().as_str()), ("API server", "out of descriptors"));
        assert_eq!(check(), Err("gone".to_owned()));
        assert!(!parts.rest(Duration::from_millis(1)).await, "the gateway has not ended");
    }

    #[tokio::test]
    async fn one_controller_that_ends_ends_them_all() {
        let stop = CancellationToken::new();
        let mut tasks = JoinSet::new();
        tasks.spawn(std::future::pending());
        tasks.spawn(async { panic!("a bug") });
        let mut parts = Tasks::default();
        parts.start("controllers", together(tasks, stop.clone()));
        let lost = parts.first().await;
        assert!(matches!(lost, ServeError::Lost("controllers", Some(_))), "{lost}");
    }

    #[tokio::test]
    async fn a_part_that_panics_has_a_name() {
        let mut parts = Tasks::default();
        parts.start("gateway", async { panic!("a bug") });
        let lost = parts.first().await;
        assert!(matches!(lost, ServeError::Lost("gateway", Some(_))), "{lost}");
    }

    #[tokio::test]
    async fn told_to_stop_it_waits_for_every_controller() {
        let stop = CancellationToken::new();
        let mut tasks = JoinSet::new();
        for _ in 0..3 {
            let stop = stop.clone();
            tasks.spawn(async move { stop.cancelled().await });
        }
        stop.cancel();
        assert!(together(tasks, stop).await.is_ok());
    }
}
