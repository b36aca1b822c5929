//! What a client sends, followed frame by frame beside the codec (RFC 6455, section 5.2).
//!
//! Owns: knowing after each read whether something is unfinished and since when, how many frames came, and how large a message
//! says it is. The codec tells neither. Refuses to judge a frame's form: the codec does.

const FIN: u8 = 0x80;
const CONTROL: u8 = 0x08;
const MASKED: u8 = 0x80;
const MASK_BYTES: u8 = 4;

/// The place within the stream of a client's bytes.
#[derive(Debug)]
pub(super) struct Intake {
    part: Part,
    /// The frame's first byte.
    first: u8,
    is_masked: bool,
    /// The frame's length while it is read, then what of its payload has not come.
    left: u64,
    /// Whether a message has begun whose last fragment has not.
    is_fragmented: bool,
    message_bytes: u64,
    limit_bytes: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    First,
    Second,
    /// Bytes of the length, and of the mask, that have not come.
    Length(u8),
    Mask(u8),
    Payload,
}

/// What a read brought.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Brought {
    /// Frames that it made complete, fragments and control frames too.
    pub(super) frames: u64,
    pub(super) unfinished: Unfinished,
    /// A message says it is larger than allowed.
    pub(super) is_too_large: bool,
}

/// Whether something has begun that is not complete. A message is complete with its last fragment, whatever control frames
/// come between.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unfinished {
    Nothing,
    /// It began with an earlier read.
    Still,
    /// It began with this one.
    Anew,
}

impl Intake {
    /// With a limit of the first message; those behind it are the codec's to bound.
    pub(super) fn new(limit_bytes: usize) -> Self {
        Self {
            part: Part::First,
            first: 0,
            is_masked: false,
            left: 0,
            is_fragmented: false,
            message_bytes: 0,
            limit_bytes: limit_bytes as u64,
        }
    }

    /// Follows what was read.
    pub(super) fn take(&mut self, mut bytes: &[u8]) -> Brought {
        let mut brought = Brought { frames: 0, unfinished: Unfinished::Nothing, is_too_large: false };
        let mut began_here = self.is_at_rest();
        while let Some((&byte, rest)) = bytes.split_first() {
            if self.part == Part::Payload {
                let skipped = bytes.len().min(usize::try_from(self.left).unwrap_or(usize::MAX));
                self.left -= skipped as u64;
                bytes = bytes.get(skipped..).unwrap_or_default();
            } else {
                self.header(byte);
                brought.is_too_large |= self.part == Part::Payload && self.exceeds();
                bytes = rest;
            }
            if self.part == Part::Payload && self.left == 0 {
                self.end();
                brought.frames += 1;
                began_here |= self.is_at_rest();
            }
        }
        brought.unfinished = match (self.is_at_rest(), began_here) {
            (true, _) => Unfinished::Nothing,
            (false, true) => Unfinished::Anew,
            (false, false) => Unfinished::Still,
        };
        brought
    }

    fn is_at_rest(&self) -> bool {
        self.part == Part::First && !self.is_fragmented
    }

    fn header(&mut self, byte: u8) {
        self.part = match self.part {
            Part::First => {
                self.first = byte;
                Part::Second
            }
            Part::Second => {
                self.is_masked = byte & MASKED != 0;
                match byte & !MASKED {
                    126 => self.length(2),
                    127 => self.length(8),
                    short => {
                        self.left = short.into();
                        self.mask()
                    }
                }
            }
            Part::Length(missing) => {
                self.left = self.left << 8 | u64::from(byte);
                if missing > 1 { Part::Length(missing - 1) } else { self.mask() }
            }
            Part::Mask(missing) if missing > 1 => Part::Mask(missing - 1),
            Part::Mask(_) | Part::Payload => Part::Payload,
        };
    }

    fn length(&mut self, bytes: u8) -> Part {
        self.left = 0;
        Part::Length(bytes)
    }

    fn mask(&self) -> Part {
        if self.is_masked { Part::Mask(MASK_BYTES) } else { Part::Payload }
    }

    /// Counts the payload that a header announces to its message.
    fn exceeds(&mut self) -> bool {
        if self.first & CONTROL != 0 {
            return false;
        }
        let before = if self.is_fragmented { self.message_bytes } else { 0 };
        self.message_bytes = before.saturating_add(self.left);
        self.message_bytes > self.limit_bytes
    }

