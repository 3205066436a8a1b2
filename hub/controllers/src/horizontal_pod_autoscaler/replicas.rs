//! How many replicas one metric asks for: pure.
//!
//! Computed in floating point, as upstream does, so that both come to the same number.
//!
//! ```text
//! pods ─▶ ending: left out
//!      ─▶ pending, or warming up (processor time only): count as idle when there are to be more
//!      ─▶ without a sample: count as idle when there are to be more, as busy as wanted when fewer
//!      ─▶ the rest: usage to target is how many times as many there are to be
//! ```
//!
//! Guarantees:
//! - what is unready or unknown makes a change smaller and never turns it round
//!   (`unready_pods_hold_back_a_scale_up`, `missing_pods_hold_back_both_ways`);
//! - a small difference changes nothing (`a_small_difference_changes_nothing`).

use std::collections::BTreeMap;

use jiff::Timestamp;

use super::pods::{NoRequest, ScaledPod, Stage};
use super::samples::PodSample;

/// How far usage may be from its target without a change, as a share of that.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Tolerance {
    /// Above.
    pub up: f64,
    /// Below.
    pub down: f64,
}

/// What is to be measured of pods.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resource {
    /// `cpu`, `memory`
    pub name: String,
    /// Of one container, or of all.
    pub container: Option<String>,
}

/// What it is to be on average.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// So many percent of what is requested.
    Utilization(i32),
    /// So many thousandths.
    Average(i64),
}

/// What a metric comes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Usage {
    /// How many replicas it asks for.
    pub replicas: i32,
    /// Percent of what is requested, where that is asked.
    pub percent: Option<i32>,
    /// Thousandths of the resource on average.
    pub average: i64,
}

/// Why it comes to nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoUsage {
    /// No pod has a sample.
    #[error(
        "unable to get metrics for resource {0}: no metrics returned from resource metrics API"
    )]
    NoSamples(String),
    /// There are no pods.
    #[error("no pods returned by selector while calculating replica count")]
    NoPods,
    /// No sample counts.
    #[error("did not receive metrics for targeted pods (pods might be unready)")]
    NoneCounts,
    /// Something requests nothing.
    #[error(transparent)]
    NoRequest(#[from] NoRequest),
    /// All of them together request nothing.
    #[error("no metrics returned matched known pods")]
    NothingRequested,
}

/// What all pods of a target are at one moment.
#[derive(Clone, Copy, Debug)]
pub struct Observed<'a> {
    /// The pods.
    pub pods: &'a [ScaledPod],
    /// What is known of them.
    pub samples: &'a [PodSample],
    /// How many replicas are wanted so far.
    pub current: i32,
    /// Now.
    pub now: Timestamp,
}

impl Tolerance {
    fn covers(self, ratio: f64) -> bool {
        1.0 - self.down <= ratio && ratio <= 1.0 + self.up
    }
}

/// Thousandths by the names of pods.
type Amounts<'a> = BTreeMap<&'a str, i64>;

/// How many replicas a resource asks for.
pub fn replicas(
    observed: &Observed<'_>,
    resource: &Resource,
    target: Target,
    tolerance: Tolerance,
) -> Result<Usage, NoUsage> {
    let Observed { pods, samples, current, .. } = *observed;
    if samples.is_empty() {
        return Err(NoUsage::NoSamples(resource.name.clone()));
    }
    if pods.is_empty() {
        return Err(NoUsage::NoPods);
    }
    let mut groups = Groups::of(observed, resource);
    if groups.counted.is_empty() {
        return Err(NoUsage::NoneCounts);
    }
    let requests = requests(pods, resource, target)?;
    let told = Ratio::of(&groups.counted, &requests, target)?;
    let usage = |replicas| Usage { replicas, percent: told.percent, average: told.average };
    let (up, down) = (1.0 < told.ratio, told.ratio < 1.0);
    let has_unready = up && !groups.unready.is_empty();
    if !has_unready && groups.missing.is_empty() {
        let same = tolerance.covers(told.ratio);
        return Ok(usage(if same { current } else { times(told.ratio, groups.counted.len()) }));
    }
    for name in std::mem::take(&mut groups.missing).into_iter().filter(|_| up || down) {
        let request = requests.get(name).copied().unwrap_or_default();
        groups.counted.insert(name, if up { 0 } else { as_wanted(target, request) });
    }
    if has_unready {
        groups.counted.extend(groups.unready.iter().map(|name| (*name, 0)));
    }
    let again = Ratio::of(&groups.counted, &requests, target)?.ratio;
    let turned = (down && 1.0 < again) || (up && again < 1.0);
    if turned || tolerance.covers(again) {
        return Ok(usage(current));
    }
    let replicas = times(again, groups.counted.len());
    let turned = (again < 1.0 && current < replicas) || (1.0 < again && replicas < current);
    Ok(usage(if turned { current } else { replicas }))
}

