use eyebolt_types::{ErrorCode, result::Verdict};

use super::*;

const SIDE: u32 = 400;

fn picture(colour: impl Fn(u32, u32) -> [u8; 3]) -> Picture {
    let pixels = (0..SIDE * SIDE).flat_map(|index| colour(index % SIDE, index / SIDE)).collect();
    Picture::full(SIDE, SIDE, pixels)
}

fn grey(light: impl Fn(u32, u32) -> f32) -> Picture {
    picture(|x, y| [light(x, y).round().clamp(0.0, 255.0) as u8; 3])
}

/// Squares of 40 pixels whose edges are as wide as asked; their contrast grows across the picture.
fn squares(blur: f32) -> impl Fn(u32, u32) -> f32 {
    let wave = move |at: u32| {
        let distance = ((at + 3) as f32 * std::f32::consts::PI / 40.0).sin() * 25.0;
        (distance / blur).clamp(-1.0, 1.0)
    };
    move |x, y| 128.0 + (10.0 + (x + y) as f32 / 10.0) * wave(x) * wave(y)
}

/// Repeatable numbers that look random, about normal with deviation 1: the sum of four bytes of a hash.
fn chance(x: u32, y: u32) -> f32 {
    let mut hash = x.wrapping_mul(0x9E37_79B9) ^ y.wrapping_mul(0x85EB_CA6B);
    hash = (hash ^ (hash >> 15)).wrapping_mul(0x2C1B_3C6D);
    hash = (hash ^ (hash >> 12)).wrapping_mul(0x297A_2D39);
    let sum: u16 = (hash ^ (hash >> 15)).to_le_bytes().into_iter().map(u16::from).sum();
    (f32::from(sum) - 510.0) / 147.8
}

fn refused(picture: &Picture) -> Vec<ErrorCode> {
    refusals(&measure(picture))
}

fn verdict_of(picture: &Picture, measure_name: &str) -> Verdict {
    let verdicts = judge(&measure(picture));
    verdicts.iter().find(|verdict| verdict.measure == measure_name).expect("the measure is judged").verdict
}

#[test]
fn a_sharp_picture_passes_every_measure() {
    let verdicts = judge(&measure(&grey(squares(2.0))));
    let passed: Vec<_> = verdicts.iter().map(|v| (v.measure.as_str(), v.verdict, v.code.clone())).collect();
    let names = ["content", "brightness", "contrast", "sharpness", "noise", "resolution", "compression"];
    assert_eq!(passed, names.map(|name| (name, Verdict::Pass, None)));
}

#[test]
fn flat_pictures_are_blank_whatever_their_colour() {
    for colour in [[128, 128, 128], [200, 30, 30]] {
        assert_eq!(refused(&picture(|_, _| colour)), [ErrorCode::BlankImage, ErrorCode::LowContrast]);
    }
    assert_eq!(refused(&picture(|_, _| [0; 3]))[..2], [ErrorCode::BlankImage, ErrorCode::TooDark]);
    assert_eq!(refused(&picture(|_, _| [255; 3]))[..2], [ErrorCode::BlankImage, ErrorCode::TooBright]);
}

#[test]
fn a_page_with_one_short_line_is_not_blank() {
    let ink = |x: u32, y: u32| x > 50 && x < 130 && y > 40 && y < 50 && x % 4 < 2;
    assert_eq!(refused(&picture(|x, y| if ink(x, y) { [20; 3] } else { [255; 3] })), []);
}

#[test]
fn colours_of_one_luma_are_contrast() {
    let scene = picture(|x, y| if (x / 40 + y / 40) % 2 == 0 { [255, 0, 0] } else { [0, 131, 0] });
    assert_eq!(refused(&scene), []);
}

