//! Claim: every shader is valid WGSL in every variant the backend asks for; needs no GPU.

use naga::valid::{Capabilities, ValidationFlags, Validator};
use zprune::backend::gpu::shader::{ALL, Shader, Variant};

fn validate(shader: &Shader, variant: &Variant) -> naga::Module {
    let text = shader.specialise(variant);
    let module = naga::front::wgsl::parse_str(&text)
        .unwrap_or_else(|error| panic!("{}", error.emit_to_string_with_path(&text, shader.name)));
    Validator::new(ValidationFlags::all(), Capabilities::all())
        .validate(&module)
        .unwrap_or_else(|error| panic!("{}", error.emit_to_string_with_path(&text, shader.name)));
    module
}

/// The names of the lines that may be replaced: `alias NAME = f32;`.
fn aliases(shader: &Shader) -> Vec<&'static str> {
    let lines = shader.text.lines();
    lines
        .filter_map(|line| line.strip_prefix("alias ")?.split(' ').next())
        .collect()
}

#[test]
fn every_shader_is_valid_in_every_precision() {
    assert!(ALL.len() >= 12, "only {} shaders", ALL.len());
    for shader in ALL {
        if shader.name == "factor.wgsl" {
            // In double precision, not half.
            let types = vec![("F", "f64")];
            let constants = vec![("BLOCK", 64), ("THREADS", 256)];
            validate(shader, &Variant { types, constants });
            validate(shader, &Variant::default());
            continue;
        }
        let module = validate(shader, &Variant::default());
        assert!(!module.entry_points.is_empty(), "{} has no entry point", shader.name);
        let half = |name: &str| if name.ends_with('4') { "vec4<f16>" } else { "f16" };
        let types = aliases(shader).into_iter().map(|name| (name, half(name))).collect();
        let variant = Variant {
            types,
            constants: Vec::new(),
        };
        validate(shader, &variant);
    }
}

#[test]
fn constants_are_replaced_where_they_stand() {
    let shader = ALL
        .iter()
        .find(|shader| shader.name == "attention.wgsl")
        .expect("listed");
    let variant = Variant {
        types: Vec::new(),
        constants: vec![("VECTORS", 32), ("OWNED", 2)],
    };
    let text = shader.specialise(&variant);
    assert!(text.contains("const VECTORS: u32 = 32u;"), "{text}");
    assert_eq!(text.lines().count(), shader.text.lines().count());
    validate(shader, &variant);
}

#[test]
fn every_file_belongs_to_a_shader() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/shaders");
    let all: String = ALL.iter().map(|shader| shader.text).collect();
    for entry in std::fs::read_dir(folder).expect("shaders are in the repository") {
        let path = entry.expect("readable").path();
        if path.extension().is_some_and(|extension| extension == "wgsl") {
            let text = std::fs::read_to_string(&path).expect("readable");
            assert!(all.contains(&text), "{} is not used", path.display());
        }
    }
}
