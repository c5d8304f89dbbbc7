//! An open file of a capture, compressed or not.

use std::fs::File;
use std::io::{self, Seek, SeekFrom, Write};
use std::os::unix::fs::MetadataExt;

use flate2::write::GzEncoder;

use super::place::{Compression, is_regular};

/// Level of zstd: the default of the library.
const ZSTD_LEVEL: i32 = 0;

/// Writes whole blocks to a file.
#[derive(Debug)]
pub(super) struct Sink {
    file: SinkFile,
    /// Length of what was written completely, before compression.
    pub bytes: u64,
}

enum SinkFile {
    Plain(File),
    Gzip(GzEncoder<File>),
    Zstd(zstd::Encoder<'static, File>),
}

impl std::fmt::Debug for SinkFile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SinkFile")
    }
}

impl Sink {
    pub(super) fn new(file: File, compression: Compression) -> io::Result<Self> {
        let file = match compression {
            Compression::None => SinkFile::Plain(file),
            Compression::Gzip => SinkFile::Gzip(GzEncoder::new(file, flate2::Compression::fast())),
            Compression::Zstd => SinkFile::Zstd(zstd::Encoder::new(file, ZSTD_LEVEL)?),
        };
        Ok(Self { file, bytes: 0 })
    }

    /// Writes whole blocks. If that fails, the part of a block that was written is removed, so that
    /// the file stays readable.
    pub(super) fn write(&mut self, blocks: &[u8]) -> io::Result<()> {
        let written = match &mut self.file {
            SinkFile::Plain(file) => file.write_all(blocks),
            SinkFile::Gzip(file) => file.write_all(blocks),
            SinkFile::Zstd(file) => file.write_all(blocks),
        };
        if let (Err(_), SinkFile::Plain(file)) = (&written, &mut self.file)
            && is_regular(file)
        {
            // The first error is the one that matters.
            let _ = file.set_len(self.bytes).and_then(|()| file.seek(SeekFrom::Start(self.bytes)));
        }
        written?;
        self.bytes += blocks.len() as u64;
        Ok(())
    }

    /// Makes everything that was written readable for others.
    pub(super) fn flush(&mut self) -> io::Result<()> {
        match &mut self.file {
            SinkFile::Plain(file) => file.flush(),
            SinkFile::Gzip(file) => file.flush(),
            SinkFile::Zstd(file) => file.flush(),
        }
    }

    fn file(&self) -> &File {
        match &self.file {
            SinkFile::Plain(file) => file,
            SinkFile::Gzip(file) => file.get_ref(),
            SinkFile::Zstd(file) => file.get_ref(),
        }
    }

    /// Whether no name leads to the file any more.
    pub(super) fn is_deleted(&self) -> bool {
        is_deleted(self.file())
    }

    /// Completes the file. Does not wait for the disk, which may take longer than the ring has room
    /// for packets. File systems that report errors of writing late, such as NFS, do so here.
    pub(super) fn finish(self) -> io::Result<()> {
        let file = match self.file {
            SinkFile::Plain(file) => file,
            SinkFile::Gzip(file) => file.finish()?,
            SinkFile::Zstd(file) => file.finish()?,
        };
        Ok(nix::unistd::close(file)?)
    }
}

/// Whether this is a file to which no name leads any more.
pub(super) fn is_deleted(file: &File) -> bool {
    file.metadata().is_ok_and(|metadata| metadata.is_file() && metadata.nlink() == 0)
}
