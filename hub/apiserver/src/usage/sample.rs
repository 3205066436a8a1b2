//! One answer of a device, and what came of it since the answer before.
//!
//! A device tells counters of processor time; what is used is how far they got between two answers. A container that
//! the answer before does not know, or knows from an earlier start, has begun at nothing since. What counts backwards
//! has no figure until the next answer.
//!
//! When a device was asked, the hub's clock says: in the middle between the question and the end of its answer.
//!
//! Guarantees:
//! - processor time is what was used in the window (`processor_time_is_what_was_used_in_the_window`);
//! - a device speaks for pods of no other cluster, and of two pods of one name the newer is told
//!   (`a_device_speaks_for_its_own_pods`);
//! - what is kept of an answer is counted (`what_is_kept_is_counted`);
//! - whatever a device says, it is read about as fast as it comes (`an_answer_of_many_containers_is_read_at_once`).

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use freewheel_link::figures::{ContainerUseV1, DeviceV1, Figures, PodUseV1};
use freewheel_link::names::ClusterName;
use tokio::time::Instant;

/// What a pod, a container or a map's place for it takes beside its names.
const EACH_BYTES: usize = 128;

/// What is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Use {
    /// Of processors, in billionths of one.
    pub(crate) cpu_nanos: u64,
    /// In bytes.
    pub(crate) memory: u64,
}

/// A counter, and how far it got since the answer before.
#[derive(Clone, Copy, Debug, Default)]
struct Counted {
    total: u64,
    /// Nothing when there is no answer before, or it counted further.
    since: Option<u64>,
}

/// Realm, namespace and name.
type PodName = (ClusterName, Box<str>, Box<str>);

/// What a device said.
#[derive(Debug)]
pub(crate) struct Sample {
    /// When it was asked.
    pub(crate) asked: Asked,
    /// The same in Unix seconds.
    pub(crate) time: i64,
    /// How long after the answer before.
    pub(crate) window: Option<Duration>,
    /// Processor time in nanoseconds.
    busy: Counted,
    memory: u64,
    pods: BTreeMap<PodName, Arc<PodUse>>,
}

/// How an answer came.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Asked {
    /// In the middle of that.
    pub(crate) at: Instant,
    /// From the question to its end.
    pub(crate) took: Duration,
}

/// What a pod takes.
#[derive(Debug)]
pub(crate) struct PodUse {
    window: Option<Duration>,
    containers: Vec<ContainerUse>,
}

#[derive(Debug)]
struct ContainerUse {
    name: Box<str>,
    /// By the device's clock, which tells its starts apart.
    started: u64,
    cpu: Counted,
    memory: u64,
}

impl Counted {
    fn after(total: u64, before: Option<u64>) -> Self {
        Self { total, since: before.and_then(|before| total.checked_sub(before)) }
    }

    /// Billionths of a processor.
    fn rate(self, window: Option<Duration>) -> Option<u64> {
        let (used, window) = (u128::from(self.since?), window?.as_nanos());
        let rate = (used * 1_000_000_000).checked_div(window)?;
        Some(u64::try_from(rate).unwrap_or(u64::MAX))
    }
}

impl Sample {
    /// From what this device told, after what it said before.
    pub(crate) fn read(
        figures: &[Figures],
        spoke: &ClusterName,
        (asked, time): (Asked, i64),
        before: Option<&Self>,
    ) -> Self {
        let window = before.map(|before| asked.at.saturating_duration_since(before.asked.at));
        let unknown = DeviceV1::default();
        let (mut device, mut pods) = (&unknown, BTreeMap::<_, (u64, &PodUseV1)>::new());
        for one in figures {
            match one {
                Figures::Device(own) => device = own,
                Figures::Pod(pod) if pod.realm.is_root() || pod.realm == *spoke => {
                    let name = (pod.realm.clone(), (&*pod.namespace).into(), (&*pod.name).into());
                    let started = started(pod);
                    if pods.get(&name).is_none_or(|(other, _)| *other <= started) {
                        pods.insert(name, (started, pod));
                    }
                }
                Figures::Pod(_) | Figures::Gate(_) => {}
            }
        }
        let pods = pods.into_iter().map(|(name, (_, pod))| {
            let before = before.map(|before| before.pods.get(&name).map(|pod| &*pod.containers));
            let pod = PodUse::read(&pod.containers, window, before.map(Option::unwrap_or_default));
            (name, Arc::new(pod))
        });
        Self {
            asked,
            time,
            window,
            busy: Counted::after(
                device.busy_ms.saturating_mul(1_000_000),
                before.map(|before| before.busy.total),
            ),
            memory: device.working_set,
            pods: pods.collect(),
        }
    }

