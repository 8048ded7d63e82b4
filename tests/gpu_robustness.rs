//! Claim: what a GPU cannot do is an error that says what, never a panic: more memory than a binding allows, a
//! feature that is missing, a shader that does not compile, a device that is gone; and threads and processes share one.

mod gpu;

use ndarray::Array2;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use zprune::backend::gpu::Gpu;
use zprune::backend::gpu::adapter::{Choice, Tier, list};
use zprune::backend::gpu::device::{Kernel, write};
use zprune::backend::gpu::shader::Shader;
use zprune::backend::{Backend, Compute};
use zprune::error::ErrorKind;

#[test]
fn more_than_a_binding_allows_is_refused_with_its_size() {
    if gpu::best_tier().is_none() {
        return;
    }
    let gpu = gpu::open(Tier::Base, Compute::F32);
    let Err(error) = gpu.upload(Array2::zeros((6000, 6000)).view()) else {
        panic!("137 MiB fit in a binding of 128 MiB");
    };
    assert_eq!(error.kind(), ErrorKind::Device);
    assert!(
        error.to_string().starts_with("137 MiB are needed in one piece"),
        "{error}"
    );
    gpu.upload(Array2::zeros((60, 60)).view())
        .expect("the device still works");
}

#[test]
fn half_precision_without_the_feature_is_refused() {
    if gpu::best_tier().is_none() {
        return;
    }
    let choice = Choice {
        adapter: None,
        software: true,
        tier: Some(Tier::Subgroups),
    };
    let Err(error) = Gpu::open(&choice, Compute::F16) else {
        panic!("the tier has no half precision");
    };
    assert_eq!(error.kind(), ErrorKind::Config);
    assert!(error.to_string().contains("no half precision"), "{error}");
}

#[test]
fn a_shader_that_does_not_compile_is_named_with_its_line() {
    if gpu::best_tier().is_none() {
        return;
    }
    let gpu = gpu::open(Tier::Base, Compute::F32);
    let shader = Shader {
        name: "broken.wgsl",
        text: "@group(0) @binding(1) var<storage, read_write> x: array<f32>;\n\n@compute @workgroup_size(1)\n\
               fn broken() {\n    x[0] = 1u;\n}\n",
    };
    let memory = gpu.hardware().allocate(4).expect("room");
    let kernel = Kernel::new(shader, "broken");
    let Err(error) = gpu.hardware().run(&kernel, &0u32, &[write(&memory)], [1, 1, 1]) else {
        panic!("an integer is no float");
    };
    assert_eq!(error.kind(), ErrorKind::Device);
    let text = error.to_string();
    assert!(text.contains("shaders/broken.wgsl, function broken"), "{text}");
    assert!(text.contains("5:"), "no line in: {text}");
}

#[test]
fn a_device_that_is_gone_is_an_error_from_then_on() {
    if gpu::best_tier().is_none() {
        return;
    }
    let gpu = gpu::open(Tier::Base, Compute::F32);
    let mut x = gpu.upload(Array2::ones((8, 8)).view()).expect("room");
    gpu.hardware().destroy();
    let errors = [
        gpu.scale(&mut x, 2.0).err(),
        gpu.download(&x).err(),
        gpu.upload(Array2::ones((8, 8)).view()).err(),
        gpu.wait().err(),
    ];
    for error in errors {
        let error = error.expect("nothing works any more");
        assert_eq!(error.kind(), ErrorKind::DeviceLost);
        assert!(error.to_string().contains("the GPU was given up"), "{error}");
    }
    let gone = gpu.hardware().allocate(4).err().expect("no memory either");
    assert_eq!(gone.kind(), ErrorKind::DeviceLost);
    let another = gpu::open(Tier::Base, Compute::F32);
    another.hardware().allocate(4).expect("another device works");
}

