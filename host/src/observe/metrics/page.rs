//! What is answered to who asks for metrics: a family after the other, in OpenMetrics form.

use std::fmt;
use std::sync::Arc;

use prometheus_client::encoding::{DescriptorEncoder, MetricEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::exemplar::Exemplar;

use super::histogram::Counted;
use super::names::{Family, Kind};

/// Who asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum View {
    /// The operator, who sees everything.
    All,
    /// A tenant, who sees what is its own.
    Tenant(Arc<str>),
}

impl View {
    /// Whether this is to be seen of a tenant's, or of the operator's.
    #[must_use]
    pub fn sees(&self, tenant: Option<&str>) -> bool {
        match self {
            Self::All => true,
            Self::Tenant(mine) => tenant == Some(mine),
        }
    }

    /// Whether numbers of the whole host are to be seen.
    #[must_use]
    pub fn is_all(&self) -> bool {
        *self == Self::All
    }
}

/// Where a [`super::Source`] writes its families, each once.
pub struct Page<'a> {
    encoder: DescriptorEncoder<'a>,
    /// Who will read it.
    pub view: View,
}

/// The members of one family.
pub struct Members<'a> {
    encoder: MetricEncoder<'a>,
    kind: Kind,
}

/// Labels with their values. One without a value is left out.
pub type Labels<'a> = &'a [(&'a str, &'a str)];

impl<'a> Page<'a> {
    pub(super) fn new(encoder: DescriptorEncoder<'a>, view: View) -> Self {
        Self { encoder, view }
    }

    /// Writes a family, and its members with `write`.
    ///
    /// # Errors
    /// When there is no room for the page.
    pub fn family(
        &mut self,
        family: &Family,
        write: impl FnOnce(&mut Members<'_>) -> fmt::Result,
    ) -> fmt::Result {
        let kind = match family.kind {
            Kind::Counter => MetricType::Counter,
            Kind::Gauge => MetricType::Gauge,
            Kind::Histogram => MetricType::Histogram,
            Kind::Info => MetricType::Info,
        };
        let name = family.stem();
        let encoder = self
            .encoder
            .encode_descriptor(name, family.help, None, kind)?;
        write(&mut Members {
            encoder,
            kind: family.kind,
        })
    }

    /// A family with one member that has no labels.
    ///
    /// # Errors
    /// As [`Self::family`].
    pub fn one(&mut self, family: &Family, value: impl Into<Number>) -> fmt::Result {
        let value = value.into();
        self.family(family, |members| members.add(&[], value))
    }
}

/// A value: most are counts, and some are seconds.
#[derive(Debug, Clone, Copy)]
pub enum Number {
    /// How many.
    Whole(u64),
    /// Seconds, most often.
    Real(f64),
}

impl From<u64> for Number {
    fn from(whole: u64) -> Self {
        Self::Whole(whole)
    }
}

impl From<usize> for Number {
    fn from(whole: usize) -> Self {
        Self::Whole(whole as u64)
    }
}

impl From<bool> for Number {
    fn from(whole: bool) -> Self {
        Self::Whole(whole.into())
    }
}

impl From<f64> for Number {
    fn from(real: f64) -> Self {
        Self::Real(real)
    }
}

impl Number {
    fn write(self, kind: Kind, encoder: &mut MetricEncoder<'_>) -> fmt::Result {
        let none: Option<&Exemplar<NoLabelSet, f64>> = None;
        match (kind, self) {
            (Kind::Counter, Self::Whole(value)) => encoder.encode_counter(&value, none),
            (Kind::Counter, Self::Real(value)) => encoder.encode_counter(&value, none),
            (_, Self::Whole(value)) => {
                encoder.encode_gauge(&i64::try_from(value).unwrap_or(i64::MAX))
            }
            (_, Self::Real(value)) => encoder.encode_gauge(&value),
        }
    }
}

impl Members<'_> {
    /// A member of a counter or a gauge, or of an info, whose value is 1.
    ///
    /// # Errors
    /// When there is no room for the page.
    pub fn add(&mut self, labels: Labels<'_>, value: impl Into<Number>) -> fmt::Result {
        let (labels, value) = (&with_values(labels), value.into());
        if self.kind == Kind::Info {
            return self.encoder.encode_info(labels);
        }
        if labels.is_empty() {
            return value.write(self.kind, &mut self.encoder);
        }
        value.write(self.kind, &mut self.encoder.encode_family(labels)?)
    }

    /// A member of a histogram.
    pub(super) fn add_counted(&mut self, labels: Labels<'_>, counted: &Counted) -> fmt::Result {
        let labels = &with_values(labels);
        let mut encoder = self.encoder.encode_family(labels)?;
        let Counted {
            buckets,
            seconds,
            count,
        } = counted;
        encoder.encode_histogram::<NoLabelSet>(*seconds, *count, buckets, None)
    }
}

fn with_values<'a>(labels: Labels<'a>) -> Vec<(&'a str, &'a str)> {
    let has_value = |label: &&(&str, &str)| !label.1.is_empty();
    labels.iter().filter(has_value).copied().collect()
}

/// The same page in Prometheus' older form, for who does not take OpenMetrics: counters are named with their `_total`,
/// there are neither units nor an end.
pub(super) fn classic(page: &str) -> String {
    let mut classic = String::with_capacity(page.len());
    let mut help: Option<String> = None;
    for line in page.lines() {
        if let Some(meta) = line.strip_prefix("# TYPE ")
            && let Some((name, kind)) = meta.split_once(' ')
        {
            let (suffix, kind) = match kind {
                "counter" => ("_total", "counter"),
                "info" => ("_info", "gauge"),
                kind => ("", kind),
            };
            // Help comes before the type, which says how it is named.
            if let Some(help) = help.take() {
                classic.push_str(&format!("# HELP {name}{suffix} {help}\n"));
            }
            classic.push_str(&format!("# TYPE {name}{suffix} {kind}\n"));
        } else if let Some(meta) = line.strip_prefix("# HELP ") {
            help = meta.split_once(' ').map(|(_, help)| help.to_owned());
        } else if !line.starts_with('#') {
            classic.push_str(line);
            classic.push('\n');
        }
    }
    classic
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_older_form_names_counters_as_their_members_and_has_no_end() {
        let page = "# HELP a How many.\n# TYPE a counter\na_total{b=\"# c\"} 1\n# HELP d What.\n# TYPE d info\nd_info 1\n# EOF\n";
        assert_eq!(
            super::classic(page),
            "# HELP a_total How many.\n# TYPE a_total counter\na_total{b=\"# c\"} 1\n# HELP d_info What.\n# TYPE d_info gauge\nd_info 1\n"
        );
    }
}
