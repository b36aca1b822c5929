//! The export of spans: a bounded queue, a thread that empties it to the collector, and the counts of what became of spans.
//!
//! Refuses to wait: a span that finds the queue full is dropped, and counted. Neighbours: the SDK's processor has the thread.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use opentelemetry::Context;
use opentelemetry_otlp::{ExporterBuildError, Protocol, SpanExporter, WithExportConfig as _};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::trace::{BatchConfigBuilder, BatchSpanProcessor, Span, SpanData, SpanProcessor};
use prometheus_client::metrics::counter::Counter;

use crate::config::OtlpConfig;
use crate::telemetry::Shelf;

/// What became of spans that ended. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub(super) struct Counts {
    exported: Counter,
    failed: Counter,
    dropped: Counter,
}

impl Counts {
    pub(super) fn register(&self, shelf: &mut Shelf<'_>) {
        shelf.register("exported_spans", "Spans that the collector has taken", self.exported.clone());
        shelf.register("failed_spans", "Spans that the collector did not take, and that are gone", self.failed.clone());
        shelf.register("dropped_spans", "Spans that found the queue full, and that are gone", self.dropped.clone());
    }
}

/// The queue's entrance.
#[derive(Debug)]
pub(super) struct Queue {
    inner: BatchSpanProcessor,
    limit: usize,
    /// Shared with the exporter, which takes out. The SDK's own queue has room for as many, and would not say what it drops.
    waiting: Arc<AtomicUsize>,
    dropped: Counter,
}

impl Queue {
    /// A queue with its exporter, as configured.
    pub(super) fn new(config: &OtlpConfig, counts: &Counts) -> Result<Self, ExporterBuildError> {
        let exporter = SpanExporter::builder()
            .with_http()
            .with_protocol(Protocol::HttpBinary)
            .with_endpoint(&config.endpoint)
            .with_timeout(config.timeout.0)
            .build()?;
        let limit = config.queue_spans.get();
        let waiting = Arc::new(AtomicUsize::new(0));
        let exit = Exit { exporter, waiting: waiting.clone(), exported: counts.exported.clone(), failed: counts.failed.clone() };
        let bounds = BatchConfigBuilder::default().with_max_queue_size(limit).with_scheduled_delay(config.interval.0).build();
        let inner = BatchSpanProcessor::builder(exit).with_batch_config(bounds).build();
        Ok(Self { inner, limit, waiting, dropped: counts.dropped.clone() })
    }
}

impl SpanProcessor for Queue {
    fn on_start(&self, span: &mut Span, context: &Context) {
        self.inner.on_start(span, context);
    }

    fn on_end(&self, span: SpanData) {
        if self.waiting.fetch_add(1, Ordering::Relaxed) < self.limit {
            self.inner.on_end(span);
        } else {
            self.waiting.fetch_sub(1, Ordering::Relaxed);
            self.dropped.inc();
        }
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.inner.force_flush()
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.inner.shutdown_with_timeout(timeout)
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.inner.set_resource(resource);
    }
}

/// The queue's exit, on the SDK's thread.
#[derive(Debug)]
struct Exit {
    exporter: SpanExporter,
    waiting: Arc<AtomicUsize>,
    exported: Counter,
    failed: Counter,
}

impl opentelemetry_sdk::trace::SpanExporter for Exit {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        let count = batch.len();
        self.waiting.fetch_sub(count, Ordering::Relaxed);
        let outcome = self.exporter.export(batch).await;
        if outcome.is_ok() { &self.exported } else { &self.failed }.inc_by(count as u64);
        outcome
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.exporter.shutdown_with_timeout(timeout)
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.exporter.set_resource(resource);
    }
}