#[test]
fn results_are_read_back_while_other_threads_use_the_device() {
    if gpu::best_tier().is_none() {
        return;
    }
    let gpu = gpu::open(Tier::Base, Compute::F32);
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        // As the next block's weights are uploaded beside the work on this one.
        for _ in 0..2 {
            scope.spawn(|| {
                while !done.load(Ordering::Relaxed) {
                    gpu.upload(Array2::ones((8, 8)).view()).expect("room");
                    gpu.wait().expect("the device is there");
                }
            });
        }
        let failed = (0..500).find_map(|round| {
            let wanted = Array2::from_elem((8, 8), round as f32);
            let uploaded = gpu.upload(wanted.view()).and_then(|x| gpu.download(&x));
            match uploaded {
                Ok(found) if found == wanted => None,
                other => Some(format!("round {round}: {other:?}")),
            }
        });
        done.store(true, Ordering::Relaxed);
        assert_eq!(failed, None);
    });
}

#[test]
fn two_processes_share_one_gpu() {
    if gpu::best_tier().is_none() {
        return;
    }
    let folder = tempfile::tempdir().expect("a temporary folder");
    let adapters = list();
    let adapter = adapters.iter().min_by_key(|adapter| adapter.software).expect("one");
    let start = |name: &str| -> Child {
        Command::new(env!("CARGO_BIN_EXE_zprune"))
            .args([
                "prune",
                "--method",
                "ria",
                "--sparsity",
                "0.5",
                "--sequences",
                "4",
                "--length",
                "64",
            ])
            .args(["--sampling", "packed", "--adapter", &adapter.name, "--compute", "f32"])
            .arg("--model")
            .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("models/tiny-llama"))
            .arg("--calibration")
            .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("corpora/austen_calibration.txt"))
            .arg("--out")
            .arg(folder.path().join(name))
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the program starts")
    };
    let both = [start("a"), start("b")];
    for child in both {
        let output = child.wait_with_output().expect("it ends");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
    let weights = |name: &str| std::fs::read(folder.path().join(name).join("model.safetensors")).expect("written");
    assert!(weights("a") == weights("b"), "the same command gave two models");
}

#[test]
fn what_a_gpu_cannot_do_is_refused_before_the_first_cell() {
    if gpu::best_tier().is_none() {
        return;
    }
    let folder = tempfile::tempdir().expect("a temporary folder");
    let adapters = list();
    let adapter = adapters.iter().min_by_key(|adapter| adapter.software).expect("one");
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let model = root.join("models/tiny-llama");
    let text = root.join("corpora/austen_calibration.txt");
    let experiment = format!(
        "name = \"large-groups\"\n[[model]]\npath = {model:?}\n[compute]\nadapter = {:?}\ncompute = \"f32\"\n\
         [calibration]\ncorpus = {text:?}\nsampling = \"packed\"\nsequences = 2\nlength = 32\n\
         [sweep]\nseeds = [0]\npatterns = [{{ sparsity = 0.5 }}, {{ keep = 128, of = 256 }}]\n\
         [[method]]\ncriterion = \"wanda\"\n[[method]]\ncriterion = \"obs\"\nsolver = \"obs\"\n\
         [[evaluation]]\nname = \"e\"\ncorpus = {text:?}\nlength = 32\nwindows = 2\n",
        adapter.name
    );
    std::fs::write(folder.path().join("x.toml"), experiment).expect("writable");
    let zprune = |arguments: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_zprune"));
        command.current_dir(folder.path()).args(arguments);
        command.output().expect("the program starts")
    };
    let single = [
        "prune",
        "--model",
        model.to_str().expect("UTF-8"),
        "--method",
        "sparsegpt",
        "--keep",
        "128",
        "--of",
        "256",
        "--calibration",
        text.to_str().expect("UTF-8"),
        "--sequences",
        "2",
        "--length",
        "32",
        "--adapter",
        &adapter.name,
        "--compute",
        "f32",
        "--out",
        "out",
    ];
    for arguments in [&["run", "x.toml"][..], &single] {
        let output = zprune(arguments);
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{said}");
        assert!(said.contains("groups of at most 128 on the GPU"), "{said}");
        for made in ["results", "out"] {
            assert!(!folder.path().join(made).exists(), "{made} was written");
        }
    }
}
