//! How large a thumbnail gets, and of which part of the picture.
//!
//! [CS-API §thumbnails]: at least as large as asked for, never larger than the original.

use super::{Method, Spec};

/// Which part of the picture is shown, and how large.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Plan {
    /// What is cut out of the middle.
    pub(super) cut_width: u32,
    pub(super) cut_height: u32,
    /// And brought to this size.
    pub(super) width: u32,
    pub(super) height: u32,
}

impl Plan {
    /// For a picture of this size, as it is shown.
    pub(super) fn new(width: u32, height: u32, spec: Spec) -> Self {
        let whole = Self { cut_width: width, cut_height: height, width, height };
        match spec.method {
            // Keeps the shape and covers the box that was asked for.
            Method::Scale => {
                if spec.width >= width || spec.height >= height {
                    return whole;
                }
                let (width, height) = if is_wider(width, height, spec) {
                    (scaled(width, spec.height, height), spec.height)
                } else {
                    (spec.width, scaled(height, spec.width, width))
                };
                Self { width, height, ..whole }
            }
            // Takes the shape that was asked for out of the middle.
            Method::Crop => {
                if spec.width >= width && spec.height >= height {
                    return whole;
                }
                let (cut_width, cut_height) = if is_wider(width, height, spec) {
                    (scaled(spec.width, height, spec.height), height)
                } else {
                    (width, scaled(spec.height, width, spec.width))
                };
                Self { cut_width, cut_height, width: cut_width.min(spec.width), height: cut_height.min(spec.height) }
            }
        }
    }

    /// Pixels of the result.
    pub(super) fn pixels(self) -> u64 {
        u64::from(self.width) * u64::from(self.height)
    }

    /// The same for the picture as it is stored, when it is stored lying on its side.
    pub(super) fn turned(self) -> Self {
        Self { cut_width: self.cut_height, cut_height: self.cut_width, width: self.height, height: self.width }
    }

    pub(super) fn is_original(self, width: u32, height: u32) -> bool {
        self == Self { cut_width: width, cut_height: height, width, height }
    }
}

/// Whether the picture is wider than the box, for its height.
fn is_wider(width: u32, height: u32, spec: Spec) -> bool {
    u64::from(width) * u64::from(spec.height) > u64::from(spec.width) * u64::from(height)
}

/// `length * numerator / denominator`, rounded, at least 1.
pub(super) fn scaled(length: u32, numerator: u32, denominator: u32) -> u32 {
    let exact = u64::from(length) * u64::from(numerator);
    let rounded = (exact + u64::from(denominator) / 2) / u64::from(denominator);
    u32::try_from(rounded).unwrap_or(u32::MAX).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(width: u32, height: u32, method: Method, wanted: (u32, u32)) -> (u32, u32) {
        let plan = Plan::new(width, height, Spec { width: wanted.0, height: wanted.1, method, animated: false });
        assert!(plan.cut_width <= width && plan.cut_height <= height);
        assert!(plan.width <= plan.cut_width && plan.height <= plan.cut_height, "never larger than the original");
        (plan.width, plan.height)
    }

    #[test]
    fn scaling_keeps_the_shape_and_covers_what_was_asked_for() {
        assert_eq!(plan(1600, 1200, Method::Scale, (320, 240)), (320, 240));
        assert_eq!(plan(1000, 500, Method::Scale, (320, 240)), (480, 240));
        assert_eq!(plan(500, 1000, Method::Scale, (320, 240)), (320, 640));
    }

    #[test]
    fn a_picture_that_is_smaller_on_one_side_is_not_scaled() {
        assert_eq!(plan(100, 1000, Method::Scale, (200, 200)), (100, 1000));
        assert_eq!(plan(10, 10, Method::Scale, (32, 32)), (10, 10));
    }

    #[test]
    fn cropping_gives_the_shape_that_was_asked_for() {
        assert_eq!(plan(1000, 500, Method::Crop, (96, 96)), (96, 96));
        assert_eq!(plan(500, 1000, Method::Crop, (200, 50)), (200, 50));
        assert_eq!(plan(100, 1000, Method::Crop, (200, 200)), (100, 100));
        assert_eq!(plan(50, 60, Method::Crop, (96, 96)), (50, 60), "both sides are smaller: the original");
    }

    #[test]
    fn extreme_shapes_keep_at_least_one_pixel() {
        assert_eq!(plan(30_000, 1, Method::Crop, (96, 96)), (1, 1));
        assert_eq!(plan(30_000, 2, Method::Scale, (1, 1)), (15_000, 1));
    }
}
