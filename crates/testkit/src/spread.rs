//! Ratios of several rounds, as benchmarks tell them.

/// The median of `ratios`, and behind it the least and the most: `1.08 (1.02–1.13)`.
pub fn spread(mut ratios: Vec<f64>) -> String {
    ratios.sort_by(f64::total_cmp);
    let [least, .., most] = ratios.as_slice() else { return format!("{ratios:.2?}") };
    format!("{:.2} ({least:.2}–{most:.2})", ratios[ratios.len() / 2])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_stands_before_the_range() {
        assert_eq!(spread(vec![1.1, 3.0, 0.5]), "1.10 (0.50–3.00)");
        assert_eq!(spread(vec![1.5]), "[1.50]");
    }
}
