//! `cargo xtask conformance [CLASS|NAME…]`: upstream's conformance specs against a hub, and what it holds of them.
//!
//! ```text
//! spec     which there are, by class                  table    docs/conformance.md, and what may not be lost
//! server   a hub of its own, or kube-apiserver        queue    who runs what when
//! batch    one process of upstream's runner           outcome  what it told
//! content  JSON or protobuf
//! ```
//!
//! The runner is upstream's specs as one program (`tests/conformance/e2e`), built with Go once.

mod batch;
mod content;
mod outcome;
mod queue;
mod server;
mod spec;
mod table;

use std::path::Path;
use std::sync::atomic::AtomicUsize;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use clap::Args;
use freewheel_xtask_kit::command::{Stop, empty, root, target};
use freewheel_xtask_kit::{binaries, child, upstream};

use crate::kubectl;
use batch::Runner;
use content::Content;
use outcome::Outcome;
use queue::{Next, Queue};
use server::{Against, Server};
use spec::{CLASSES, Spec};
use table::{Outcomes, Table};

/// What `conformance` can be told.
#[derive(Args)]
pub struct Options {
    /// Classes (a1 a2 a-node b1 b2 b3 c; a, b for all with this letter) or parts of specs' names; class a when nothing is
    /// named
    words: Vec<String>,
    /// Whose API
    #[arg(long, value_enum, default_value = "hub")]
    against: Against,
    /// What the suite's clients speak
    #[arg(long, value_enum, default_value = "protobuf")]
    content: Content,
    /// Seconds that a spec may take; six times as long where it calls itself slow
    #[arg(long, default_value_t = 120, value_parser = clap::value_parser!(u64).range(1..=3600))]
    bound: u64,
    /// How many runners work at the same time
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u8).range(1..=64))]
    jobs: u8,
    /// How many spokes the hub has [default: 2 where a spec needs a node, else none]
    #[arg(long)]
    spokes: Option<u8>,
    /// Run the hub that is there instead of building what the checkout holds now
    #[arg(long)]
    built: bool,
    /// Write docs/conformance.md
    #[arg(long)]
    write: bool,
}

/// Runs the specs and judges.
pub fn run(options: &Options) -> Result<(), Stop> {
    let specs = spec::chosen(&options.words)?;
    if options.write && options.against == Against::Kube {
        return Err(Stop("docs/conformance.md tells of the hub, not of kube-apiserver".into()));
    }
    child::listen()?;
    let suite = upstream::suite()?;
    if options.against == Against::Hub && !options.built {
        binaries::build()?;
    }
    let (folder, kubectl) = (target().join("conformance"), kubectl::find()?);
    empty(&folder)?;
    let default = if specs.iter().any(|spec| spec.on_nodes) { 2 } else { 0 };
    let nodes = options.spokes.unwrap_or(default);
    let server = Server::start(options.against, &folder, &kubectl, nodes)?;
    let bound = Duration::from_secs(options.bound);
    let (content, batches) = (options.content, AtomicUsize::new(0));
    let runner = Runner { suite, kubectl, server: &server, content, bound, folder, batches };
    let page = root().join("docs/conformance.md");
    let mut table = Table::read(&std::fs::read_to_string(&page).unwrap_or_default());
    let mut outcomes = work(&runner, &specs, options.jobs)?;
    if options.against == Against::Hub {
        once_more(&runner, &specs, &table, &mut outcomes)?;
    }
    tell(&specs, &outcomes, content);
    println!("Logs are in {}", runner.folder.display());
    if options.against == Against::Kube {
        return Ok(());
    }
    keep(&page, &mut table, &outcomes, options)
}

/// Judges by the table, and writes what is new into it when that is asked for.
fn keep(
    page: &Path,
    table: &mut Table,
    outcomes: &Outcomes,
    options: &Options,
) -> Result<(), Stop> {
    let news = table.compare(outcomes, options.content);
    if options.write {
        table.take(outcomes, options.content);
        std::fs::write(page, table.render())
            .map_err(|e| Stop(format!("cannot write {}: {e}", page.display())))?;
    } else if !news.gained.is_empty() {
        println!("{} more hold than docs/conformance.md says; --write them", news.gained.len());
    }
    match news.lost.as_slice() {
        [] => Ok(()),
        lost => Err(Stop(format!(
            "lost what docs/conformance.md says is held:\n  {}",
            lost.join("\n  ")
        ))),
    }
}

/// Runs all of it, some at the same time.
fn work(runner: &Runner<'_>, specs: &[Spec], jobs: u8) -> Result<Outcomes, Stop> {
    let queue = Mutex::new(Queue::new(specs));
    let start = Instant::now();
    let lock = || queue.lock().unwrap_or_else(PoisonError::into_inner);
    let worker = || -> Result<(), Stop> {
        loop {
            let next = lock().next();
            let batch = match next {
                Next::Run(batch) => batch,
                Next::Wait => {
                    child::rest(Duration::from_millis(200))?;
                    continue;
                }
                Next::Done => return Ok(()),
            };
            let told = runner.run(&batch).inspect_err(|_| lock().give_up())?;
            let mut queue = lock();
            queue.done(&batch, &told.story, told.cut.as_deref());
            let (done, of, log) = (queue.outcomes.len(), specs.len(), told.log.display());
            println!("{done}/{of} after {:.0} s ({log})", start.elapsed().as_secs_f64());
        }
    };
    let results: Vec<Result<(), Stop>> = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..jobs).map(|_| scope.spawn(worker)).collect();
        workers.into_iter().filter_map(|worker| worker.join().ok()).collect()
    });
    results.into_iter().collect::<Result<(), Stop>>()?;
    Ok(std::mem::take(&mut lock().outcomes))
}

/// What is held according to the table and was lost beside others is run once more with nobody beside it: a machine
/// that is busy is no loss.
fn once_more(
    runner: &Runner<'_>,
    specs: &[Spec],
    table: &Table,
    outcomes: &mut Outcomes,
) -> Result<(), Stop> {
    let lost = table.compare(outcomes, runner.content).lost;
    let again: Vec<Spec> = specs.iter().copied().filter(|spec| lost.contains(&spec.name)).collect();
    if again.is_empty() {
        return Ok(());
    }
    println!("{} lost that were held; once more, one after the other …", again.len());
    outcomes.extend(work(runner, &again, 1)?);
    for spec in again.iter().filter(|spec| outcomes.get(spec.name) == Some(&Outcome::Held)) {
        println!("held at the second try only: {}", spec.name);
    }
    Ok(())
}

/// Prints what holds by class, and why the rest does not.
fn tell(specs: &[Spec], outcomes: &Outcomes, content: Content) {
    println!("\nin {}:", content.title());
    for class in &CLASSES {
        let of: Vec<&Spec> = specs.iter().filter(|spec| spec.class == class.name).collect();
        if of.is_empty() {
            continue;
        }
        let held = of.iter().filter(|spec| outcomes.get(spec.name) == Some(&Outcome::Held)).count();
        for spec in &of {
            if let Some(Outcome::Lost(why)) = outcomes.get(spec.name) {
                println!("lost: {}\n      {why}", spec.name);
            }
        }
        println!("{}: {held}/{}\n", class.name, of.len());
    }
}
