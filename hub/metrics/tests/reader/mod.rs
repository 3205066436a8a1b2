//! Reads both texts, and refuses what their formats do not allow: a value without a type, a type told twice, a series
//! told twice, labels that are not quoted, histograms whose buckets shrink or do not add up.

use std::collections::{BTreeMap, BTreeSet};

use freewheel_hub_metrics::Format;

type Labels = BTreeSet<(String, String)>;

/// What was read.
#[derive(Debug, Default)]
pub struct Page {
    /// Types by the names of families, without `_total`.
    pub kinds: BTreeMap<String, String>,
    series: BTreeMap<(String, Labels), f64>,
}

impl Page {
    /// The value of a series.
    pub fn value(&self, name: &str, labels: &[(&str, &str)]) -> Option<f64> {
        self.series.get(&(name.to_owned(), owned(labels))).copied()
    }

    /// How many values of a histogram are at most this one.
    pub fn bucket(&self, family: &str, labels: &[(&str, &str)], bound: f64) -> Option<f64> {
        let (name, labels) = (format!("{family}_bucket"), owned(labels));
        let found = self.series.iter().find(|((of, all), _)| {
            *of == name
                && split(all)
                    .is_some_and(|(le, rest)| rest == labels && le.total_cmp(&bound).is_eq())
        });
        found.map(|(_, value)| *value)
    }

    fn check_histograms(&self) -> Result<(), String> {
        type Buckets = Vec<(f64, f64)>;
        let mut all: BTreeMap<(String, Labels), Buckets> = BTreeMap::new();
        for ((name, labels), value) in &self.series {
            let Some(family) = name.strip_suffix("_bucket") else { continue };
            let (bound, rest) = split(labels).ok_or_else(|| format!("{name} without le"))?;
            all.entry((family.to_owned(), rest)).or_default().push((bound, *value));
        }
        for ((family, labels), mut buckets) in all {
            buckets.sort_by(|a, b| a.0.total_cmp(&b.0));
            if !buckets.is_sorted_by(|a, b| a.1 <= b.1) {
                return Err(format!("the buckets of {family} shrink"));
            }
            let count = self.series.get(&(format!("{family}_count"), labels.clone()));
            let last = buckets.last().filter(|last| last.0.is_infinite()).map(|last| &last.1);
            if last.is_none() || last != count {
                return Err(format!("the buckets of {family} do not add up: {last:?}, {count:?}"));
            }
            if !self.series.contains_key(&(format!("{family}_sum"), labels)) {
                return Err(format!("{family} has no sum"));
            }
        }
        Ok(())
    }
}

fn owned(labels: &[(&str, &str)]) -> Labels {
    labels.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

fn split(labels: &Labels) -> Option<(f64, Labels)> {
    let (_, le) = labels.iter().find(|(name, _)| name == "le")?;
    let rest = labels.iter().filter(|(name, _)| name != "le").cloned().collect();
    Some((le.parse().ok()?, rest))
}

/// Reads a text.
pub fn read(text: &str, format: Format) -> Result<Page, String> {
    let body = match format {
        Format::Prometheus => text,
        Format::OpenMetrics => text.strip_suffix("# EOF\n").ok_or("it has no end")?,
    };
    if !body.is_empty() && !body.ends_with('\n') {
        return Err("the last line has no end".to_owned());
    }
    let mut page = Page::default();
    let mut family = (String::new(), String::new());
    for line in body.lines() {
        let wrong = |why: &str| format!("{why}: {line:?}");
        if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, kind) = rest.split_once(' ').ok_or_else(|| wrong("no type"))?;
            family = (base(name, kind, format).ok_or_else(|| wrong("no name"))?, kind.to_owned());
            if !matches!(kind, "counter" | "gauge" | "histogram") {
                return Err(wrong("no such type"));
            }
            if page.kinds.insert(family.0.clone(), family.1.clone()).is_some() {
                return Err(wrong("told twice"));
            }
        } else if line.starts_with("# HELP ") {
        } else {
            let (name, labels, value) = sample(line).ok_or_else(|| wrong("no sample"))?;
            let suffix = name.strip_prefix(&*family.0).ok_or_else(|| wrong("of no family"))?;
            let fits = match &*family.1 {
                "counter" => suffix == "_total",
                "histogram" => matches!(suffix, "_bucket" | "_sum" | "_count"),
                _ => suffix.is_empty(),
            };
            if !fits || page.series.insert((name.to_owned(), labels), value).is_some() {
                return Err(wrong("not of its family, or told twice"));
            }
        }
    }
    page.check_histograms()?;
    Ok(page)
}

/// A family's name: Prometheus' text says the suffix of counters with it, OpenMetrics' may not.
fn base(name: &str, kind: &str, format: Format) -> Option<String> {
    if !is_name(name) {
        return None;
    }
    let bare = name.strip_suffix("_total");
    match (kind, format) {
        ("counter", Format::Prometheus) => bare.map(str::to_owned),
        _ => bare.is_none().then(|| name.to_owned()),
    }
}

fn is_name(name: &str) -> bool {
    let rest = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
    !name.is_empty() && name.bytes().all(rest) && !name.as_bytes()[0].is_ascii_digit()
}

fn sample(line: &str) -> Option<(&str, Labels, f64)> {
    let end = line.find(['{', ' '])?;
    let (name, mut rest) = line.split_at(end);
    let mut labels = Labels::new();
    if let Some(inner) = rest.strip_prefix('{') {
        rest = inner;
        while !rest.starts_with('}') {
            let (label, after) = rest.split_once("=\"")?;
            let (value, after) = quoted(after)?;
            if !is_name(label) || !labels.insert((label.to_owned(), value)) {
                return None;
            }
            rest = after.strip_prefix(',').unwrap_or(after);
        }
        rest = rest.strip_prefix('}')?;
    }
    let value = rest.strip_prefix(' ')?;
    is_name(name).then_some(())?;
    Some((name, labels, value.parse().ok()?))
}

fn quoted(text: &str) -> Option<(String, &str)> {
    let mut value = String::new();
    let mut chars = text.char_indices();
    loop {
        match chars.next()? {
            (at, '"') => return Some((value, &text[at + 1..])),
            (_, '\\') => value.push(match chars.next()?.1 {
                'n' => '\n',
                escaped @ ('"' | '\\') => escaped,
                _ => return None,
            }),
            (_, plain) => value.push(plain),
        }
    }
}
