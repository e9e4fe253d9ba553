use std::time::Duration;

use proptest::prelude::*;
use rstest::rstest;

use super::*;
use crate::Budget;

fn words(words: &[u64]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_le_bytes()).collect()
}

/// A message as Dask sends it, of which the first `packed` frames are in the first part.
fn message(frames: &[&[u8]], packed: usize) -> Vec<u8> {
    let inside: usize = frames[..packed].iter().map(|frame| frame.len()).sum();
    let mut bytes = words(&[8 + 8 * frames.len() as u64 + inside as u64, frames.len() as u64]);
    bytes.extend(words(&frames.iter().map(|frame| frame.len() as u64).collect::<Vec<_>>()));
    bytes.extend(frames.concat());
    bytes
}

fn read_all(mut bytes: &[u8], limits: MessageLimits) -> (Result<Frames, Error>, usize) {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let mut room = Budget::new(1 << 20).room(Duration::from_secs(30));
    let result = runtime.block_on(read(&mut bytes, &limits, &mut room));
    (result, bytes.len())
}

#[rstest]
fn frames_are_found_wherever_the_first_part_ends(#[values(0, 1, 2, 3)] packed: usize) {
    let frames: [&[u8]; 3] = [b"first", b"", b"a pickle"];
    let mut bytes = message(&frames, packed);
    bytes.extend(b"next");
    let (result, left) = read_all(&bytes, MessageLimits::SMALL);
    assert_eq!(result.unwrap(), Frames { first: Some(b"first".to_vec()), skipped: 2 });
    assert_eq!(left, 4, "the next message is untouched");
}

#[test]
fn what_is_written_is_read() {
    let (result, left) = read_all(&encode(b"hello"), MessageLimits::SMALL);
    assert_eq!((result.unwrap().first.unwrap().as_slice(), left), (b"hello".as_slice(), 0));
    assert_eq!(encode(b"hello"), message(&[b"hello"], 1));
}

#[test]
fn no_frames_mean_nothing() {
    let (result, _) = read_all(&words(&[8, 0]), MessageLimits::SMALL);
    assert_eq!(result.unwrap(), Frames { first: None, skipped: 0 });
}

#[rstest]
#[case::size(&[65, 1, 49], "more than 64 bytes")]
#[case::frames(&[56, 5, 0, 0, 0, 0, 0], "more than 4 frames")]
#[case::outside(&[16, 1, 49], "more than 64 bytes")]
#[case::overflow(&[32, 3, 1, u64::MAX, u64::MAX], "more than 64 bytes")]
#[case::text(&[u64::from_le_bytes(*b"SSH-2.0-"), 1], "does not begin with its size")]
#[case::count(&[0], "no room for the number of frames")]
#[case::lengths(&[16, 2, 0, 0], "no room for the lengths of the frames")]
#[case::gap(&[17, 1, 0], "first part does not end with a frame")]
fn liars_are_refused_before_anything_is_read(#[case] header: &[u64], #[case] told: &str) {
    let limits = MessageLimits { message_bytes: 64, frames: 4, ..MessageLimits::SMALL };
    let (result, _) = read_all(&words(header), limits);
    let error = result.unwrap_err().to_string();
    assert!(error.contains(told), "{error}");
}

#[test]
fn announced_bytes_that_never_come_take_no_memory() {
    let length = 1_000_000;
    let header = words(&[16 + length, 1, length]);
    let (result, _) = read_all(&header, MessageLimits::SMALL);
    assert!(matches!(result, Err(Error::Io(error)) if error.kind() == io::ErrorKind::UnexpectedEof));
}

/// The room that is taken, as the bytes of a frame arrive.
#[tokio::test]
async fn room_is_taken_as_bytes_arrive_and_not_as_they_are_announced() {
    let budget = Budget::new(64 << 20);
    let length = 30 << 20;
    let limits = MessageLimits { message_bytes: length + 16, ..MessageLimits::SMALL };
    for arrives in [0, 10_000, 100_000, 3_000_000] {
        let (mut ours, mut theirs) = tokio::io::duplex(1 << 16);
        let mut room = budget.room(Duration::from_secs(30));
        let send = async {
            theirs.write_all(&words(&[16 + length, 1, length])).await.unwrap();
            theirs.write_all(&vec![0; arrives]).await.unwrap();
            drop(theirs);
        };
        let (result, ()) = tokio::join!(read(&mut ours, &limits, &mut room), send);
        assert!(matches!(result, Err(Error::Io(_))), "{result:?}");
        let most = 2 * arrives.max(8 << 10);
        assert!(room.taken() <= most, "{} for {arrives}", room.taken());
    }
    assert_eq!(budget.available(), budget.total());
}

proptest! {
    #[test]
    fn any_frames_are_read_back(
        frames in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..40), 1..8),
        cut in any::<prop::sample::Index>(),
    ) {
        let slices: Vec<&[u8]> = frames.iter().map(Vec::as_slice).collect();
        let bytes = message(&slices, cut.index(frames.len() + 1));
        let (result, left) = read_all(&bytes, MessageLimits::SMALL);
        prop_assert_eq!(result.unwrap().first.unwrap(), frames[0].clone());
        prop_assert_eq!(left, 0);
    }

    #[test]
    fn a_message_cut_short_is_an_end_of_file(
        frames in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..40), 1..8),
        cut in any::<prop::sample::Index>(),
    ) {
        let slices: Vec<&[u8]> = frames.iter().map(Vec::as_slice).collect();
        let bytes = message(&slices, frames.len());
        let (result, _) = read_all(&bytes[..cut.index(bytes.len())], MessageLimits::SMALL);
        prop_assert!(matches!(result, Err(Error::Io(_))), "{result:?}");
    }
}
