//! Figures of the process, by the names that Prometheus' own clients give them; read when somebody looks.
//!
//! Guarantees:
//! - they are this process's, or not there at all (`figures_of_a_process_are_its_own`).

use std::fs;

use freewheel_hub_metrics::{MetricFamily, MetricKind, Metrics, Value};
use rustix::param::{clock_ticks_per_second, page_size};
use rustix::process::{Resource, getrlimit};

/// What the kernel says of a process in `/proc/PID/stat`.
#[derive(Debug, PartialEq)]
struct Stat {
    /// Ticks on a processor, in the program and in the kernel.
    ticks: u64,
    /// Tick of its start, since the machine's.
    started: u64,
    virtual_bytes: u64,
    resident_pages: u64,
}

impl Stat {
    fn read() -> Option<Self> {
        Self::parse(&fs::read_to_string("/proc/self/stat").ok()?)
    }

    fn parse(text: &str) -> Option<Self> {
        // The second field is the program's name in parentheses, which may hold anything; the next is the third.
        let fields: Vec<&str> = text.get(text.rfind(')')? + 1..)?.split_whitespace().collect();
        let field = |number: usize| fields.get(number - 3)?.parse::<u64>().ok();
        Some(Self {
            ticks: field(14)? + field(15)?,
            started: field(22)?,
            virtual_bytes: field(23)?,
            resident_pages: field(24)?,
        })
    }
}

/// Shows them.
pub fn show(metrics: &Metrics) {
    let one = |name, help, figure, read: fn() -> Option<Value>| {
        metrics.show(MetricFamily::one((name, help), figure, read));
    };
    let help = "Processor time in the program and in the kernel, in seconds";
    one("process_cpu_seconds", help, MetricKind::Counter, || seconds(Stat::read()?.ticks));
    let help = "Start of the process since the Unix epoch, in seconds";
    one("process_start_time_seconds", help, MetricKind::Gauge, started);
    one(
        "process_resident_memory_bytes",
        "Memory that is in use, in bytes",
        MetricKind::Gauge,
        || Some(Value::Whole(Stat::read()?.resident_pages * page_size() as u64)),
    );
    let help = "Memory that is mapped, in bytes";
    one("process_virtual_memory_bytes", help, MetricKind::Gauge, || {
        Some(Value::Whole(Stat::read()?.virtual_bytes))
    });
    one("process_open_fds", "Open files", MetricKind::Gauge, || {
        // Looking is one more.
        let open = fs::read_dir("/proc/self/fd").ok()?.count().saturating_sub(1);
        Some(Value::Whole(u64::try_from(open).ok()?))
    });
    one("process_max_fds", "Files that may be open", MetricKind::Gauge, || {
        Some(Value::Whole(getrlimit(Resource::Nofile).current?))
    });
}

#[expect(clippy::cast_precision_loss, reason = "2^53 ticks are millions of years")]
fn seconds(ticks: u64) -> Option<Value> {
    Some(Value::Real(ticks as f64 / clock_ticks_per_second() as f64))
}

fn started() -> Option<Value> {
    let machine = fs::read_to_string("/proc/stat").ok()?;
    let since = machine.lines().find_map(|line| line.strip_prefix("btime "))?;
    let ticks = since.trim().parse::<u64>().ok()? * clock_ticks_per_second();
    seconds(ticks + Stat::read()?.started)
}

#[cfg(test)]
mod tests {
    use freewheel_hub_metrics::Format;

    use super::*;

    #[test]
    fn figures_of_a_process_are_its_own() {
        let stat = "7 (a) b) S 1 7 7 0 -1 4 1 2 3 4 150 50 5 6 20 0 9 0 1000 4096 12 18446744073709551615 1";
        let expected = Stat { ticks: 200, started: 1000, virtual_bytes: 4096, resident_pages: 12 };
        assert_eq!(Stat::parse(stat), Some(expected));
        let metrics = Metrics::default();
        show(&metrics);
        let text = metrics.text(Format::Prometheus).unwrap();
        let value = |name: &str| -> f64 {
            let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
            line.unwrap_or_else(|| panic!("{name}\n{text}")).parse().unwrap()
        };
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
        let age = now.as_secs_f64() - value("process_start_time_seconds");
        assert!((-5.0..86_400.0).contains(&age), "{age}");
        assert!(0.0 <= value("process_cpu_seconds_total"));
        let (resident, mapped) =
            (value("process_resident_memory_bytes"), value("process_virtual_memory_bytes"));
        assert!(1e6 < resident && resident <= mapped, "{resident} {mapped}");
        let (open, most) = (value("process_open_fds"), value("process_max_fds"));
        assert!((3.0..=most).contains(&open), "{open} {most}");
    }
}
