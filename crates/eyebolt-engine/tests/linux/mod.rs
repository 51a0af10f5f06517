#![expect(clippy::unwrap_used, reason = "a test without the harness is still a test")]

use std::io::Cursor;
use std::process::ExitCode;
use std::time::Duration;

use eyebolt_engine::decode::pool::{DecodePool, PoolSettings};
use eyebolt_engine::decode::{DecodePlan, decode, decode_into, plan, worker};
use eyebolt_engine::probe::{Header, probe};
use eyebolt_engine::{ImageError, Picture};
use eyebolt_types::{ImageFormat, ImageLimits};
use image::{ImageFormat as Encoding, Rgb, RgbImage};

/// Pictures of these widths make the worker of the tests fail.
const ABORTS: u32 = 101;
const NEVER_ENDS: u32 = 102;
const TAKES_TOO_MUCH: u32 = 103;

const WORKER_ARGUMENT: &str = "--decode-worker";

pub(super) fn main() -> ExitCode {
    if std::env::args().any(|argument| argument == WORKER_ARGUMENT) {
        return worker::serve(decode_or_fail);
    }
    let tests: [(&str, fn()); 5] = [
        ("decodes_as_in_process", decodes_as_in_process),
        ("an_abort_ends_one_job_only", an_abort_ends_one_job_only),
        ("an_endless_decode_is_stopped", an_endless_decode_is_stopped),
        ("memory_is_bounded", memory_is_bounded),
        ("turns_are_as_many_as_workers", turns_are_as_many_as_workers),
    ];
    for (name, test) in tests {
        test();
        println!("test {name} ... ok");
    }
    ExitCode::SUCCESS
}

fn decode_or_fail(
    bytes: &[u8],
    header: &Header,
    plan: &DecodePlan,
    pixels: &mut [u8],
) -> Result<(), ImageError> {
    match header.width {
        ABORTS => std::process::abort(),
        NEVER_ENDS => loop {
            std::thread::park();
        },
        TAKES_TOO_MUCH => {
            // Aborts the process: the limit of its address space is far below.
            let taken = vec![1_u8; 4 << 30];
            pixels[0] = taken[taken.len() - 1];
            Ok(())
        }
        _ => decode_into(bytes, header, plan, pixels),
    }
}

fn pool(workers: usize, max_decode: Duration) -> DecodePool {
    DecodePool::start(PoolSettings {
        program: std::env::current_exe().unwrap(),
        arguments: vec![WORKER_ARGUMENT.into()],
        workers,
        limits: ImageLimits::default(),
        memory_bytes: 256 << 20,
        max_decode,
    })
    .unwrap()
}

/// A picture with something to see, as a file.
fn file(width: u32, height: u32, encoding: Encoding) -> Vec<u8> {
    let picture = RgbImage::from_fn(width, height, |x, y| Rgb([x as u8, y as u8, (x ^ y) as u8]));
    let mut bytes = Cursor::new(Vec::new());
    picture.write_to(&mut bytes, encoding).unwrap();
    bytes.into_inner()
}

fn decode_in(pool: &DecodePool, bytes: &[u8]) -> Result<Picture, ImageError> {
    let header = probe(bytes, &ImageLimits::default()).unwrap();
    pool.decode(bytes, &header, &plan(&header, None))
}

fn decodes_as_in_process() {
    let pool = pool(1, Duration::from_secs(30));
    for (width, height, encoding) in [
        (640, 480, Encoding::Jpeg),
        (3000, 2000, Encoding::Png),
        (64, 48, Encoding::Gif),
        (640, 480, Encoding::Bmp),
    ] {
        let bytes = file(width, height, encoding);
        let header = probe(&bytes, &ImageLimits::default()).unwrap();
        let here = decode(&bytes, &header, &plan(&header, None)).unwrap();
        assert_eq!(decode_in(&pool, &bytes).unwrap(), here, "{encoding:?}");
    }
}

fn an_abort_ends_one_job_only() {
    let pool = pool(1, Duration::from_secs(30));
    let died = Err(ImageError::DecoderDied { format: ImageFormat::Png });
    for _ in 0..3 {
        assert_eq!(decode_in(&pool, &file(ABORTS, 64, Encoding::Png)), died);
        assert!(decode_in(&pool, &file(64, 64, Encoding::Png)).is_ok());
    }
}

fn an_endless_decode_is_stopped() {
    let pool = pool(1, Duration::from_millis(300));
    let stopped = Err(ImageError::DecodeTimeout { limit_seconds: 1 });
    assert_eq!(decode_in(&pool, &file(NEVER_ENDS, 64, Encoding::Png)), stopped);
    assert!(decode_in(&pool, &file(64, 64, Encoding::Png)).is_ok());
}

fn memory_is_bounded() {
    let pool = pool(1, Duration::from_secs(30));
    let died = Err(ImageError::DecoderDied { format: ImageFormat::Png });
    assert_eq!(decode_in(&pool, &file(TAKES_TOO_MUCH, 64, Encoding::Png)), died);
    assert!(decode_in(&pool, &file(64, 64, Encoding::Png)).is_ok());
}

fn turns_are_as_many_as_workers() {
    let pool = pool(2, Duration::from_secs(30));
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(async {
        let first = pool.turn().await;
        let second = pool.turn().await;
        let mut third = std::pin::pin!(pool.turn());
        assert!(
            std::future::poll_fn(|context| std::task::Poll::Ready(third.as_mut().poll(context).is_pending()))
                .await
        );
        drop(first);
        drop((third.await, second));
    });
}
