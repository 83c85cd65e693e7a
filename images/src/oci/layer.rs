//! A layer on its way into the root: unpacked, bounded, and believed at its end.

use std::cell::Cell;
use std::io::{self, BufRead, BufReader, Read};
use std::rc::Rc;

use flate2::bufread::MultiGzDecoder;
use ruzstd::decoding::errors::{FrameDecoderError, ReadFrameHeaderError};
use ruzstd::decoding::{BlockDecodingStrategy, FrameDecoder};

use super::OciError;
use super::blob::{self, Blobs, Hashing, Sha256};
use super::json::{Descriptor, unknown};
use crate::progress::{Phase, Progress, Told};
use crate::rootfs::{FileSpool, Flattener, LayerError, TarError};

/// How much of a layer may come before its ratio is looked at.
const FREE: u64 = 64 << 20;
/// Most bytes that a zstd stream may look back: what `zstd --long` writes, and a machine can spare.
const ZSTD_WINDOW: u64 = 128 << 20;

/// How a layer is packed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Packing {
    Plain,
    Gzip,
    Zstd,
}

impl Packing {
    /// As the layer's type says.
    fn of(media_type: &str) -> Option<Self> {
        Some(match media_type {
            "application/vnd.oci.image.layer.v1.tar"
            | "application/vnd.docker.image.rootfs.diff.tar" => Self::Plain,
            "application/vnd.oci.image.layer.v1.tar+gzip"
            | "application/vnd.docker.image.rootfs.diff.tar.gzip" => Self::Gzip,
            "application/vnd.oci.image.layer.v1.tar+zstd"
            | "application/vnd.docker.image.rootfs.diff.tar.zstd" => Self::Zstd,
            _ => return None,
        })
    }

    /// As its first bytes say.
    pub(super) fn sniff(first: &[u8]) -> Self {
        match first {
            [0x1f, 0x8b, ..] => Self::Gzip,
            [0x28, 0xb5, 0x2f, 0xfd, ..] => Self::Zstd,
            _ => Self::Plain,
        }
    }
}

/// The type of a layer that came without one: its bytes say how it is packed.
pub(super) const SNIFFED: &str = "";

/// A layer, before it is read.
#[derive(Debug)]
pub(super) struct Layer {
    /// What it is called where it lies.
    pub(super) file: String,
    pub(super) media_type: String,
    pub(super) size: u64,
    /// What it hashes to as it lies there, where that is known.
    pub(super) digest: Option<Sha256>,
    /// What it hashes to unpacked.
    pub(super) unpacked: Sha256,
}

impl Layer {
    /// The layer that a manifest tells of.
    pub(super) fn of(descriptor: Descriptor, unpacked: Sha256) -> Self {
        Self {
            file: blob::name(descriptor.digest),
            // An empty one would be looked at for how it is packed.
            media_type: match descriptor.media_type {
                empty if empty.is_empty() => "none".to_owned(),
                said => said,
            },
            size: descriptor.size,
            digest: Some(descriptor.digest),
            unpacked,
        }
    }
}

/// Lays a layer over what is there: its index, from 1, and what is known of it; then the bytes of all layers before it,
/// and of all.
pub(super) fn apply(
    flat: &mut Flattener<FileSpool>,
    blobs: &impl Blobs,
    (index, layer): (usize, &Layer),
    (done, total): (u64, u64),
    progress: Progress<'_>,
) -> Result<(), OciError> {
    let limits = *flat.limits();
    let bad = |source| OciError::Layer { index, source };
    let read = |e| bad(LayerError::Tar(TarError::Read(e)));
    let from = blobs.open(&layer.file)?.take(layer.size.saturating_add(1));
    let from = Told::new(from, Phase::Unpack, done, total, progress);
    let count = Rc::new(Cell::new(0));
    let mut packed = Hashing::new(Counted {
        from,
        count: Rc::clone(&count),
    });
    let mut buffered = BufReader::with_capacity(128 << 10, &mut packed);
    let packing = match layer.media_type.as_str() {
        SNIFFED => Packing::sniff(buffered.fill_buf().map_err(read)?),
        known => Packing::of(known).ok_or_else(|| unknown("a layer", known))?,
    };
    let plain = unpack(packing, &mut buffered).map_err(read)?;
    let bounded = Bounded {
        from: plain,
        packed: count,
        unpacked: 0,
        ratio: limits.ratio,
    };
    let mut plain = Hashing::new(bounded);
    flat.layer(&mut plain).map_err(bad)?;
    let found = plain.digest();
    // What is behind the packed stream's end is part of the blob all the same.
    io::copy(&mut buffered, &mut io::sink()).map_err(read)?;
    drop(buffered);
    let (count, packed) = (packed.count, packed.digest());
    blob::check(&layer.file, (layer.size, layer.digest), count, packed)?;
    let unpacked = format!("layer {index}, unpacked,");
    Ok(blob::matches(&unpacked, layer.unpacked, found)?)
}