    /// What the machine takes.
    pub(crate) fn device(&self) -> Option<Use> {
        Some(Use { cpu_nanos: self.busy.rate(self.window)?, memory: self.memory })
    }

    /// What a pod takes that has something to show.
    pub(crate) fn pod(
        &self,
        realm: &ClusterName,
        namespace: &str,
        name: &str,
    ) -> Option<Arc<PodUse>> {
        let pod = self.pods.get(&(realm.clone(), namespace.into(), name.into()))?;
        pod.containers().next().is_some().then(|| pod.clone())
    }

    /// About the bytes that it takes.
    pub(crate) fn bytes(&self) -> usize {
        let of_pod = |(name, pod): (&PodName, &Arc<PodUse>)| {
            let (realm, namespace, name) = name;
            let names = realm.as_str().len() + namespace.len() + name.len();
            let containers = pod.containers.iter().map(|one| EACH_BYTES + one.name.len());
            2 * EACH_BYTES + names + containers.sum::<usize>()
        };
        size_of::<Self>() + self.pods.iter().map(of_pod).sum::<usize>()
    }
}

impl PodUse {
    /// After what was known of its containers; of the first answer nobody knows anything.
    fn read(
        uses: &[ContainerUseV1],
        window: Option<Duration>,
        before: Option<&[ContainerUse]>,
    ) -> Self {
        let before = before.map(|all| {
            let totals = all.iter().map(|one| ((&*one.name, one.started), one.cpu.total));
            totals.collect::<HashMap<_, _>>()
        });
        let containers = uses.iter().map(|one| {
            let total = |all: &HashMap<_, u64>| {
                all.get(&(&*one.name, one.started)).copied().unwrap_or_default()
            };
            let before = before.as_ref().map(total);
            ContainerUse {
                cpu: Counted::after(one.cpu_ns, before),
                started: one.started,
                memory: one.memory,
                name: one.name.as_str().into(),
            }
        });
        Self { window, containers: containers.collect() }
    }

    /// What each container takes, by its name.
    pub(crate) fn containers(&self) -> impl Iterator<Item = (&str, Use)> {
        self.containers.iter().filter_map(|one| {
            let cpu_nanos = one.cpu.rate(self.window)?;
            Some((&*one.name, Use { cpu_nanos, memory: one.memory }))
        })
    }
}