#[test]
fn light_decides_only_at_the_ends() {
    let sharp = squares(2.0);
    let at_gain = |gain: f32, offset: f32| grey(|x, y| sharp(x, y) * gain + offset);
    assert_eq!(refused(&at_gain(0.1, 0.0)), [ErrorCode::TooDark]);
    assert_eq!(refused(&at_gain(0.3, 180.0)), [ErrorCode::TooBright]);
    assert_eq!(refused(&at_gain(0.06, 120.0)), [ErrorCode::LowContrast]);
    assert_eq!(refused(&at_gain(0.3, 0.0)), [], "dark, but there is something");
    assert_eq!(verdict_of(&at_gain(0.3, 0.0), "brightness"), Verdict::Warn);
}

#[test]
fn blur_fails_only_where_all_of_the_picture_is_blurred() {
    let (sharp, blurred) = (squares(2.0), squares(25.0));
    assert_eq!(refused(&grey(&blurred)), [ErrorCode::TooBlurry]);
    let subject = |x: u32, y: u32| (160..240).contains(&x) && (160..240).contains(&y);
    assert_eq!(refused(&grey(|x, y| if subject(x, y) { sharp(x, y) } else { blurred(x, y) })), []);
}

#[test]
fn noise_fails_where_it_drowns_the_picture_and_not_in_codes() {
    let sharp = squares(2.0);
    let noisy = |deviation: f32| grey(|x, y| sharp(x, y) + deviation * chance(x, y));
    assert_eq!(refused(&noisy(60.0)), [ErrorCode::TooNoisy]);
    assert_eq!(verdict_of(&noisy(14.0), "noise"), Verdict::Warn);
    assert_eq!(refused(&noisy(5.0)), []);
    let code = picture(|x, y| [if chance(x / 2, y / 2) > 0.0 { 255 } else { 0 }; 3]);
    assert_eq!(refused(&code), []);
}

#[test]
fn the_noise_estimate_is_the_deviation_of_the_noise() {
    let found = measure(&grey(|x, y| 128.0 + 10.0 * chance(x, y))).noise.expect("large enough");
    assert!((8.0..=11.0).contains(&found), "{found}");
}

#[test]
fn blocks_of_eight_pixels_are_seen_at_full_size_alone() {
    let smooth = |x: u32, y: u32| 128.0 + 60.0 * (x as f32 / 23.0).sin() * (y as f32 / 17.0).cos();
    let mut blocky = grey(|x, y| smooth(x / 8 * 8, y / 8 * 8));
    assert_eq!(verdict_of(&blocky, "compression"), Verdict::Warn);
    assert_eq!(verdict_of(&grey(smooth), "compression"), Verdict::Pass);
    (blocky.full_width, blocky.full_height) = (2 * SIDE, 2 * SIDE);
    assert_eq!(measure(&blocky).blockiness, None);
}

#[test]
fn small_pictures_are_refused_for_their_size_alone() {
    let icon = Picture::full(64, 64, vec![9; 64 * 64 * 3]);
    assert_eq!(refused(&icon), []);
    let speck = Picture::full(20, 31, vec![9; 20 * 31 * 3]);
    assert_eq!(refused(&speck), [ErrorCode::ImageTooSmall]);
}

#[test]
fn a_scaled_picture_is_judged_by_the_size_of_its_file() {
    let sharp = squares(2.0);
    let mut scaled = grey(sharp);
    (scaled.full_width, scaled.full_height) = (8 * SIDE, 8 * SIDE);
    assert_eq!(measure(&scaled).short_side, 8 * SIDE);
}

proptest::proptest! {
    #[test]
    fn any_picture_can_be_measured(width in 1_u32..70, height in 1_u32..70, seed: u32) {
        let (width, height) = if seed % 7 == 0 { (width * 40, 1 + height / 60) } else { (width, height) };
        let pixels = (0..width * height * 3).map(|at| (chance(at, seed) * 50.0 + 128.0) as u8).collect();
        let found = measure(&Picture::full(width, height, pixels));
        proptest::prop_assert!(judge(&found).iter().all(|verdict| verdict.value.is_finite()));
    }
}
