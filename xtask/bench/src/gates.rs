//! `cargo xtask bench [NAME…]`: which gates there are, and those that are asked for, one after the other.

use clap::Args;
use freewheel_xtask_kit::child;
use freewheel_xtask_kit::command::Stop;

use crate::plan::Plan;
use crate::report::Report;
use crate::{api, device, fleet, http, lists, overload, simulated_fleet, start, stored};

/// What `bench` can be told.
#[derive(Args)]
pub struct Options {
    /// Which of P01 P02 P07 P13 P20 to P24 P20S P22S P23S P25 to P33 P40 P44 to P47, or of the groups api, device,
    /// fleet; all when none is named
    names: Vec<String>,
    /// Turns of each side; below five there is no verdict
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=100))]
    rounds: u32,
    /// Measure the programs that are there instead of building what the checkout holds now
    #[arg(long)]
    built: bool,
    /// Shorter turns and rests, for trying things out
    #[arg(long)]
    quick: bool,
    /// Simulated spokes of the fleet [default: 10000, 200 with --quick]; below 10,000 there is no verdict on what their
    /// number decides
    #[arg(long, value_parser = clap::value_parser!(u32).range(20..=200_000))]
    spokes: Option<u32>,
    /// Then twice as many, and again, up to this many, for as long as what their number decides holds
    #[arg(long)]
    most: Option<u32>,
}

/// A bench: its group, the gates it measures, and how. It tells of each as soon as it has it.
type Bench = (&'static str, &'static [&'static str], fn(Plan, &mut Report) -> Result<(), Stop>);

const BENCHES: [Bench; 10] = [
    ("device", &["P02"], device::size),
    ("api", &["P25", "P26", "P28"], api::run),
    ("api", &["P27", "P29"], lists::run),
    ("api", &["P30", "P31"], stored::run),
    ("api", &["P33"], overload::run),
    ("device", &["P01"], device::memory),
    ("device", &["P07", "P40"], start::run),
    ("device", &["P13"], http::run),
    ("fleet", &["P20S", "P22S", "P23S"], fleet::run),
    ("fleet", &simulated_fleet::IDS, simulated_fleet::run),
];

/// Measures and prints. After Ctrl-C no other bench begins, and what was measured is told.
pub fn run(options: &Options) -> Result<(), Stop> {
    let named = chosen(&options.names)?;
    child::listen()?;
    let spokes = options.spokes.unwrap_or(if options.quick { 200 } else { 10_000 });
    let most = options.most.unwrap_or(spokes);
    let Options { rounds, quick, built, .. } = *options;
    let plan = Plan { rounds, quick, built, spokes: (spokes, most) };
    let mut report = Report::of(plan, named);
    for (_, ids, bench) in BENCHES {
        if !ids.iter().any(|id| report.wants(id)) || child::go_on().is_err() {
            continue;
        }
        println!("\n== {}", ids.join(" "));
        if let Err(stop) = bench(plan, &mut report) {
            report.miss(ids, &stop)?;
        }
    }
    report.end()?;
    child::go_on()
}

/// The gates that are asked for, by name or by group.
fn chosen(names: &[String]) -> Result<Vec<&'static str>, Stop> {
    let ids = |wanted: &dyn Fn(&str, &str) -> bool| -> Vec<&'static str> {
        let all =
            BENCHES.iter().flat_map(|(group, ids, _)| ids.iter().map(move |id| (*group, *id)));
        all.filter(|(group, id)| wanted(group, id)).map(|(_, id)| id).collect()
    };
    if names.is_empty() {
        return Ok(ids(&|_, _| true));
    }
    let mut chosen = Vec::new();
    for name in names {
        let found =
            ids(&|group, id| name.eq_ignore_ascii_case(group) || name.eq_ignore_ascii_case(id));
        if found.is_empty() {
            let known = ids(&|_, _| true).join(" ");
            return Err(Stop(format!(
                "there is no bench {name}; there are {known}, api, device and fleet"
            )));
        }
        chosen.extend(found);
    }
    Ok(chosen)
}

#[cfg(test)]
mod tests {
    use super::chosen;
    use crate::simulated_fleet;

    #[test]
    fn gates_are_chosen_by_name_and_by_group() {
        let asked =
            |names: &[&str]| chosen(&names.iter().map(|n| (*n).to_owned()).collect::<Vec<_>>());
        assert_eq!(asked(&["p28"]).ok(), Some(vec!["P28"]));
        let api = ["P25", "P26", "P28", "P27", "P29", "P30", "P31", "P33"];
        assert_eq!(asked(&["api"]).ok(), Some(api.to_vec()));
        assert_eq!(
            asked(&["P02", "fleet"]).ok().map(|ids| ids.len()),
            Some(4 + simulated_fleet::IDS.len())
        );
        assert!(asked(&[]).is_ok_and(|ids| 10 < ids.len()));
        let error = asked(&["P99"]).err().map(|stop| stop.0).unwrap_or_default();
        assert!(error.contains("P99") && error.contains("P28"), "{error}");
    }
}
