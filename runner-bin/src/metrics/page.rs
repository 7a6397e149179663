//! Prometheus' text format, version 0.0.4.
//!
//! Written by hand: the names are GitLab Runner's, and it has both a gauge `gitlab_runner_jobs` and a
//! counter `gitlab_runner_jobs_total`, which OpenMetrics (and the crates that write it) take for one
//! metric.

use std::fmt::Write;

/// A page in the making.
#[derive(Debug, Default)]
pub(super) struct Page(String);

/// Kinds of metrics.
#[derive(Clone, Copy, Debug)]
pub(super) enum Kind {
    Counter,
    Gauge,
    Histogram,
}

/// Names and values of labels.
pub(super) type Labels<'a> = &'a [(&'a str, &'a str)];

impl Page {
    /// Begins a metric; its samples follow.
    pub(super) fn metric(&mut self, name: &str, help: &str, kind: Kind) {
        let kind = match kind {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Histogram => "histogram",
        };
        // Writing to a string cannot fail.
        let _ = write!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}\n");
    }

    /// One value.
    pub(super) fn sample(&mut self, name: &str, labels: Labels<'_>, value: f64) {
        self.0.push_str(name);
        if !labels.is_empty() {
            self.0.push('{');
            for (index, (label, text)) in labels.iter().enumerate() {
                let comma = if index == 0 { "" } else { "," };
                let _ = write!(self.0, "{comma}{label}=\"{}\"", escaped(text));
            }
            self.0.push('}');
        }
        let _ = writeln!(self.0, " {value}");
    }

    /// A metric of one value.
    pub(super) fn single(&mut self, name: &str, help: &str, kind: Kind, value: f64) {
        self.metric(name, help, kind);
        self.sample(name, &[], value);
    }

    /// All values of a histogram.
    pub(super) fn histogram(&mut self, name: &str, labels: Labels<'_>, histogram: &Histogram) {
        let mut sum = 0;
        let bucket = format!("{name}_bucket");
        let below = |bound: &str, count: u64, page: &mut Self| {
            let mut with = labels.to_vec();
            with.push(("le", bound));
            page.sample(&bucket, &with, count as f64);
        };
        for (bound, count) in histogram.bounds.iter().zip(&histogram.counts) {
            sum += count;
            below(&bound.to_string(), sum, self);
        }
        below("+Inf", histogram.count, self);
        self.sample(&format!("{name}_sum"), labels, histogram.sum);
        self.sample(&format!("{name}_count"), labels, histogram.count as f64);
    }

    pub(super) fn finish(self) -> String {
        self.0
    }
}

fn escaped(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

/// Values by size.
#[derive(Clone, Debug)]
pub(super) struct Histogram {
    bounds: &'static [f64],
    counts: Vec<u64>,
    count: u64,
    sum: f64,
}

impl Histogram {
    /// `bounds`: upper ends, in order.
    pub(super) fn new(bounds: &'static [f64]) -> Self {
        Self { bounds, counts: vec![0; bounds.len()], count: 0, sum: 0.0 }
    }

    pub(super) fn observe(&mut self, value: f64) {
        if let Some(at) = self.bounds.iter().position(|bound| value <= *bound) {
            self.counts[at] += 1;
        }
        self.count += 1;
        self.sum += value;
    }
}

#[cfg(test)]
mod tests {
    use super::{Histogram, Kind, Page};

    #[test]
    fn the_format_is_prometheus_own() {
        let mut page = Page::default();
        page.single("a", "Help.", Kind::Gauge, 1.5);
        page.metric("b", "More.", Kind::Counter);
        page.sample("b", &[("x", "1"), ("y", "a\"b\\c\nd")], 2.0);
        let mut histogram = Histogram::new(&[0.5, 1.0]);
        [0.1, 0.5, 0.7, 9.0].into_iter().for_each(|value| histogram.observe(value));
        page.metric("h", "H.", Kind::Histogram);
        page.histogram("h", &[("x", "1")], &histogram);
        assert_eq!(
            page.finish(),
            "# HELP a Help.\n# TYPE a gauge\na 1.5\n# HELP b More.\n# TYPE b counter\n\
             b{x=\"1\",y=\"a\\\"b\\\\c\\nd\"} 2\n# HELP h H.\n# TYPE h histogram\n\
             h_bucket{x=\"1\",le=\"0.5\"} 2\nh_bucket{x=\"1\",le=\"1\"} 3\n\
             h_bucket{x=\"1\",le=\"+Inf\"} 4\nh_sum{x=\"1\"} 10.3\nh_count{x=\"1\"} 4\n"
        );
    }
}
