//! Macro averages: the mean of tasks' scores, each task counting the same however many documents it has.

/// The average over several tasks, each with the same weight, and its standard error.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Macro {
    /// Number of parts (tasks) that were averaged.
    pub parts: usize,
    /// Mean of the parts' values, in the unit that they share.
    pub value: f64,
    /// `sqrt(sum of squared standard errors) / parts`: tasks have different documents, so their errors are independent.
    pub standard_error: f64,
}

/// Averages parts that are given as `(value, standard error)`; `None` if there are no parts.
pub fn macro_average(parts: &[(f64, f64)]) -> Option<Macro> {
    if parts.is_empty() {
        return None;
    }
    let count = parts.len() as f64;
    Some(Macro {
        parts: parts.len(),
        value: parts.iter().map(|(value, _)| value).sum::<f64>() / count,
        standard_error: parts.iter().map(|(_, error)| error * error).sum::<f64>().sqrt() / count,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_small_task_passes_on_its_large_error() {
        let average = macro_average(&[(0.5, 0.003), (0.6, 0.004), (0.43, 0.059)]).expect("parts");
        assert!((average.value - 0.51).abs() < 1e-12);
        let expected = (0.003f64.powi(2) + 0.004f64.powi(2) + 0.059f64.powi(2)).sqrt() / 3.0;
        assert!((average.standard_error - expected).abs() < 1e-15);
        assert_eq!(macro_average(&[]), None);
    }
}
