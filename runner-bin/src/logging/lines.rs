//! From events to lines: gathers the fields of an event and of the spans around it.

use std::fmt;
use std::io::{IsTerminal, Write};
use std::sync::atomic::{AtomicU8, Ordering};

use serde_json::Value;
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context;
use tracing_subscriber::registry::LookupSpan;

use super::format::{self, Line};
use crate::config::LogFormat;

static FORMAT: AtomicU8 = AtomicU8::new(0);

pub(super) fn set_format(format: LogFormat) {
    let number = match format {
        LogFormat::Runner => 0,
        LogFormat::Text => 1,
        LogFormat::Json => 2,
    };
    FORMAT.store(number, Ordering::Relaxed);
}

fn current_format() -> LogFormat {
    match FORMAT.load(Ordering::Relaxed) {
        0 => LogFormat::Runner,
        1 => LogFormat::Text,
        _ => LogFormat::Json,
    }
}

/// Writes a line for each event.
pub(super) struct Lines;

/// Fields in the order in which they were given; a later one of the same name wins.
#[derive(Clone, Debug, Default)]
pub(super) struct Fields {
    pub(super) message: String,
    pub(super) values: Vec<(String, Value)>,
}

impl Fields {
    fn set(&mut self, name: &str, value: Value) {
        match self.values.iter_mut().find(|(known, _)| known == name) {
            Some((_, old)) => *old = value,
            None => self.values.push((name.to_owned(), value)),
        }
    }
}

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        let text = format!("{value:?}");
        if field.name() == "message" {
            self.message = text
        } else {
            self.set(field.name(), text.into())
        }
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        if field.name() == "message" {
            value.clone_into(&mut self.message);
        } else {
            self.set(field.name(), value.into());
        }
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.set(field.name(), value.into());
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.set(field.name(), value.into());
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.set(field.name(), value.into());
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        self.set(field.name(), value.into());
    }
}

/// The fields of an event and of the spans around it, which [`Lines`] has noted.
pub(super) fn gather<S>(event: &Event<'_>, context: &Context<'_, S>) -> Fields
where
    S: Subscriber + for<'span> LookupSpan<'span>,
{
    let mut fields = Fields::default();
    for span in context.event_scope(event).into_iter().flat_map(|scope| scope.from_root()) {
        let extensions = span.extensions();
        let Some(outer) = extensions.get::<Fields>() else { continue };
        for (name, value) in &outer.values {
            // The span of a runner is known by its name, as in GitLab Runner's lines.
            let name = match (span.name(), name.as_str()) {
                ("runner", "name") | ("job", "runner") => "runner_name",
                (_, name) => name,
            };
            fields.set(name, value.clone());
        }
    }
    event.record(&mut fields);
    fields
}

impl<S> Layer<S> for Lines
where
    S: Subscriber + for<'span> LookupSpan<'span>,
{
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        let mut fields = Fields::default();
        attributes.record(&mut fields);
        if let Some(span) = context.span(id) {
            span.extensions_mut().insert(fields);
        }
    }

    fn on_record(&self, id: &Id, record: &Record<'_>, context: Context<'_, S>) {
        if let Some(span) = context.span(id)
            && let Some(fields) = span.extensions_mut().get_mut::<Fields>()
        {
            record.record(fields);
        }
    }

    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        let fields = gather(event, &context);
        let line = Line { level: *event.metadata().level(), fields, time: jiff::Timestamp::now() };
        let mut out = std::io::stderr().lock();
        let text = format::render(current_format(), line, out.is_terminal());
        // Nobody is left to be told that the log cannot be written.
        let _ = out.write_all(text.as_bytes());
    }
}
