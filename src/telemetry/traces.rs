//! Traces: spans of what is done for an event, exported by OTLP over HTTP.
//!
//! Owns: when a span is made. Off unless an endpoint is configured; then a context that came with a record is still passed on.
//! Neighbours: `export` has a bounded queue and a thread of its own, for which nothing ever waits.

mod export;

use std::borrow::Cow;
use std::fmt;
use std::time::Duration;

use opentelemetry::trace::{
    Span as _, SpanBuilder, SpanContext, SpanId, SpanKind, TraceContextExt as _, TraceFlags, TraceId, TraceState, Tracer as _,
    TracerProvider as _,
};
use opentelemetry::{Context, KeyValue};
use opentelemetry_otlp::ExporterBuildError;
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::{Sampler, SdkTracer, SdkTracerProvider, Span as SdkSpan};
use prometheus_client::metrics::counter::Counter;
use tidings_core::record::trace::TraceContext;

use self::export::{Counts, Queue};
use super::Metrics;
use crate::config::OtlpConfig;

/// How long the last spans may take at the end.
const FLUSH: Duration = Duration::from_secs(2);

/// The exporter could not be made.
#[derive(Debug, thiserror::Error)]
#[error("`telemetry.otlp.endpoint`: traces cannot be exported to {endpoint}")]
pub struct TracesError {
    endpoint: String,
    #[source]
    source: ExporterBuildError,
}

/// Makes spans, or passes contexts on. Cheap to clone.
#[derive(Clone, Default)]
pub struct Traces {
    tracer: Option<SdkTracer>,
    ignored: Counter,
}

/// The other end: what is left is exported when it is dropped with [`Exporting::finish`].
#[derive(Debug, Default)]
pub struct Exporting(Option<SdkTracerProvider>);

/// Something that is being done; over when it is dropped. Small, since tickets of records carry one.
#[derive(Debug, Default)]
pub struct Span(Option<Box<SdkSpan>>);

/// What a span is called, and what is known of it.
pub struct Doing {
    /// What is done, for instance `decide`.
    pub name: &'static str,
    /// How it stands to what lies on the log.
    pub kind: SpanKind,
    /// The names and values that OpenTelemetry's conventions for messaging have for it.
    pub attributes: Vec<KeyValue>,
}

impl Traces {
    /// As the configuration says: off without an endpoint.
    ///
    /// # Errors
    /// If the exporter cannot be made.
    pub fn start(config: &OtlpConfig, node: &str, metrics: &Metrics) -> Result<(Self, Exporting), TracesError> {
        let (ignored, counts) = (Counter::default(), Counts::default());
        metrics.register("telemetry", |shelf| {
            shelf.register(
                "ignored_contexts",
                "Records and requests whose traceparent was none and was ignored",
                ignored.clone(),
            );
            counts.register(shelf);
        });
        if config.endpoint.is_empty() {
            return Ok((Self { tracer: None, ignored }, Exporting(None)));
        }
        let refused = |source| TracesError { endpoint: config.endpoint.clone(), source };
        let queue = Queue::new(config, &counts).map_err(refused)?;
        let resource = Resource::builder()
            .with_service_name("tidings")
            .with_attribute(KeyValue::new("service.instance.id", node.to_owned()));
        let provider = SdkTracerProvider::builder()
            .with_span_processor(queue)
            .with_sampler(Sampler::ParentBased(Box::new(Sampler::TraceIdRatioBased(config.ratio))))
            .with_resource(resource.build())
            .build();
        let tracer = Some(provider.tracer("tidings"));
        Ok((Self { tracer, ignored }, Exporting(Some(provider))))
    }

    /// Whether spans are made at all.
    #[must_use]
    pub fn are_on(&self) -> bool {
        self.tracer.is_some()
    }

    /// The context that a record's headers carry. One that is hostile is counted and ignored.
    #[must_use]
    pub fn context(&self, parent: Option<&[u8]>, state: Option<&[u8]>) -> Option<TraceContext> {
        let read = TraceContext::read(parent?, state);
        if read.is_err() {
            self.ignored.inc();
        }
        read.ok()
    }

    /// Begins a child of `parent`; without one, perhaps a trace, as the configured ratio has it.
    #[must_use]
    pub fn begin(&self, parent: Option<&TraceContext>, doing: impl FnOnce() -> Doing) -> Span {
        let Some(tracer) = self.tracer.as_ref().filter(|_| parent.is_none_or(TraceContext::is_sampled)) else {
            return Span(None);
        };
        let above = parent.map_or_else(Context::new, |parent| Context::new().with_remote_span_context(remote(parent)));
        let Doing { name, kind, attributes } = doing();
        let builder = SpanBuilder::from_name(Cow::Borrowed(name)).with_kind(kind).with_attributes(attributes);
        let span = tracer.build_with_context(builder, &above);
        Span(span.span_context().is_sampled().then(|| Box::new(span)))
    }

    /// Begins a child, if there is a parent.
    #[must_use]
    pub fn follow(&self, parent: Option<&TraceContext>, doing: impl FnOnce() -> Doing) -> Span {
        if parent.is_some() { self.begin(parent, doing) } else { Span(None) }
    }
}

impl Span {
    /// Whether anybody will see it.
    #[must_use]
    pub fn is_shown(&self) -> bool {
        self.0.is_some()
    }

    /// The context of what is done within: the span's own, or what came with the record.
    #[must_use]
    pub fn context(&self, above: Option<TraceContext>) -> Option<TraceContext> {
        let Some(span) = &self.0 else { return above };
        let own = span.span_context();
        Some(TraceContext {
            trace: u128::from_be_bytes(own.trace_id().to_bytes()),
            span: u64::from_be_bytes(own.span_id().to_bytes()),
            flags: own.trace_flags().to_u8(),
            state: above.and_then(|above| above.state),
        })
    }

    /// Notes something that is known only now.
    pub fn note(&mut self, name: &'static str, value: u64) {
        if let Some(span) = &mut self.0 {
            span.set_attribute(KeyValue::new(name, i64::try_from(value).unwrap_or(i64::MAX)));
        }
    }
}

impl Exporting {
    /// Exports what is left, for a bounded time. Blocks.
    pub fn finish(self) {
        if let Some(Err(error)) = self.0.map(|provider| provider.shutdown_with_timeout(FLUSH)) {
            tracing::warn!(%error, "the last spans were not exported");
        }
    }
}

fn remote(context: &TraceContext) -> SpanContext {
    let (trace, span) = (TraceId::from(context.trace), SpanId::from(context.span));
    SpanContext::new(trace, span, TraceFlags::new(context.flags), true, TraceState::NONE)
}

impl fmt::Debug for Traces {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Traces").field("on", &self.are_on()).finish()
    }
}
