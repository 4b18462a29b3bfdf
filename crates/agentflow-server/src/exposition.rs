//! Prometheus' text format.

use std::fmt::Write as _;

use agentflow_types::histogram::Distribution;

/// Before every name.
const PREFIX: &str = "agentflow_";

/// What a family of values is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A level, which rises and falls.
    Gauge,
    /// A count since the start.
    Counter,
}

/// A value that somebody outside this crate knows.
#[derive(Clone, Debug, PartialEq)]
pub struct Sample {
    /// Name without prefix, the unit last.
    pub name: &'static str,
    /// What it tells, in one line.
    pub help: &'static str,
    /// What it is.
    pub kind: Kind,
    /// Names and values of labels.
    pub labels: Vec<(&'static str, String)>,
    /// The value.
    pub value: f64,
}

/// Text in that format. Values of one name must follow each other.
#[derive(Default)]
pub(crate) struct Text {
    out: String,
    /// The family whose values are being written.
    family: &'static str,
}

impl Text {
    pub(crate) fn value(
        &mut self,
        family: (Kind, &'static str, &'static str),
        labels: &[(&str, &str)],
        value: f64,
    ) {
        let (kind, name, help) = family;
        let kind = match kind {
            Kind::Gauge => "gauge",
            Kind::Counter => "counter",
        };
        self.head(kind, name, help);
        self.line(name, "", labels, value);
    }

    pub(crate) fn sample(&mut self, sample: &Sample) {
        let labels = sample
            .labels
            .iter()
            .map(|(name, value)| (*name, value.as_str()));
        let labels: Vec<(&str, &str)> = labels.collect();
        self.value(
            (sample.kind, sample.name, sample.help),
            &labels,
            sample.value,
        );
    }

    pub(crate) fn histogram(
        &mut self,
        (name, help): (&'static str, &'static str),
        labels: &[(&str, &str)],
        values: &Distribution,
    ) {
        self.head("histogram", name, help);
        let ends = values.bounds.iter().map(ToString::to_string);
        let mut seen = 0;
        for (end, count) in ends.chain(["+Inf".to_owned()]).zip(&values.counts) {
            seen += count;
            let mut labels = labels.to_vec();
            labels.push(("le", &end));
            self.line(name, "_bucket", &labels, seen as f64);
        }
        self.line(name, "_sum", labels, values.sum);
        self.line(name, "_count", labels, seen as f64);
    }

    pub(crate) fn finish(self) -> String {
        self.out
    }

    fn head(&mut self, kind: &str, name: &'static str, help: &str) {
        if self.family != name {
            self.family = name;
            // Writing to a string cannot fail.
            let _ = writeln!(self.out, "# HELP {PREFIX}{name} {help}");
            let _ = writeln!(self.out, "# TYPE {PREFIX}{name} {kind}");
        }
    }

    fn line(&mut self, name: &str, suffix: &str, labels: &[(&str, &str)], value: f64) {
        let pairs: Vec<String> = labels
            .iter()
            .map(|(name, value)| format!("{name}=\"{}\"", escaped(value)))
            .collect();
        let labels = match pairs.is_empty() {
            true => String::new(),
            false => format!("{{{}}}", pairs.join(",")),
        };
        let _ = writeln!(self.out, "{PREFIX}{name}{suffix}{labels} {value}");
    }
}

fn escaped(text: &str) -> String {
    text.replace('\\', "\\\\")
        .replace('"', "\\\"")
        .replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn families_have_one_head_and_labels_are_escaped() {
        let mut text = Text::default();
        let tokens = (Kind::Counter, "tokens_total", "Tokens.");
        text.value(tokens, &[("model", "a\"b\\c")], 3.0);
        text.value(tokens, &[("model", "d")], 0.5);
        let waits = Distribution {
            bounds: &[0.5, 1.0],
            counts: vec![1, 0, 2],
            sum: 60.25,
        };
        text.histogram(("wait_seconds", "Waits."), &[("x", "y")], &waits);
        assert_eq!(
            text.finish(),
            "# HELP agentflow_tokens_total Tokens.\n\
             # TYPE agentflow_tokens_total counter\n\
             agentflow_tokens_total{model=\"a\\\"b\\\\c\"} 3\n\
             agentflow_tokens_total{model=\"d\"} 0.5\n\
             # HELP agentflow_wait_seconds Waits.\n\
             # TYPE agentflow_wait_seconds histogram\n\
             agentflow_wait_seconds_bucket{x=\"y\",le=\"0.5\"} 1\n\
             agentflow_wait_seconds_bucket{x=\"y\",le=\"1\"} 1\n\
             agentflow_wait_seconds_bucket{x=\"y\",le=\"+Inf\"} 3\n\
             agentflow_wait_seconds_sum{x=\"y\"} 60.25\n\
             agentflow_wait_seconds_count{x=\"y\"} 3\n"
        );
    }
}