/// Of one that nobody knows, when there may be fewer.
fn as_wanted(target: Target, request: i64) -> i64 {
    match target {
        Target::Average(wanted) => wanted,
        Target::Utilization(percent) => request.saturating_mul(percent.max(100).into()) / 100,
    }
}

/// What pods count as.
struct Groups<'a> {
    counted: Amounts<'a>,
    unready: Vec<&'a str>,
    missing: Vec<&'a str>,
}

impl<'a> Groups<'a> {
    fn of(observed: &Observed<'a>, resource: &Resource) -> Self {
        let samples: BTreeMap<&str, &PodSample> =
            observed.samples.iter().map(|sample| (&*sample.name, sample)).collect();
        let (is_cpu, container) = (resource.name == "cpu", resource.container.as_deref());
        let mut all = Self { counted: BTreeMap::new(), unready: Vec::new(), missing: Vec::new() };
        for pod in observed.pods {
            let known = samples
                .get(&*pod.name)
                .and_then(|sample| Some((*sample, sample.milli(&resource.name, container)?)));
            match (pod.stage, known) {
                (Stage::Ending, _) => {}
                (Stage::Pending, _) => all.unready.push(&pod.name),
                (Stage::Started, None) => all.missing.push(&pod.name),
                (Stage::Started, Some((sample, _)))
                    if is_cpu && pod.is_warming_up(sample, observed.now) =>
                {
                    all.unready.push(&pod.name);
                }
                (Stage::Started, Some((_, amount))) => {
                    all.counted.insert(&pod.name, amount);
                }
            }
        }
        all
    }
}

/// What pods request, where that is asked: of all of them, also those that end.
fn requests<'a>(
    pods: &'a [ScaledPod],
    resource: &Resource,
    target: Target,
) -> Result<Amounts<'a>, NoRequest> {
    if matches!(target, Target::Average(_)) {
        return Ok(Amounts::new());
    }
    let container = resource.container.as_deref();
    pods.iter().map(|pod| Ok((&*pod.name, pod.request(&resource.name, container)?))).collect()
}

/// How usage is to its target.
#[derive(Clone, Copy)]
struct Ratio {
    ratio: f64,
    percent: Option<i32>,
    average: i64,
}

impl Ratio {
    #[expect(clippy::cast_precision_loss, reason = "as upstream counts: in floating point")]
    fn of(amounts: &Amounts<'_>, requests: &Amounts<'_>, target: Target) -> Result<Self, NoUsage> {
        let total: i128 = amounts.values().map(|amount| i128::from(*amount)).sum();
        let average = total / i128::try_from(amounts.len()).unwrap_or(1).max(1);
        let average = i64::try_from(average).unwrap_or(i64::MAX);
        let wanted = match target {
            Target::Average(wanted) => {
                let ratio = average as f64 / wanted as f64;
                return Ok(Self { ratio, percent: None, average });
            }
            Target::Utilization(percent) => percent,
        };
        let request = |name: &&str| requests.get(*name).map(|request| i128::from(*request));
        let requested: i128 = amounts.keys().filter_map(request).sum();
        let percent = total.saturating_mul(100).checked_div(requested);
        let percent = percent.ok_or(NoUsage::NothingRequested)?;
        let percent = i32::try_from(percent).unwrap_or(i32::MAX);
        let ratio = f64::from(percent) / f64::from(wanted);
        Ok(Self { ratio, percent: Some(percent), average })
    }
}

/// So many times as many pods, rounded up.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    reason = "more than can be counted are the most that can be"
)]
fn times(ratio: f64, pods: usize) -> i32 {
    (ratio * pods as f64).ceil() as i32
}

#[cfg(test)]
#[path = "replicas_tests.rs"]
mod tests;