/// What a stream holds.
pub(super) fn unpack<'r>(
    packing: Packing,
    from: impl BufRead + 'r,
) -> io::Result<Box<dyn Read + 'r>> {
    Ok(match packing {
        Packing::Plain => Box::new(from),
        Packing::Gzip => Box::new(MultiGzDecoder::new(from)),
        Packing::Zstd => Box::new(Zstd::new(from)),
    })
}

/// Frames of zstd, one after the other.
struct Zstd<R> {
    from: R,
    decoder: FrameDecoder,
    /// Whether the decoder is within a frame.
    begun: bool,
}

impl<R: BufRead> Zstd<R> {
    fn new(from: R) -> Self {
        let mut decoder = FrameDecoder::new();
        decoder.set_max_window_size(ZSTD_WINDOW);
        Self {
            from,
            decoder,
            begun: false,
        }
    }

    /// Begins the next frame; says whether there is one.
    fn begin(&mut self) -> io::Result<bool> {
        while !self.from.fill_buf()?.is_empty() {
            match self.decoder.init(&mut self.from) {
                Ok(()) => return Ok(true),
                // Somebody's own, which holds nothing.
                Err(FrameDecoderError::ReadFrameHeaderError(ReadFrameHeaderError::SkipFrame {
                    length,
                    ..
                })) => {
                    io::copy(&mut (&mut self.from).take(length.into()), &mut io::sink())?;
                }
                Err(e) => return Err(io::Error::other(e)),
            }
        }
        Ok(false)
    }
}

impl<R: BufRead> Read for Zstd<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            if !self.begun {
                if !self.begin()? {
                    return Ok(0);
                }
                self.begun = true;
            }
            let read = self.decoder.read(buffer)?;
            if read > 0 || buffer.is_empty() {
                return Ok(read);
            }
            if self.decoder.is_finished() {
                let told = self.decoder.get_checksum_from_data();
                if told.is_some() && told != self.decoder.get_calculated_checksum() {
                    return Err(io::Error::other("a zstd frame does not match its checksum"));
                }
                self.begun = false;
            } else {
                self.decoder
                    .decode_blocks(&mut self.from, BlockDecodingStrategy::UptoBlocks(1))
                    .map_err(io::Error::other)?;
            }
        }
    }
}

/// Tells others how much was read.
struct Counted<R> {
    from: R,
    count: Rc<Cell<u64>>,
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.from.read(buffer)?;
        self.count.set(self.count.get() + read as u64);
        Ok(read)
    }
}

/// Ends what unpacks to more than it may.
struct Bounded<R> {
    from: R,
    packed: Rc<Cell<u64>>,
    unpacked: u64,
    ratio: u64,
}

impl<R: Read> Read for Bounded<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.from.read(buffer)?;
        self.unpacked += read as u64;
        let most = FREE.saturating_add(self.ratio.saturating_mul(self.packed.get()));
        if self.unpacked > most {
            let text = format!(
                "it unpacks to more than {} bytes for each of its own",
                self.ratio
            );
            return Err(io::Error::other(text));
        }
        Ok(read)
    }
}
