//! One start of a container: its run, its end.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use freewheel_spoke_agent::ports::Exit;
use freewheel_spoke_net::{Listener, MAX_BACKLOG};
use tokio::sync::oneshot;
use tracing::debug;
use wasmtime::InstancePre;
use wasmtime_wasi::I32Exit;
use wasmtime_wasi::p2::bindings::CommandPre;

use crate::container::Container;
use crate::exit;
use crate::handler::Handler;
use crate::http::{DEFAULT_PORT, Pool, serve};
use crate::lanes::Lane;
use crate::metered::{self, GuestEnd};
use crate::module::Kind;
use crate::on_stack::OnStack;
use crate::preview1::Core;
use crate::shutdown::EndCause;
use crate::world::StoreData;

/// How long the clients of an HTTP container that was killed have to take their answers.
const KILLED_DRAIN_TIMEOUT: Duration = Duration::from_secs(1);

/// Ends with the container.
pub(crate) type Run = Pin<Box<dyn Future<Output = Exit> + Send>>;

impl Container {
    /// Runs it; `started` is called once it is up. A program needs nothing that waits before it is on its lane,
    /// so it is there already when this returns; all the rest happens in the future.
    pub(crate) fn run(self: Arc<Self>, started: impl FnOnce() + Send + 'static) -> Run {
        let module = self.module.clone();
        match &module.kind {
            Kind::Command(pre) => self.run_command(pre.clone(), started),
            Kind::Core(pre) => {
                let guest = self.clone().core(pre.clone(), started);
                self.program(guest)
            }
            Kind::Http(handler) => Box::pin(self.run_http(handler.clone(), module.least, started)),
        }
    }

    async fn run_http(
        self: Arc<Self>,
        handler: Arc<Handler>,
        least: usize,
        started: impl FnOnce() + Send + 'static,
    ) -> Exit {
        if !self.shutdown.begins() {
            return exit::killed(EndCause::Early);
        }
        let port = self.start.ports.first().copied().unwrap_or(DEFAULT_PORT);
        let any = std::net::SocketAddr::from(([0, 0, 0, 0], port));
        let listener = match self.pod.listen(any, MAX_BACKLOG) {
            Ok(listener) => listener,
            Err(error) => {
                let text = format!("cannot listen on the pod's port {port}: {error}");
                return exit::host_error(text);
            }
        };
        let pool = Pool::new(self.clone(), handler, least);
        started();
        self.serve(&pool, listener).await
    }

    fn run_command(
        self: Arc<Self>,
        pre: CommandPre<StoreData>,
        started: impl FnOnce() + Send + 'static,
    ) -> Run {
        let container = self.clone();
        let guest = async move {
            let store =
                container.map().map_err(Into::into).and_then(|mapped| container.store(mapped, 0));
            let mut store = match store {
                Ok(store) => store,
                Err(error) => return exit::of_store(&error, container.memory.take_refused()),
            };
            // Making the instance runs the guest's own code already: it may never come back from that.
            if !container.shutdown.begins() {
                return exit::killed(EndCause::Early);
            }
            started();
            let command = match pre.instantiate_async(&mut store).await {
                Ok(command) => command,
                Err(error) => return container.ended(Err(error)),
            };
            debug!(target: "freewheel::start", pod = container.start.id.pod, "guest main runs");
            let result = command.wasi_cli_run().call_run(&mut store).await;
            if result.as_ref().err().is_none_or(|error| error.is::<I32Exit>()) {
                store.data_mut().end();
            }
            container.ended(result)
        };
        self.program(guest)
    }

    /// A core program, from its start to its end.
    async fn core(
        self: Arc<Self>,
        pre: InstancePre<Core>,
        started: impl FnOnce() + Send + 'static,
    ) -> Exit {
        let mut store = match self.core_store() {
            Ok(store) => store,
            Err(error) => return exit::of_store(&error, self.memory.take_refused()),
        };
        // As of a component: a `start` section runs while the instance is made.
        if !self.shutdown.begins() {
            return exit::killed(EndCause::Early);
        }
        started();
        // All that it calls are files and its log; what needs more is polled in its lane (`preview1.rs`).
        let instance = match self.calls.run(pre.instantiate_async(&mut store)).await {
            Ok(instance) => instance,
            Err(error) => return self.ended(Err(error)),
        };
        let main = match instance.get_typed_func::<(), ()>(&mut store, "_start") {
            Ok(main) => main,
            Err(error) => return exit::start_error(format!("{error:#}")),
        };
        self.ended(self.calls.run(main.call_async(&mut store, ())).await.map(Ok))
    }

    /// Puts a program on its lane.
    fn program(self: Arc<Self>, guest: impl Future<Output = Exit> + Send + 'static) -> Run {
        let guest = match self.memory.stack() {
            Ok(stack) => OnStack::new(guest, stack, self.pages.clone()),
            Err(full) => {
                return Box::pin(std::future::ready(exit::out_of_memory(full.to_string())));
            }
        };
        let (tell, ended) = oneshot::channel();
        metered::run(self.runtimes.clone(), self.meter.clone(), guest, |outcome| {
            // Nobody waits any more only when the whole runtime goes.
            let _ = tell.send(outcome);
        });
        Box::pin(async move {
            match ended.await {
                Ok(GuestEnd::Done(exit)) => exit,
                Ok(GuestEnd::Failed(why)) => {
                    self.log.note(&format!("freewheel: the agent failed under the program: {why}"));
                    exit::host_error(format!("the agent failed under it: {why}"))
                }
                Ok(GuestEnd::Killed) | Err(_) => self.killed(),
            }
        })
    }

    /// How a program ended; its log says where, when it did not end by itself.
    fn ended(&self, result: wasmtime::Result<Result<(), ()>>) -> Exit {
        // Its own code may be that of a trap.
        let trapped = result.as_ref().err().filter(|error| !error.is::<I32Exit>());
        let trapped = trapped.map(exit::describe);
        let exit = exit::of_run(result, self.memory.take_refused());
        if let Some(text) = trapped.filter(|_| exit.code == exit::EXIT_TRAPPED) {
            self.log.note(&format!("freewheel: the module trapped: {text}"));
        }
        exit
    }

    async fn serve(&self, pool: &Arc<Pool>, listener: Arc<Listener>) -> Exit {
        self.shutdown.hears();
        let serving = serve(pool.clone(), listener.clone(), self.shutdown.stopping().clone());
        let mut serving = tokio_util::task::AbortOnDropHandle::new(
            self.runtimes.lane(Lane::Guests).spawn(serving),
        );
        let exit = tokio::select! {
            // Serving ends also because everything it served was killed.
            _ = &mut serving => return match self.shutdown.cause() {
                None => exit::completed(),
                Some(cause) => exit::killed(cause),
            },
            () = self.shutdown.killed().cancelled() => self.killed(),
        };
        listener.close();
        // Whoever asked still hears that it failed.
        let _ = tokio::time::timeout(KILLED_DRAIN_TIMEOUT, &mut serving).await;
        exit
    }

    fn killed(&self) -> Exit {
        exit::killed(self.shutdown.cause().unwrap_or(EndCause::Kill))
    }
}
