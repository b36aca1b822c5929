//! The TLS session of one connection, taken over from the listener once its handshake is done.
//!
//! Owns: encrypting what the outbox writes, decrypting what its client sends, and the ciphertext that the socket did not take.
//! Refuses to wait: the outbox guards it by its lock. What it owes the client by itself (alerts, answers to key updates) leaves
//! with the next bytes.

use std::io::{self, IoSlice, Read as _, Write as _};

use tokio::net::TcpStream;
use tokio_rustls::rustls::ServerConnection;

/// Plaintext that is encrypted in one go, when frames have waited; what one record holds at most (RFC 8446, section 5.1).
const RECORD_BYTES: usize = 16_384;
/// Frames that are encrypted in one go.
const SLICES: usize = 32;

/// A session, and its ciphertext on the way out.
pub(super) struct Session {
    tls: ServerConnection,
    /// Encrypted and not taken by the socket yet.
    left: Vec<u8>,
    /// How much of `left` has gone since.
    gone: usize,
}

impl Session {
    pub(super) fn new(mut tls: ServerConnection) -> Self {
        // The outbox has the bound, and what is encrypted leaves the library at once.
        tls.set_buffer_limit(None);
        Self { tls, left: Vec::new(), gone: 0 }
    }

    /// Ciphertext that waits for the socket, in bytes.
    pub(super) fn left_bytes(&self) -> usize {
        self.left.len() - self.gone
    }

    /// Encrypts a frame and writes as much as the socket takes. The rest is kept here.
    pub(super) fn write(&mut self, stream: &TcpStream, frame: &[u8]) -> io::Result<()> {
        self.tls.writer().write_all(frame)?;
        self.send(stream)
    }

    /// Encrypts as many whole frames as fit into a record, at least one, and gives their number. To be called with nothing left.
    pub(super) fn write_some<'a>(&mut self, stream: &TcpStream, frames: impl Iterator<Item = &'a [u8]>) -> io::Result<usize> {
        let mut slices = [IoSlice::new(&[]); SLICES];
        let (mut number, mut bytes) = (0, 0);
        for (slice, frame) in slices.iter_mut().zip(frames) {
            if number > 0 && bytes + frame.len() > RECORD_BYTES {
                break;
            }
            *slice = IoSlice::new(frame);
            number += 1;
            bytes += frame.len();
        }
        // All of it is taken, for the session has no bound of its own.
        let _ = self.tls.writer().write_vectored(slices.get(..number).unwrap_or_default())?;
        self.send(stream)?;
        Ok(number)
    }

    /// Writes what is left, as far as the socket takes it in one call.
    pub(super) fn write_left(&mut self, stream: &TcpStream) -> io::Result<()> {
        self.gone += stream.try_write(self.left.get(self.gone..).unwrap_or_default())?;
        if self.gone == self.left.len() {
            (self.left, self.gone) = (Vec::new(), 0);
        }
        Ok(())
    }

    /// Reads what the client said; 0 if it says no more. `WouldBlock` if nothing has come.
    pub(super) fn read(&mut self, stream: &TcpStream, buf: &mut [u8]) -> io::Result<usize> {
        loop {
            match self.tls.reader().read(buf) {
                // The line broke without a goodbye, as lines do.
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(0),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                read => return read,
            }
            self.tls.read_tls(&mut Source(stream))?;
            let processed = self.tls.process_new_packets();
            self.send(stream)?;
            processed.map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
        }
    }

    /// Says that nothing follows (RFC 8446, section 6.1).
    pub(super) fn say_goodbye(&mut self, stream: &TcpStream) -> io::Result<()> {
        self.tls.send_close_notify();
        self.send(stream)
    }

    fn send(&mut self, stream: &TcpStream) -> io::Result<()> {
        while self.tls.wants_write() {
            self.tls.write_tls(&mut Sink { stream, left: &mut self.left })?;
        }
        Ok(())
    }
}

/// The socket as the library reads it.
struct Source<'a>(&'a TcpStream);

impl io::Read for Source<'_> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        self.0.try_read(buf)
    }
}

/// The socket as the library writes to it: it takes everything, and keeps what the socket does not.
struct Sink<'a> {
    stream: &'a TcpStream,
    left: &'a mut Vec<u8>,
}

impl io::Write for Sink<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.write_vectored(&[IoSlice::new(bytes)])
    }

    fn write_vectored(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        let mut taken = 0;
        if self.left.is_empty() {
            match self.stream.try_write_vectored(slices) {
                Ok(bytes) => taken = bytes,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
        }
        let all = slices.iter().map(|slice| slice.len()).sum();
        for slice in slices {
            let gone = taken.min(slice.len());
            taken -= gone;
            self.left.extend_from_slice(slice.get(gone..).unwrap_or_default());
        }
        Ok(all)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
