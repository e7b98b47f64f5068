//! A page of metrics, read strictly: whatever OpenMetrics forbids fails the test.

use std::collections::{BTreeMap, BTreeSet};

/// All samples of a page.
#[derive(Debug)]
pub(crate) struct Exposition {
    /// Kind by the name of the family.
    pub(crate) kinds: BTreeMap<String, String>,
    pub(crate) samples: Vec<Sample>,
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Sample {
    pub(crate) name: String,
    pub(crate) labels: BTreeMap<String, String>,
    pub(crate) value: f64,
}

impl Sample {
    pub(crate) fn label(&self, name: &str) -> &str {
        self.labels.get(name).map_or("", String::as_str)
    }
}

impl Exposition {
    pub(crate) fn parse(page: &str) -> Self {
        let lines = page.strip_suffix("# EOF\n").expect("an end");
        let mut this = Self {
            kinds: BTreeMap::new(),
            samples: Vec::new(),
        };
        let (mut family, mut helped) = (String::new(), String::new());
        for line in lines.lines() {
            if let Some(rest) = line.strip_prefix("# HELP ") {
                let (name, help) = rest.split_once(' ').expect("a name and help");
                assert!(!help.is_empty() && !this.kinds.contains_key(name), "{line}");
                helped = name.to_owned();
            } else if let Some(rest) = line.strip_prefix("# TYPE ") {
                let (name, kind) = rest.split_once(' ').expect("a name and a kind");
                assert_eq!(name, helped, "help comes first: {line}");
                this.kinds.insert(name.to_owned(), kind.to_owned());
                family = name.to_owned();
            } else {
                let sample = sample(line);
                let kind = this.kinds.get(&family).expect("a kind");
                let ending = sample.name.strip_prefix(&family);
                let ending = ending.unwrap_or_else(|| panic!("{line} in `{family}`"));
                let endings: &[&str] = match &**kind {
                    "counter" => &["_total"],
                    "info" => &["_info"],
                    "gauge" => &[""],
                    "histogram" => &["_bucket", "_sum", "_count"],
                    kind => panic!("no kind `{kind}`"),
                };
                assert!(endings.contains(&ending), "{line} is no {kind}");
                this.samples.push(sample);
            }
        }
        this.check();
        this
    }

    /// Each sample is there once, and histograms add up.
    fn check(&self) {
        let mut seen = BTreeSet::new();
        let mut last: BTreeMap<(String, BTreeMap<String, String>), f64> = BTreeMap::new();
        for sample in &self.samples {
            let known = seen.insert((&sample.name, format!("{:?}", sample.labels)));
            assert!(known, "twice: {sample:?}");
            if let Some(family) = sample.name.strip_suffix("_bucket") {
                let mut labels = sample.labels.clone();
                let bound = labels.remove("le").expect("a bound");
                let count = self.value(&format!("{family}_count"), &labels);
                let before = last.insert((family.to_owned(), labels), sample.value);
                assert!(before.unwrap_or(0.0) <= sample.value, "{sample:?}");
                if bound == "+Inf" {
                    assert_eq!(Some(sample.value), count, "{sample:?}");
                }
            }
        }
    }

    fn value(&self, name: &str, labels: &BTreeMap<String, String>) -> Option<f64> {
        let is_it = |sample: &&Sample| sample.name == name && sample.labels == *labels;
        self.samples.iter().find(is_it).map(|sample| sample.value)
    }

    /// The samples of a name that have these labels.
    pub(crate) fn with(&self, name: &str, labels: &[(&str, &str)]) -> Vec<&Sample> {
        let has = |sample: &&Sample| {
            let mut labels = labels.iter();
            sample.name == name && labels.all(|(name, value)| sample.label(name) == *value)
        };
        self.samples.iter().filter(has).collect()
    }

    /// Their sum.
    pub(crate) fn sum(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        let found = self.with(name, labels);
        found.iter().map(|sample| sample.value).sum()
    }
}

fn sample(line: &str) -> Sample {
    let end = line.find(['{', ' ']).expect("a value");
    let (name, mut rest) = line.split_at(end);
    let mut labels = BTreeMap::new();
    if let Some(inner) = rest.strip_prefix('{') {
        rest = inner;
        while !rest.starts_with('}') {
            rest = rest.strip_prefix(',').unwrap_or(rest);
            let (label, quoted) = rest.split_once("=\"").expect("a label");
            assert!(is_name(label), "{line}");
            let (value, after) = unquoted(quoted);
            assert!(labels.insert(label.to_owned(), value).is_none(), "{line}");
            rest = after;
        }
        rest = &rest[1..];
    }
    assert!(is_name(name), "{line}");
    let value = rest.strip_prefix(' ').expect("a space");
    Sample {
        name: name.to_owned(),
        labels,
        value: value.parse().unwrap_or_else(|_| panic!("{line}")),
    }
}

fn is_name(name: &str) -> bool {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || c == '_';
    name.chars().all(is_plain)
        && !name.starts_with(|c: char| c.is_ascii_digit())
        && !name.is_empty()
}

/// A value up to its quotation mark, and what comes after.
fn unquoted(text: &str) -> (String, &str) {
    let (mut value, mut chars) = (String::new(), text.char_indices());
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return (value, &text[at + 1..]),
            '\\' => match chars.next().map(|(_, c)| c) {
                Some('n') => value.push('\n'),
                Some(c @ ('"' | '\\')) => value.push(c),
                other => panic!("no escape {other:?} in {text}"),
            },
            c => value.push(c),
        }
    }
    panic!("no end in {text}");
}
