//! Curves as SVG: both axes logarithmic, so that what grows with its size is a line that rises, and what does not is level.

use std::fmt::Write as _;

const WIDTH: f64 = 760.0;
const HEIGHT: f64 = 420.0;
const LEFT: f64 = 70.0;
const RIGHT: f64 = 190.0;
const TOP: f64 = 40.0;
const BOTTOM: f64 = 50.0;
/// Told apart by people who see few colours, too.
const COLOURS: [&str; 8] = ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000", "#999999"];

/// A curve: its name and its points.
pub type Curve = (String, Vec<(f64, f64)>);

/// A picture of some curves. Points that are not above zero have no place on such axes and are left out.
pub fn curves(title: &str, across: &str, up: &str, curves: &[Curve]) -> String {
    let points = || curves.iter().flat_map(|(_, points)| points).filter(|(x, y)| *x > 0.0 && *y > 0.0);
    let decades = |values: Vec<f64>| {
        let least = values.iter().copied().fold(f64::INFINITY, f64::min).log10().floor();
        let most = values.iter().copied().fold(f64::NEG_INFINITY, f64::max).log10().ceil();
        if least.is_finite() { (least, most.max(least + 1.0)) } else { (0.0, 1.0) }
    };
    let (x_least, x_most) = decades(points().map(|(x, _)| *x).collect());
    let (y_least, y_most) = decades(points().map(|(_, y)| *y).collect());
    let x_at = |x: f64| LEFT + (x.log10() - x_least) / (x_most - x_least) * (WIDTH - LEFT - RIGHT);
    let y_at = |y: f64| HEIGHT - BOTTOM - (y.log10() - y_least) / (y_most - y_least) * (HEIGHT - TOP - BOTTOM);
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" font-family=\"sans-serif\" font-size=\"12\">\n\
         <rect width=\"{WIDTH}\" height=\"{HEIGHT}\" fill=\"#ffffff\"/>\n\
         <text x=\"{LEFT}\" y=\"22\" font-size=\"15\">{}</text>\n",
        escaped(title)
    );
    for exponent in x_least as i32..=x_most as i32 {
        let x = x_at(10f64.powi(exponent));
        let _ = writeln!(
            svg,
            "<line x1=\"{x:.1}\" x2=\"{x:.1}\" y1=\"{TOP}\" y2=\"{:.1}\" stroke=\"#dddddd\"/>\
             <text x=\"{x:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{}</text>",
            HEIGHT - BOTTOM,
            HEIGHT - BOTTOM + 16.0,
            power(exponent)
        );
    }
    for exponent in y_least as i32..=y_most as i32 {
        let y = y_at(10f64.powi(exponent));
        let _ = writeln!(
            svg,
            "<line x1=\"{LEFT}\" x2=\"{:.1}\" y1=\"{y:.1}\" y2=\"{y:.1}\" stroke=\"#dddddd\"/>\
             <text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>",
            WIDTH - RIGHT,
            LEFT - 6.0,
            y + 4.0,
            power(exponent)
        );
    }
    let _ = writeln!(
        svg,
        "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{}</text>\
         <text x=\"16\" y=\"{:.1}\" transform=\"rotate(-90 16 {:.1})\" text-anchor=\"middle\">{}</text>",
        (LEFT + WIDTH - RIGHT) / 2.0,
        HEIGHT - 12.0,
        escaped(across),
        (TOP + HEIGHT - BOTTOM) / 2.0,
        (TOP + HEIGHT - BOTTOM) / 2.0,
        escaped(up)
    );
    for (number, (name, points)) in curves.iter().enumerate() {
        let colour = COLOURS[number % COLOURS.len()];
        let at: Vec<(f64, f64)> =
            points.iter().filter(|(x, y)| *x > 0.0 && *y > 0.0).map(|(x, y)| (x_at(*x), y_at(*y))).collect();
        let line: Vec<String> = at.iter().map(|(x, y)| format!("{x:.1},{y:.1}")).collect();
        let _ = writeln!(
            svg,
            "<polyline points=\"{}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"2\"/>",
            line.join(" ")
        );
        for (x, y) in at {
            let _ = writeln!(svg, "<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"3\" fill=\"{colour}\"/>");
        }
        let (x, y) = (WIDTH - RIGHT + 14.0, TOP + 14.0 + number as f64 * 20.0);
        let _ = writeln!(
            svg,
            "<rect x=\"{x:.1}\" y=\"{:.1}\" width=\"14\" height=\"4\" fill=\"{colour}\"/>\
             <text x=\"{:.1}\" y=\"{y:.1}\">{}</text>",
            y - 6.0,
            x + 20.0,
            escaped(name)
        );
    }
    svg.push_str("</svg>\n");
    svg
}

/// `10,000`, `0.01`.
fn power(exponent: i32) -> String {
    if exponent < 0 {
        return format!("{:.*}", exponent.unsigned_abs() as usize, 10f64.powi(exponent));
    }
    let digits = format!("1{}", "0".repeat(exponent.unsigned_abs() as usize));
    let groups: Vec<&str> =
        digits.as_bytes().rchunks(3).rev().filter_map(|group| std::str::from_utf8(group).ok()).collect();
    groups.join(",")
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_grows_rises_and_what_does_not_is_level() {
        let level = ("level".to_owned(), vec![(10.0, 0.2), (1_000.0, 0.2)]);
        let rising = ("rising & <more>".to_owned(), vec![(10.0, 0.1), (1_000.0, 10.0), (2_000.0, 0.0)]);
        let svg = curves("t", "x", "y", &[level, rising]);
        let heights: Vec<Vec<f64>> = svg
            .lines()
            .filter_map(|line| line.strip_prefix("<polyline points=\"")?.split_once('"'))
            .map(|(points, _)| points.split(' ').filter_map(|point| point.split_once(',')?.1.parse().ok()).collect())
            .collect();
        assert_eq!(heights[0][0], heights[0][1]);
        assert!(heights[1].len() == 2 && heights[1][0] > heights[1][1], "{heights:?}");
        assert!(svg.contains("rising &amp; &lt;more>"));
        assert_eq!((power(-2), power(0), power(4)), ("0.01".to_owned(), "1".to_owned(), "10,000".to_owned()));
    }
}
