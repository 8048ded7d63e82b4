//! Counts and order of masks.

use super::*;

proptest! {
    #![proptest_config(cases(512))]

    #[test]
    fn every_group_loses_exactly_its_quota_and_the_reference_rule_one_more_and_the_ties(
        rows in 1usize..24, columns in 1usize..300, sparsity in any_sparsity(), group in one_of(&GROUPS),
        ties in one_of(&TIES), seed: u64,
    ) {
        let scores = tied(&mut seeded(seed), ties, rows, columns).mapv(f32::abs);
        for selection in SELECTIONS {
            let target = unstructured(sparsity, group, selection);
            let mask = select(scores.view(), &target).expect("any width fits");
            mask.check(&target).expect("the mask is what was asked for");
            for places in comparison_groups(scores.dim(), &target) {
                let removed = places.iter().filter(|place| mask.entries()[**place]).count();
                let quota = quota(places.len(), target.pattern);
                if selection == Selection::Exact || group == Group::Row {
                    assert_eq!(removed, quota, "{selection:?}, {group} from {:?}", places[0]);
                } else {
                    let mut sorted: Vec<f32> = places.iter().map(|place| scores[*place]).collect();
                    sorted.sort_by(f32::total_cmp);
                    let threshold = sorted[quota];
                    let ties = sorted.iter().filter(|score| **score == threshold).count();
                    assert!(
                        (quota + 1..=quota + ties).contains(&removed),
                        "reference, {group} from {:?}: {removed} removed, quota {quota}, {ties} ties",
                        places[0]
                    );
                    let above = sorted.iter().filter(|score| **score > threshold).count();
                    assert_eq!(removed, places.len() - above, "reference, {group}: all ties go");
                }
            }
        }
    }

    #[test]
    fn every_n_to_m_group_keeps_exactly_n_whatever_the_ties(
        rows in 1usize..12, eighths in 1usize..40, group in one_of(&GROUPS), ties in one_of(&TIES), seed: u64,
    ) {
        let scores = tied(&mut seeded(seed), ties, rows, 8 * eighths).mapv(f32::abs);
        for (keep, of) in STRUCTURED {
            for selection in SELECTIONS {
                let target = Target { group, selection, ..structured(keep, of) };
                let mask = select(scores.view(), &target).expect("a multiple of 8 fits");
                mask.check(&target).expect("the mask is what was asked for");
                for places in comparison_groups(scores.dim(), &target) {
                    let kept = places.iter().filter(|place| !mask.entries()[**place]).count();
                    assert_eq!(kept, keep, "{keep}:{of}, {group}, {selection:?}, group from {:?}", places[0]);
                }
            }
        }
        let narrow = scores.slice(s![.., 1..]);
        assert!(select(narrow, &structured(2, 4)).is_err(), "2:4 of {} columns", narrow.ncols());
    }

    #[test]
    fn no_kept_score_is_lower_than_a_removed_one_of_its_group(
        rows in 1usize..16, eighths in 1usize..40, target in any_target(), ties in one_of(&TIES), seed: u64,
    ) {
        let scores = tied(&mut seeded(seed), ties, rows, 8 * eighths).mapv(f32::abs);
        let mask = select(scores.view(), &target).expect("a multiple of 8 fits");
        for places in comparison_groups(scores.dim(), &target) {
            let entries = mask.entries();
            let of = |gone: bool| {
                let places = places.iter().filter(move |place| entries[**place] == gone);
                places.map(|place| scores[*place])
            };
            let removed = of(true).fold(0.0f32, f32::max);
            let kept = of(false).fold(f32::INFINITY, f32::min);
            assert!(removed <= kept, "{target:?}: {removed} goes and {kept} stays in the group from {:?}", places[0]);
        }
    }

    #[test]
    fn among_equal_scores_the_lower_column_goes_first_and_then_the_lower_row(
        rows in 1usize..16, eighths in 1usize..40, target in any_target(), ties in one_of(&TIES), seed: u64,
    ) {
        let target = Target { selection: Selection::Exact, ..target };
        let scores = tied(&mut seeded(seed), ties, rows, 8 * eighths).mapv(f32::abs);
        let mut want = Array2::from_elem(scores.dim(), false);
        for mut places in comparison_groups(scores.dim(), &target) {
            places.sort_by(|a, b| scores[*a].total_cmp(&scores[*b]).then(a.1.cmp(&b.1)).then(a.0.cmp(&b.0)));
            for place in &places[..quota(places.len(), target.pattern)] {
                want[*place] = true;
            }
        }
        let mask = select(scores.view(), &target).expect("a multiple of 8 fits");
        assert_eq!(mask.entries(), want, "{target:?}");
    }

    #[test]
    fn with_distinct_scores_a_lower_sparsity_removes_a_subset(
        rows in 1usize..16, eighths in 1usize..40, first in any_sparsity(), second in any_sparsity(),
        group in one_of(&GROUPS), selection in one_of(&SELECTIONS), seed: u64,
    ) {
        let scores = distinct(&mut seeded(seed), rows, 8 * eighths);
        let chosen = |target: Target| select(scores.view(), &target).expect("a multiple of 8 fits");
        let subset = |few: &Mask, many: &Mask| few.entries().iter().zip(many.entries()).all(|(few, many)| !few || *many);
        let (low, high) = (first.min(second), first.max(second));
        let few = chosen(unstructured(low, group, selection));
        let many = chosen(unstructured(high, group, selection));
        assert!(subset(&few, &many), "{low} and {high}, {group}, {selection:?}");
        let [most, half, least] = [1, 2, 3].map(|keep| chosen(structured(keep, 4)));
        assert!(subset(&least, &half) && subset(&half, &most), "3:4, 2:4, 1:4");
    }
}

proptest! {
    #![proptest_config(cases(96))]

    #[test]
    fn a_mask_of_exact_counts_is_refused_after_any_single_flip(
        rows in 1usize..6, eighths in 1usize..20, target in any_target(), seed: u64,
    ) {
        // Under the reference rule counts of these groups are bounded from below only: `check` has no
        // scores, so it cannot tell a tie from a surplus.
        let bounded = matches!(target.pattern, Pattern::Unstructured { .. }) && target.group != Group::Row;
        let lower_bound = bounded && target.selection == Selection::Reference;
        let scores = distinct(&mut seeded(seed), rows, 8 * eighths);
        let mask = select(scores.view(), &target).expect("a multiple of 8 fits");
        for (place, removed) in mask.entries().indexed_iter() {
            let mut flipped = mask.clone();
            flipped.entries_mut()[place] = !removed;
            let accepted = flipped.check(&target).is_ok();
            assert_eq!(accepted, lower_bound && !removed, "{target:?}: flipped {place:?}, which was {removed}");
        }
    }
}
