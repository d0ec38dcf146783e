//! libbpf is the reference loader: it takes the same object, and what it records is what aya's loader records.

#![allow(clippy::unwrap_used, reason = "helpers of tests are tests")]

mod root {
    use libbpf_rs::{Link, MapCore as _, MapFlags, Object, ObjectBuilder};
    use object::{Object as _, ObjectSymbol as _};
    use seccast_common::{ABIS, BLOCK, NUMBERS, PHASES, phase};
    use seccast_kernel::kernel;
    use seccast_model::{
        arch::Arch,
        observation::{Observation, Phase},
        syscall,
    };
    use seccast_recorder::{
        Recorder,
        cgroup::{Cgroup, Hierarchy},
        command::Running,
        kernel as object_of_product,
    };
    use seccast_rig::cgroup::Scope;
    use std::{collections::BTreeSet, time::Duration};

    /// Sets the globals by their symbols in .rodata.
    fn set_globals(open: &mut libbpf_rs::OpenObject, bytes: &[u8]) {
        let file = object::File::parse(bytes).unwrap();
        let mut rodata = open
            .maps_mut()
            .find(|map| map.name().to_string_lossy().ends_with(".rodata"))
            .unwrap();
        let value = rodata.initial_value_mut().unwrap();
        for (name, number) in object_of_product::globals().unwrap() {
            let symbol = file
                .symbols()
                .find(|symbol| symbol.name() == Ok(name))
                .unwrap();
            let at = usize::try_from(symbol.address()).unwrap();
            value[at..at + 4].copy_from_slice(&number.to_ne_bytes());
        }
    }

    /// The object by libbpf, watching `cgroup` as `record -- CMD` does, with one of the two forms of sys_enter.
    fn load(cgroup: &Cgroup, form: &str) -> (Object, Vec<Link>) {
        let bytes = object_of_product::object();
        assert!(!bytes.is_empty(), "built without the object");
        let mut open = ObjectBuilder::default().open_memory(bytes).unwrap();
        set_globals(&mut open, bytes);
        let object = open.load().unwrap();
        let map = |name: &str| object.maps().find(|map| map.name() == name).unwrap();
        let words = |words: [u32; 2]| words.map(u32::to_ne_bytes).concat();
        map("KEYS")
            .update(&cgroup.id.to_ne_bytes(), &words([0, 0]), MapFlags::ANY)
            .unwrap();
        // The flags come first, and all else is zero.
        let mut slot = [0; size_of::<seccast_common::Slot>()];
        slot[..4].copy_from_slice(&seccast_common::slot_flag::NO_EXEC.to_ne_bytes());
        map("SLOT")
            .update(&0u32.to_ne_bytes(), &slot, MapFlags::ANY)
            .unwrap();
        let wanted: Vec<_> = object_of_product::LIFECYCLE
            .iter()
            .map(|(program, _)| *program)
            .chain([form])
            .collect();
        let links = object
            .progs_mut()
            .filter(|program| wanted.iter().any(|name| program.name() == *name))
            .map(|program| program.attach().unwrap())
            .collect::<Vec<_>>();
        assert_eq!(links.len(), wanted.len());
        (object, links)
    }

    /// Every byte that is set in the blocks of started programs, as names by ABI.
    fn application(object: &Object) -> BTreeSet<(Arch, String)> {
        let blocks = object.maps().find(|map| map.name() == "BLOCKS").unwrap();
        let mut seen = BTreeSet::new();
        for block in phase::START..PHASES {
            let bytes = blocks
                .lookup(&block.to_ne_bytes(), MapFlags::ANY)
                .unwrap()
                .unwrap();
            assert_eq!(bytes.len(), BLOCK);
            for row in 0..ABIS {
                for nr in (0..NUMBERS).filter(|nr| bytes[row * NUMBERS + nr] != 0) {
                    let arch = [Arch::X86_64, Arch::X86, Arch::X32][row];
                    let nr = u32::try_from(nr).unwrap();
                    seen.insert((arch, syscall::name(arch, nr).unwrap().to_owned()));
                }
            }
        }
        seen
    }

    fn by_product(observation: &Observation) -> BTreeSet<(Arch, String)> {
        let app = observation
            .calls
            .iter()
            .filter(|((_, phase), _)| *phase == Phase::App);
        app.flat_map(|((arch, _), calls)| calls.keys().map(|name| (*arch, name.clone())))
            .collect()
    }

    /// Both loaders watch one run of a command; both must have seen the same.
    fn compare(form: &str, command: &[&str]) {
        let Some(_serial) = kernel() else { return };
        let hierarchy = Hierarchy::find().unwrap();
        let scope = Scope::new("libbpf").unwrap();
        let cgroup = hierarchy.create(&scope.child("c")).unwrap();
        let mut recorder = Recorder::start(2).unwrap();
        let command: Vec<_> = command.iter().map(|part| (*part).to_owned()).collect();
        let recording = recorder.watch_command(&cgroup, command.clone()).unwrap();
        let (object, links) = load(&cgroup, form);
        let mut running = Running::start(&command, Some(cgroup), None, None).unwrap();
        for _ in 0..3000 {
            recorder.poll(Duration::from_millis(10)).unwrap();
            if running.ended().unwrap().is_some() {
                break;
            }
        }
        assert_eq!(
            running.leave(&hierarchy),
            [""; 0],
            "{command:?} left processes"
        );
        let observation = recorder.observe(&recording).unwrap();
        let product = by_product(&observation);
        let libbpf = application(&object);
        drop(links);
        println!(
            "{form}, {command:?}: {} calls by both loaders",
            product.len()
        );
        assert!(
            product.len() > 20 && observation.losses.is_empty(),
            "{:?}",
            observation.losses
        );
        assert_eq!(libbpf, product);
    }

    #[test]
    fn libbpf_records_what_aya_records() {
        compare(
            "sys_enter",
            &[
                "find",
                "/etc",
                "-name",
                "host*",
                "-newer",
                "/etc/passwd",
                "-exec",
                "sort",
                "{}",
                ";",
            ],
        );
    }

    /// The form for kernels without BTF tasks sees the same, too.
    #[test]
    fn the_form_without_a_cache_records_the_same() {
        compare(
            "sys_enter_raw",
            &[
                "sh",
                "-c",
                "for f in /etc/*; do wc -c $f; done 2>&1 | sort | head -3",
            ],
        );
    }
}
