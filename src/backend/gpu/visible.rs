//! Which GPUs of a host this process may use: schedulers and containers say so in environment variables, which the vendors' own
//! libraries obey and their Vulkan drivers do not.
//!
//! The first variable of a vendor that is set decides. Its entries are numbers, in the order of PCI addresses, or identifiers,
//! which the system's files give for an address. As in CUDA, an entry that means no GPU ends the list, so `-1` and an empty
//! value hide all.

use std::path::Path;

/// What is known of a GPU before it is chosen.
pub(super) struct Card {
    /// The vendor, by its PCI number.
    pub(super) vendor: u32,
    /// PCI address, such as `0000:41:00.0`; empty where the driver does not tell.
    pub(super) address: String,
}

const NVIDIA: u32 = 0x10de;
const AMD: u32 = 0x1002;
const INTEL: u32 = 0x8086;

/// The variables that decide for a vendor, the most important first.
fn variables(vendor: u32) -> &'static [&'static str] {
    match vendor {
        NVIDIA => &["CUDA_VISIBLE_DEVICES", "GPU_DEVICE_ORDINAL"],
        AMD => &["ROCR_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES", "GPU_DEVICE_ORDINAL"],
        INTEL => &["ZE_AFFINITY_MASK"],
        _ => &[],
    }
}

/// SLURM's own numbers of the GPUs of a step and of a job, if it was told to set none of the vendors' variables.
const SLURM: [&str; 2] = ["SLURM_STEP_GPUS", "SLURM_JOB_GPUS"];

/// For each card, the variable and its value that hide it; `None` for a card that may be used.
///
/// `variable` reads the environment, and `identifier` gives what a vendor calls the card at an address.
pub(super) fn hidden(
    cards: &[Card],
    variable: &dyn Fn(&str) -> Option<String>,
    identifier: &dyn Fn(&Card) -> Option<String>,
) -> Vec<Option<String>> {
    let mut reasons = vec![None; cards.len()];
    for vendor in [NVIDIA, AMD, INTEL] {
        let mut of_vendor: Vec<usize> = (0..cards.len()).filter(|&it| cards[it].vendor == vendor).collect();
        of_vendor.sort_by(|&a, &b| cards[a].address.cmp(&cards[b].address));
        let Some((name, value, shown)) = decided(vendor, cards, &of_vendor, variable, identifier) else {
            continue;
        };
        for &card in of_vendor.iter().filter(|card| !shown.contains(card)) {
            reasons[card] = Some(format!("{name}={value}"));
        }
    }
    reasons
}

/// The variable that decides for a vendor, its value, and the cards that it shows.
fn decided(
    vendor: u32,
    cards: &[Card],
    of_vendor: &[usize],
    variable: &dyn Fn(&str) -> Option<String>,
    identifier: &dyn Fn(&Card) -> Option<String>,
) -> Option<(&'static str, String, Vec<usize>)> {
    let shown = |value: &str| {
        let mut shown = Vec::new();
        for entry in value.split(',') {
            match entry_of(entry.trim(), cards, of_vendor, identifier) {
                Some(card) => shown.push(card),
                None => break,
            }
        }
        shown
    };
    for name in variables(vendor) {
        if let Some(value) = variable(name) {
            let shown = shown(&value);
            return Some((name, value, shown));
        }
    }
    // A container sees only the cards it was given, whose numbers are the host's; identifiers mean the same on both sides.
    if vendor == NVIDIA
        && let Some(value) = variable("NVIDIA_VISIBLE_DEVICES").filter(|value| value.starts_with("GPU-"))
    {
        let shown = shown(&value);
        return Some(("NVIDIA_VISIBLE_DEVICES", value, shown)).filter(|(.., shown)| !shown.is_empty());
    }
    // SLURM numbers the cards of the node. Where it lets a step see no others, their numbers here are not those.
    for name in SLURM {
        if let Some(value) = variable(name)
            && value.split(',').count() < of_vendor.len()
        {
            let shown = shown(&value);
            return Some((name, value, shown)).filter(|(.., shown)| !shown.is_empty());
        }
    }
    None
}

/// The card that an entry means: a number, with a tile after a point or not, or the beginning of an identifier.
fn entry_of(
    entry: &str,
    cards: &[Card],
    of_vendor: &[usize],
    identifier: &dyn Fn(&Card) -> Option<String>,
) -> Option<usize> {
    let number = entry.split('.').next().unwrap_or(entry);
    if let Ok(number) = number.parse::<usize>() {
        return of_vendor.get(number).copied();
    }
    let wanted = entry.to_lowercase();
    let mut fits = of_vendor.iter().copied().filter(|&card| {
        let known = identifier(&cards[card]).map(|known| known.to_lowercase());
        !wanted.is_empty() && known.is_some_and(|known| known.starts_with(&wanted))
    });
    let first = fits.next();
    first.filter(|_| fits.next().is_none())
}

