//! Compression of blobs in layouts of our own: zstd frames (RFC 8878), one a blob.

use std::io::{self, Read, Seek as _, Write};

use super::backend::{Error, Limited};
use crate::digest::Digest;

/// The level: fast enough not to slow an upload on a local network.
const LEVEL: i32 = 3;
/// Up to this many bytes a compressed blob stays in memory.
const IN_MEMORY: usize = 8 << 20;

/// Compresses a blob into a temporary file, rewound, and returns it with its length: most
/// servers want to know the length beforehand.
pub(super) fn compress(from: &mut dyn Read) -> io::Result<(tempfile::SpooledTempFile, u64)> {
    let mut encoder =
        zstd::stream::write::Encoder::new(tempfile::spooled_tempfile(IN_MEMORY), LEVEL)?;
    io::copy(from, &mut encoder)?;
    let mut file = encoder.finish()?;
    let length = file.stream_position()?;
    file.rewind()?;
    Ok((file, length))
}

/// Decompresses `from` into `to`. Writes at most the digest's size and one byte, so that a
/// small frame cannot fill the disk.
pub(super) fn decompress(
    digest: Digest,
    from: &mut dyn Read,
    to: &mut dyn Write,
) -> Result<(), Error> {
    let mut limited = Limited::new(to, digest.size());
    let mut decoder = zstd::stream::read::Decoder::new(from).map_err(|e| Error::of_io(&e))?;
    decoder.window_log_max(27).map_err(|e| Error::of_io(&e))?;
    io::copy(&mut decoder, &mut limited).map_err(|e| Error::of_io(&e))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn round_trip(content: &[u8], claimed: Digest) -> Result<Vec<u8>, Error> {
        let (mut file, _) = compress(&mut &content[..]).unwrap();
        let mut out = Vec::new();
        decompress(claimed, &mut file, &mut out).map(|()| out)
    }

    #[test]
    fn blobs_round_trip() {
        for content in [Vec::new(), b"abc".to_vec(), vec![0; 3_000_000]] {
            assert_eq!(round_trip(&content, Digest::of(&content)).unwrap(), content);
        }
    }

    #[test]
    fn more_than_the_stated_size_is_refused() {
        let bomb = vec![0; 3_000_000];
        assert!(round_trip(&bomb, Digest::of(b"small")).is_err());
    }

    #[test]
    fn bytes_that_are_no_frame_are_refused() {
        let error = decompress(Digest::of(b"x"), &mut &b"not zstd"[..], &mut Vec::new());
        assert!(error.is_err());
    }
}
