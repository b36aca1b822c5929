//! The trace context of W3C (<https://www.w3.org/TR/trace-context/>), as headers carry it from an event to all that is made of it.
//!
//! Owns: reading and writing `traceparent` and `tracestate`. Refuses what the specification calls invalid; the caller goes on without.
//! Neighbours: every service passes it on, the shell's `telemetry` makes spans of it.

use std::sync::Arc;

use super::Header;

/// The header that names trace, parent and flags.
pub const PARENT_HEADER: &str = "traceparent";
/// The header with what tracing systems add, passed on as it is.
pub const STATE_HEADER: &str = "tracestate";

/// The length of `00-<32 digits>-<16 digits>-<2 digits>`.
const PARENT_BYTES: usize = 55;
const LIMIT_STATE_BYTES: usize = 512;
const SAMPLED: u8 = 1;

/// Where in which trace something happens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TraceContext {
    /// The trace; never 0.
    pub trace: u128,
    /// The span that what is to come is a child of; never 0.
    pub span: u64,
    /// Bit 0: whether the trace is recorded.
    pub flags: u8,
    /// `tracestate`, if there was a sound one.
    pub state: Option<Arc<str>>,
}

/// A `traceparent` that is none. Whoever may write to a topic can put anything there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a `traceparent` looks like `00-<32 hexadecimal digits>-<16>-<2>`, without capitals, and neither id is zero")]
pub struct TraceError;

impl TraceContext {
    /// Reads the headers. A `tracestate` that is not sound counts as absent.
    ///
    /// # Errors
    /// If `parent` is no traceparent.
    pub fn read(parent: &[u8], state: Option<&[u8]>) -> Result<Self, TraceError> {
        let digits = |from: usize, to: usize| {
            let part = parent.get(from..to).filter(|part| part.iter().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f')))?;
            u128::from_str_radix(std::str::from_utf8(part).ok()?, 16).ok()
        };
        let dashes = [2, 35, 52].iter().all(|at| parent.get(*at) == Some(&b'-'));
        let version = digits(0, 2).filter(|version| *version != 0xff).ok_or(TraceError)?;
        // A later version may say more, behind another dash.
        let ends = parent.len() == PARENT_BYTES || (version > 0 && parent.get(PARENT_BYTES) == Some(&b'-'));
        if !dashes || !ends {
            return Err(TraceError);
        }
        let trace = digits(3, 35).filter(|trace| *trace != 0).ok_or(TraceError)?;
        let span = digits(36, 52).filter(|span| *span != 0).and_then(|span| u64::try_from(span).ok()).ok_or(TraceError)?;
        let flags = digits(53, 55).and_then(|flags| u8::try_from(flags).ok()).ok_or(TraceError)?;
        Ok(Self { trace, span, flags, state: state.and_then(sound) })
    }

    /// Whether the trace is recorded.
    #[must_use]
    pub fn is_sampled(&self) -> bool {
        self.flags & SAMPLED != 0
    }

    /// The headers of what is made here.
    #[must_use]
    pub fn headers(&self) -> Vec<Header> {
        let Self { trace, span, flags, state } = self;
        let parent = (PARENT_HEADER.to_owned(), Some(format!("00-{trace:032x}-{span:016x}-{flags:02x}").into_bytes()));
        let state = state.as_ref().map(|state| (STATE_HEADER.to_owned(), Some(state.as_bytes().to_vec())));
        std::iter::once(parent).chain(state).collect()
    }
}

fn sound(state: &[u8]) -> Option<Arc<str>> {
    let fits = (1..=LIMIT_STATE_BYTES).contains(&state.len()) && state.iter().all(|byte| matches!(byte, b' '..=b'~'));
    fits.then(|| std::str::from_utf8(state).ok()).flatten().map(Arc::from)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const PARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    #[test]
    fn the_example_of_the_specification_is_read_and_written() {
        let context = TraceContext::read(PARENT.as_bytes(), Some(b"congo=t61rcWkgMzE")).unwrap();
        assert_eq!((context.trace, context.span), (0x4bf9_2f35_77b3_4da6_a3ce_929d_0e0e_4736, 0x00f0_67aa_0ba9_02b7));
        assert!(context.is_sampled());
        let headers = context.headers();
        assert_eq!(headers[0], ("traceparent".to_owned(), Some(PARENT.as_bytes().to_vec())));
        assert_eq!(headers[1], ("tracestate".to_owned(), Some(b"congo=t61rcWkgMzE".to_vec())));
    }

    #[test]
    fn only_the_sampled_flag_says_that_a_trace_is_recorded() {
        for (flags, sampled) in [("00", false), ("01", true), ("02", false), ("03", true), ("fe", false)] {
            let parent = PARENT.replace("-01", &format!("-{flags}"));
            assert_eq!(TraceContext::read(parent.as_bytes(), None).unwrap().is_sampled(), sampled, "{flags}");
        }
    }

    #[test]
    fn what_the_specification_calls_invalid_is_refused() {
        let zero_trace = PARENT.replace("4bf92f3577b34da6a3ce929d0e0e4736", &"0".repeat(32));
        let zero_span = PARENT.replace("00f067aa0ba902b7", &"0".repeat(16));
        let others =
            ["", "00", "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", &PARENT[..54], &zero_trace, &zero_span];
        let made = [PARENT.to_uppercase(), format!("{PARENT}-x"), format!("{PARENT} "), PARENT.replace('-', "_"), "é".repeat(28)];
        for parent in others.into_iter().chain(made.iter().map(String::as_str)) {
            assert_eq!(TraceContext::read(parent.as_bytes(), None), Err(TraceError), "{parent}");
        }
    }

    #[test]
    fn a_later_version_may_say_more() {
        let later = PARENT.replacen("00", "01", 1);
        for parent in [later.clone(), format!("{later}-more")] {
            assert!(TraceContext::read(parent.as_bytes(), None).is_ok(), "{parent}");
        }
        assert!(TraceContext::read(format!("{later}more").as_bytes(), None).is_err());
    }

    #[test]
    fn a_state_that_is_not_sound_is_left_out() {
        for state in [&b""[..], b"a=\n", b"\xff", &[b'a'; 513]] {
            assert_eq!(TraceContext::read(PARENT.as_bytes(), Some(state)).unwrap().state, None);
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..80)) {
            let _ = TraceContext::read(&bytes, Some(&bytes));
        }

        #[test]
        fn what_is_written_reads_the_same(trace in 1..u128::MAX, span in 1..u64::MAX, flags: u8) {
            let context = TraceContext { trace, span, flags, state: None };
            let headers = context.headers();
            prop_assert_eq!(TraceContext::read(headers[0].1.as_deref().unwrap(), None).unwrap(), context);
        }
    }
}
