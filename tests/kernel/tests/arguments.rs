//! The values of scalar arguments: distinct, masked, capped.

#![allow(clippy::unwrap_used, reason = "helpers of tests are tests")]

mod root {
    use seccast_kernel::{Record, kernel};
    use seccast_model::{
        arch::Arch,
        observation::{Arguments, Observation, Phase},
    };
    use std::{path::Path, time::Duration};

    fn arguments<'a>(observation: &'a Observation, name: &str) -> &'a Arguments {
        let app = &observation.calls[&(Arch::X86_64, Phase::App)];
        app[name].arguments.as_ref().unwrap()
    }

    #[test]
    fn values_are_exact_up_to_the_cap_and_an_overflow_is_said() {
        let Some(_serial) = kernel() else { return };
        // UNIX and INET, each stream and datagram, with SOCK_CLOEXEC (by perl) or without; 40 fcntl commands.
        let script = "for my $f (1, 2) { for my $t (1, 2) { socket(my $s, $f, $t, 0) or die } } fcntl(STDIN, $_, 0) for 1000 .. 1039";
        let recorded = Record::program(Path::new("/usr/bin/perl"), ["-e", script])
            .run(Duration::from_secs(60));
        let observation = recorded.complete();
        let socket = arguments(observation, "socket");
        assert_eq!(socket.indices, [0, 1]);
        let expected = [vec![1, 1], vec![1, 2], vec![2, 1], vec![2, 2]];
        assert_eq!(
            socket.values,
            expected.into(),
            "the type is masked: no SOCK_CLOEXEC"
        );
        assert!(!socket.overflow);
        let fcntl = arguments(observation, "fcntl");
        assert_eq!((fcntl.values.len(), fcntl.overflow), (32, true));
        assert!(
            observation.calls[&(Arch::X86_64, Phase::App)]["read"]
                .arguments
                .is_none()
        );
    }
}