    fn end(&mut self) {
        self.part = Part::First;
        if self.first & CONTROL == 0 {
            self.is_fragmented = self.first & FIN == 0;
            if !self.is_fragmented {
                self.limit_bytes = u64::MAX;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const TEXT: u8 = 0x81;
    const FRAGMENT: u8 = 0x01;
    const MORE: u8 = 0x00;
    const LAST: u8 = 0x80;
    const PING: u8 = 0x89;

    fn frame(first: u8, payload: usize) -> Vec<u8> {
        let mut frame = vec![first];
        match payload {
            0..126 => frame.push(MASKED | u8::try_from(payload).unwrap()),
            126..65_536 => {
                frame.push(MASKED | 126);
                frame.extend(u16::try_from(payload).unwrap().to_be_bytes());
            }
            _ => {
                frame.push(MASKED | 127);
                frame.extend((payload as u64).to_be_bytes());
            }
        }
        frame.extend([0; 4]);
        frame.extend(vec![b'x'; payload]);
        frame
    }

    fn take(intake: &mut Intake, bytes: &[u8]) -> (u64, Unfinished) {
        let brought = intake.take(bytes);
        (brought.frames, brought.unfinished)
    }

    #[test]
    fn control_frames_between_fragments_do_not_complete_a_message() {
        let mut intake = Intake::new(1000);
        assert_eq!(take(&mut intake, &frame(FRAGMENT, 5)), (1, Unfinished::Anew));
        assert_eq!(take(&mut intake, &frame(PING, 0)), (1, Unfinished::Still));
        assert_eq!(take(&mut intake, &frame(MORE, 5)), (1, Unfinished::Still));
        assert_eq!(take(&mut intake, &frame(LAST, 5)), (1, Unfinished::Nothing));
    }

    #[test]
    fn half_a_frame_behind_the_end_of_another_begins_with_its_own_read() {
        let mut intake = Intake::new(1000);
        let whole = frame(TEXT, 200);
        let (head, tail) = whole.split_at(100);
        assert_eq!(take(&mut intake, head), (0, Unfinished::Anew));
        assert_eq!(take(&mut intake, &[tail, &head[..1]].concat()), (1, Unfinished::Anew));
        assert_eq!(take(&mut intake, &head[1..]), (0, Unfinished::Still));
        assert_eq!(take(&mut intake, &[]), (0, Unfinished::Still));
        assert_eq!(take(&mut intake, tail), (1, Unfinished::Nothing));
    }

    #[test]
    fn a_message_is_as_large_as_its_fragments_together_and_known_by_their_headers() {
        let mut intake = Intake::new(100);
        assert!(intake.take(&frame(TEXT, 101)[..8]).is_too_large);
        let mut intake = Intake::new(100);
        assert!(!intake.take(&frame(FRAGMENT, 60)).is_too_large);
        assert!(!intake.take(&frame(PING, 120)).is_too_large);
        assert!(intake.take(&frame(LAST, 60)).is_too_large);
    }

    #[test]
    fn only_the_first_message_is_limited_however_many_come_in_one_read() {
        let mut intake = Intake::new(100);
        assert!(!intake.take(&[frame(PING, 125), frame(TEXT, 100), frame(TEXT, 70_000)].concat()).is_too_large);
        assert!(!intake.take(&frame(TEXT, 70_000)).is_too_large);
    }

    proptest! {
        #[test]
        fn it_does_not_matter_how_bytes_are_cut_into_reads(
            frames in prop::collection::vec((prop::sample::select(&[TEXT, FRAGMENT, MORE, LAST, PING][..]), 0..300_usize), 1..12),
            cuts in prop::collection::vec(1..400_usize, 0..40),
        ) {
            let bytes = frames.iter().flat_map(|(first, payload)| frame(*first, *payload)).collect::<Vec<_>>();
            let whole = Intake::new(100_000).take(&bytes);
            prop_assert_eq!(whole.frames, frames.len() as u64);
            let mut intake = Intake::new(100_000);
            let (mut rest, mut counted, mut last) = (bytes.as_slice(), 0, Unfinished::Nothing);
            for cut in cuts.into_iter().chain([usize::MAX]) {
                let (head, tail) = rest.split_at(cut.min(rest.len()));
                (counted, last) = { let brought = intake.take(head); (counted + brought.frames, brought.unfinished) };
                rest = tail;
            }
            prop_assert_eq!(counted, whole.frames);
            prop_assert_eq!(last == Unfinished::Nothing, whole.unfinished == Unfinished::Nothing);
        }
    }
}