/// When the youngest of its containers was started.
fn started(pod: &PodUseV1) -> u64 {
    pod.containers.iter().map(|one| one.started).max().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    const MILLI: u64 = 1_000_000;

    fn pi() -> ClusterName {
        ClusterName::try_from("pi-7").unwrap()
    }

    fn pod(realm: &str, name: &str, containers: &[(&str, u64, u64)]) -> Figures {
        let container = |(name, started, cpu_ns): &(&str, u64, u64)| ContainerUseV1 {
            name: (*name).to_owned(),
            started: *started,
            cpu_ns: *cpu_ns,
            memory: 7,
            ..ContainerUseV1::default()
        };
        Figures::Pod(PodUseV1 {
            realm: ClusterName::try_from(realm).unwrap(),
            namespace: "default".to_owned(),
            name: name.to_owned(),
            containers: containers.iter().map(container).collect(),
        })
    }

    fn device(busy_ms: u64) -> Figures {
        Figures::Device(DeviceV1 { busy_ms, working_set: 9, ..DeviceV1::default() })
    }

    /// Told so long after the one before.
    fn after(before: Option<&Sample>, window: Duration, told: &[Figures]) -> Sample {
        let at = before.map_or_else(Instant::now, |before| before.asked.at) + window;
        let asked = Asked { at, took: Duration::ZERO };
        Sample::read(told, &pi(), (asked, 1_800_000_000), before)
    }

    fn of(sample: &Sample, realm: &str, name: &str) -> Option<Vec<(String, u64)>> {
        let pod = sample.pod(&ClusterName::try_from(realm).unwrap(), "default", name)?;
        Some(pod.containers().map(|(name, one)| (name.to_owned(), one.cpu_nanos)).collect())
    }

    #[test]
    fn processor_time_is_what_was_used_in_the_window() {
        let told = |busy, containers: &[_]| vec![device(busy), pod("root", "a", containers)];
        let nothing = Duration::ZERO;
        let first = after(None, nothing, &told(1_000, &[("web", 5, 400 * MILLI), ("old", 1, 9)]));
        assert_eq!((first.device(), of(&first, "root", "a")), (None, None));
        let next = told(1_500, &[("web", 5, 600 * MILLI), ("new", 9, 40 * MILLI)]);
        let next = after(Some(&first), Duration::from_secs(2), &next);
        assert_eq!(next.window, Some(Duration::from_secs(2)));
        assert_eq!(next.device(), Some(Use { cpu_nanos: 250 * MILLI, memory: 9 }));
        let expected = vec![("web".to_owned(), 100 * MILLI), ("new".to_owned(), 20 * MILLI)];
        assert_eq!(of(&next, "root", "a"), Some(expected));
        // It was started again, and the machine, too.
        let again = told(10, &[("web", 20, 30 * MILLI), ("new", 9, 1)]);
        let again = after(Some(&next), Duration::from_secs(3), &again);
        let expected = vec![("web".to_owned(), 10 * MILLI)];
        assert_eq!((again.device(), of(&again, "root", "a")), (None, Some(expected)));
        let same = after(Some(&again), nothing, &told(10, &[("web", 20, 30 * MILLI)]));
        assert_eq!((same.device(), of(&same, "root", "a")), (None, None), "no time has passed");
    }

    #[test]
    fn a_device_speaks_for_its_own_pods() {
        let told = |cpu: u64| {
            vec![
                device(0),
                pod("root", "a", &[("web", 1, cpu)]),
                pod("pi-7", "a", &[("web", 1, 2 * cpu)]),
                pod("pi-8", "a", &[("web", 1, cpu)]),
                pod("root", "twice", &[("web", 8, cpu), ("young", 9, cpu)]),
                pod("root", "twice", &[("web", 1, cpu), ("old", 2, cpu)]),
                pod("root", "empty", &[]),
            ]
        };
        let first = after(None, Duration::ZERO, &told(0));
        let sample = after(Some(&first), Duration::from_secs(1), &told(5));
        let one = |name: &str, cpu| (name.to_owned(), cpu);
        assert_eq!(of(&sample, "root", "a"), Some(vec![one("web", 5)]));
        assert_eq!(of(&sample, "pi-7", "a"), Some(vec![one("web", 10)]));
        assert_eq!(of(&sample, "pi-8", "a"), None);
        assert_eq!(of(&sample, "root", "twice"), Some(vec![one("web", 5), one("young", 5)]));
        assert_eq!((of(&sample, "root", "empty"), of(&sample, "root", "b")), (None, None));
    }

    #[test]
    fn an_answer_of_many_containers_is_read_at_once() {
        let names = |prefix: &str| -> Vec<_> {
            (0..32_000).map(|at| format!("{prefix}-{at:05}")).collect()
        };
        let told = |prefix: &str| {
            let names = names(prefix);
            let containers: Vec<_> = names.iter().map(|name| (&**name, 1, MILLI)).collect();
            vec![pod("root", "a", &containers)]
        };
        let first = after(None, Duration::ZERO, &told("a"));
        let second = told("b");
        let began = std::time::Instant::now();
        let next = after(Some(&first), Duration::from_secs(1), &second);
        assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
        assert_eq!(of(&next, "root", "a").unwrap().len(), 32_000);
        // Nor is it counted anew how old a pod is for each other one of its name.
        let mut again = told("c");
        again.extend((0..32_000).map(|_| pod("root", "a", &[])));
        let began = std::time::Instant::now();
        let next = after(Some(&next), Duration::from_secs(1), &again);
        assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
        assert_eq!(of(&next, "root", "a").unwrap().len(), 32_000);
    }

    #[test]
    fn what_is_kept_is_counted() {
        let name = "n".repeat(60);
        let containers: Vec<_> = (0..100).map(|_| (&*name, 1, 1)).collect();
        let small = after(None, Duration::ZERO, &[device(0)]).bytes();
        let large = after(None, Duration::ZERO, &[device(0), pod("root", "a", &containers)]);
        let least = 100 * (size_of::<ContainerUse>() + name.len());
        assert!((least..2 * least).contains(&(large.bytes() - small)), "{}", large.bytes());
    }
}
