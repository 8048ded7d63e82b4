//! What this machine's processor is called.

/// The processor as it calls itself, with its family and model, which tell apart what has the same name: `AMD EPYC (family 25, model
/// 17)`. `None` if it has no name that a program can read.
#[cfg(target_arch = "x86_64")]
pub fn name() -> Option<String> {
    use std::arch::x86_64::__cpuid;
    const NAME: std::ops::RangeInclusive<u32> = 0x8000_0002..=0x8000_0004;
    if __cpuid(0x8000_0000).eax < *NAME.end() {
        return None;
    }
    let parts = NAME
        .map(__cpuid)
        .flat_map(|part| [part.eax, part.ebx, part.ecx, part.edx]);
    let bytes: Vec<u8> = parts.flat_map(u32::to_le_bytes).take_while(|byte| *byte != 0).collect();
    let text = String::from_utf8_lossy(&bytes);
    let words: Vec<&str> = text.split_whitespace().collect();
    let (family, model) = version(__cpuid(1).eax);
    (!words.is_empty()).then(|| format!("{} (family {family}, model {model})", words.join(" ")))
}

/// See above.
#[cfg(not(target_arch = "x86_64"))]
pub fn name() -> Option<String> {
    None
}

/// Family and model in the word that the instruction `cpuid` has for them.
#[cfg(any(target_arch = "x86_64", test))]
fn version(word: u32) -> (u32, u32) {
    let bits = |from: u32, count: u32| (word >> from) & ((1 << count) - 1);
    let family = match bits(8, 4) {
        15 => 15 + bits(20, 8),
        family => family,
    };
    let model = match family {
        6 | 15.. => bits(4, 4) + 16 * bits(16, 4),
        _ => bits(4, 4),
    };
    (family, model)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn family_and_model_are_those_of_the_makers_manuals() {
        // A Zen 4 (Genoa), a Sapphire Rapids and a Pentium III.
        assert_eq!(version(0x00a1_0f11), (25, 17));
        assert_eq!(version(0x000c_06f2), (6, 207));
        assert_eq!(version(0x0000_0686), (6, 8));
    }

    #[test]
    #[cfg(target_arch = "x86_64")]
    fn this_processor_has_a_name_of_one_line() {
        let name = name().expect("every processor with 64 bits has one");
        assert!(name.contains("family") && !name.contains(['\n', '\0']), "{name}");
    }
}