/// What the vendor's own tools call the card: `GPU-` and a number, from files that Linux drivers keep by PCI address.
pub(super) fn identifier(card: &Card) -> Option<String> {
    match card.vendor {
        NVIDIA => {
            let file = Path::new("/proc/driver/nvidia/gpus")
                .join(&card.address)
                .join("information");
            let text = std::fs::read_to_string(file).ok()?;
            let line = text.lines().find_map(|line| line.strip_prefix("GPU UUID:"))?;
            Some(line.trim().to_string())
        }
        AMD => {
            let file = Path::new("/sys/bus/pci/devices").join(&card.address).join("unique_id");
            let text = std::fs::read_to_string(file).ok()?;
            Some(format!("GPU-{}", text.trim().trim_start_matches("0x")))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Three cards of NVIDIA, listed in another order than that of their addresses, and one of AMD.
    fn cards() -> Vec<Card> {
        let card = |vendor, address: &str| Card {
            vendor,
            address: address.to_string(),
        };
        vec![
            card(NVIDIA, "0000:81:00.0"),
            card(NVIDIA, "0000:01:00.0"),
            card(AMD, "0000:21:00.0"),
            card(NVIDIA, "0000:c1:00.0"),
        ]
    }

    /// The places of the cards that may be used when the environment has these variables.
    fn shown(variables: &[(&str, &str)]) -> Vec<usize> {
        let variable = |name: &str| {
            let found = variables.iter().find(|(known, _)| *known == name);
            found.map(|(_, value)| value.to_string())
        };
        let identifier = |card: &Card| Some(format!("GPU-{}-beef", &card.address[5..7]));
        let cards = cards();
        let hidden = hidden(&cards, &variable, &identifier);
        (0..cards.len()).filter(|&card| hidden[card].is_none()).collect()
    }

    #[test]
    fn numbers_count_the_cards_of_a_vendor_by_their_addresses() {
        assert_eq!(shown(&[]), [0, 1, 2, 3]);
        assert_eq!(shown(&[("CUDA_VISIBLE_DEVICES", "0")]), [1, 2]);
        assert_eq!(shown(&[("CUDA_VISIBLE_DEVICES", "2, 1")]), [0, 2, 3]);
        assert_eq!(shown(&[("ROCR_VISIBLE_DEVICES", "0")]), [0, 1, 2, 3]);
        assert_eq!(shown(&[("ROCR_VISIBLE_DEVICES", "")]), [0, 1, 3]);
        // SLURM sets the variables of all vendors, whichever cards there are.
        let slurm = [
            ("CUDA_VISIBLE_DEVICES", "1"),
            ("ROCR_VISIBLE_DEVICES", "1"),
            ("GPU_DEVICE_ORDINAL", "1"),
        ];
        assert_eq!(shown(&slurm), [0]);
    }

    #[test]
    fn an_entry_that_means_no_card_ends_the_list() {
        for value in ["", "-1", "7", "nonsense", "-1,0"] {
            assert_eq!(shown(&[("CUDA_VISIBLE_DEVICES", value)]), [2], "{value:?}");
        }
        assert_eq!(shown(&[("CUDA_VISIBLE_DEVICES", "0,-1,1")]), [1, 2]);
    }

    #[test]
    fn identifiers_may_be_shortened_as_long_as_one_card_fits() {
        assert_eq!(shown(&[("CUDA_VISIBLE_DEVICES", "GPU-c1-be")]), [2, 3]);
        assert_eq!(shown(&[("CUDA_VISIBLE_DEVICES", "gpu-81,GPU-01")]), [0, 1, 2]);
        assert_eq!(shown(&[("CUDA_VISIBLE_DEVICES", "GPU-")]), [2]);
        assert_eq!(shown(&[("NVIDIA_VISIBLE_DEVICES", "GPU-81-beef")]), [0, 2]);
        for value in ["all", "void", "1", "GPU-unknown"] {
            assert_eq!(shown(&[("NVIDIA_VISIBLE_DEVICES", value)]), [0, 1, 2, 3], "{value}");
        }
    }

    #[test]
    fn slurms_own_numbers_count_where_the_step_sees_more_cards_than_it_was_given() {
        assert_eq!(shown(&[("SLURM_JOB_GPUS", "1")]), [0, 2]);
        assert_eq!(shown(&[("SLURM_JOB_GPUS", "0,1"), ("SLURM_STEP_GPUS", "2")]), [2, 3]);
        assert_eq!(shown(&[("SLURM_STEP_GPUS", "5,6,7")]), [0, 1, 2, 3]);
    }
}
