//! Claim: every shader is valid WGSL in every variant the backend asks for, and agrees with Rust about parameters
//! and constants; needs no GPU.

use naga::valid::{Capabilities, ValidationFlags, Validator};
use zprune::backend::gpu::parameters::{self, FieldType, MIRRORED};
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
            let functions = Vec::new();
            validate(
                shader,
                &Variant {
                    types,
                    constants,
                    functions,
                },
            );
            validate(shader, &Variant::default());
            continue;
        }
        let module = validate(shader, &Variant::default());
        assert!(!module.entry_points.is_empty(), "{} has no entry point", shader.name);
        let half = |name: &str| if name.ends_with('4') { "vec4<f16>" } else { "f16" };
        let types = aliases(shader).into_iter().map(|name| (name, half(name))).collect();
        let variant = Variant {
            types,
            ..Variant::default()
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
        constants: vec![("VECTORS", 32), ("OWNED", 2)],
        ..Variant::default()
    };
    let text = shader.specialise(&variant);
    assert!(text.contains("const VECTORS: u32 = 32u;"), "{text}");
    assert!(!text.contains("const VECTORS: u32 = 16u;"), "{text}");
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

#[test]
fn every_parameter_is_where_the_shader_reads_it() {
    let with_parameters: Vec<_> = parameters::ALL.iter().flat_map(|layout| layout.shaders).collect();
    assert_eq!(with_parameters.len(), ALL.len(), "every shader has parameters");
    for layout in parameters::ALL {
        for shader in layout.shaders {
            let module = validate(shader, &Variant::default());
            let (_, uniform) = module
                .global_variables
                .iter()
                .find(|(_, variable)| variable.space == naga::AddressSpace::Uniform)
                .unwrap_or_else(|| panic!("{} has no uniform", shader.name));
            let naga::TypeInner::Struct { members, .. } = &module.types[uniform.ty].inner else {
                panic!("{}: the uniform is no structure", shader.name);
            };
            let there: Vec<_> = members
                .iter()
                .map(|member| {
                    let name = member.name.clone().expect("members have names");
                    (name, member.offset as usize, field_type(&module, member.ty))
                })
                .collect();
            let here: Vec<_> = layout
                .fields
                .iter()
                .copied()
                .flatten()
                .map(|(name, offset, kind)| (name.to_string(), *offset, *kind))
                .collect();
            assert_eq!(here, there, "{}", shader.name);
        }
    }
}

fn field_type(module: &naga::Module, ty: naga::Handle<naga::Type>) -> FieldType {
    use naga::{ArraySize, Scalar, TypeInner};
    match &module.types[ty].inner {
        TypeInner::Scalar(Scalar::U32) => FieldType::U32,
        TypeInner::Scalar(Scalar::F32) => FieldType::F32,
        TypeInner::Array {
            size: ArraySize::Constant(size),
            stride: 16,
            ..
        } => FieldType::Vectors(size.get() as usize),
        other => panic!("a parameter of type {other:?}"),
    }
}

#[test]
fn every_constant_that_rust_repeats_is_the_shaders() {
    for (shader, name, value) in MIRRORED {
        let module = validate(shader, &Variant::default());
        let (_, constant) = module
            .constants
            .iter()
            .find(|(_, constant)| constant.name.as_deref() == Some(name))
            .unwrap_or_else(|| panic!("{} has no constant {name}", shader.name));
        let there = &module.global_expressions[constant.init];
        let naga::Expression::Literal(naga::Literal::U32(there)) = there else {
            panic!("{}: {name} is {there:?}", shader.name);
        };
        assert_eq!(there, value, "{}: {name}", shader.name);
    }
}
